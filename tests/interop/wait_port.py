#!/usr/bin/env python3
"""Wait until process PID listens on 127.0.0.1:PORT.

    wait_port.py PORT PID

Exit code 1 if the process has ended instead, or after a minute.  It looks at the system's table of
sockets and does not connect, because a server may serve one client at a time.
"""
import os
import sys
import time

LISTEN = '0A'


def listening(port):
    """Inodes of the sockets that listen there."""
    inodes = set()
    with open('/proc/net/tcp', encoding='ascii') as f:
        next(f)
        for line in f:
            words = line.split()
            if words[3] == LISTEN and int(words[1].rpartition(':')[2], 16) == port:
                inodes.add('socket:[%s]' % words[9])
    return inodes


def sockets_of(pid):
    folder = '/proc/%d/fd' % pid
    found = set()
    for name in os.listdir(folder):
        try:
            found.add(os.readlink(os.path.join(folder, name)))
        except OSError:
            pass
    return found


def main():
    port, pid = int(sys.argv[1]), int(sys.argv[2])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if sockets_of(pid) & listening(port):
                return 0
            with open('/proc/%d/stat' % pid, encoding='ascii', errors='replace') as f:
                if f.read().rpartition(')')[2].split()[0] in 'ZX':
                    return 1
        except FileNotFoundError:
            return 1
        time.sleep(0.02)
    return 1


sys.exit(main())
