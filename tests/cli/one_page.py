"""one_page.py PIPE ERRORS COMMAND...: run a command with stdout in a pipe of one page.

A text that is longer stops in the middle while its reader waits.
"""
import fcntl
import os
import sys

F_SETPIPE_SZ = 1031

out = os.open(sys.argv[1], os.O_WRONLY)
fcntl.fcntl(out, F_SETPIPE_SZ, 4096)
os.dup2(out, 1)
os.dup2(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
os.execv(sys.argv[3], sys.argv[3:])
