#!/usr/bin/env bash
# Where results cannot go, and Ctrl-C.
. tests/cli/lib.sh

run() {
    code=0
    timeout "$limit" "$SHOAL" run -m "$models/llama-dense.gguf" -p 'The cat and the dog' --temp 0 \
        --no-perf "$@" 2> "$SHOAL_TMP/err" || code=$?
}
full() { # a disk without room
    equal "$code" 1 'exit code on a full disk'
    says "$1.*No space left on device"
}
run -n 30 > /dev/full
full '^shoal: stdout: '
run -n 30 --json > /dev/full
full '^shoal: stdout: '
head -c 3000 LICENSE > "$SHOAL_TMP/text"
code=0
"$SHOAL" run -m "$models/llama-dense.gguf" --perplexity "$SHOAL_TMP/text" -c 64 --chunks 1 \
    > /dev/full 2> "$SHOAL_TMP/err" || code=$?
full '^shoal: stdout: '
code=0
"$SHOAL" run --help > /dev/full 2> "$SHOAL_TMP/err" || code=$?
full '^shoal: stdout: '
run -n 3 --logits-out /dev/full > "$SHOAL_TMP/out"
full '^shoal: /dev/full: '
run -n 3 --logits-out "$SHOAL_TMP/no/such/folder" > "$SHOAL_TMP/out"
equal "$code" 1 'exit code without a folder for the logits'
says 'no/such/folder: cannot write'

# A closed stdout is no pipe and no file.
run -n 3 >&-
equal "$code" 1 'exit code with stdout closed'
says '^shoal: stdout: '
run -n 3 > "$SHOAL_TMP/out" < /dev/null 2>&-
equal "$code" 0 'exit code with stderr closed'

# A reader that leaves ends the program without a word.
{ run -n 5000 -c 6000; echo "$code" > "$SHOAL_TMP/code"; } | head -c 3 > "$SHOAL_TMP/out"
equal "$(cat "$SHOAL_TMP/code")" 1 'exit code when the reader leaves'
grep -v 'more than the .* trained for' "$SHOAL_TMP/err" > "$SHOAL_TMP/rest" || true
[ ! -s "$SHOAL_TMP/rest" ] || fail 'a message about a reader that left'

# Ctrl-C in the middle of a text; then while a pipe is full; both end it in order.
python3 - "$SHOAL" "$models/llama-dense.gguf" << 'EOF' || fail 'Ctrl-C'
import fcntl, os, select, signal, subprocess, sys

def start(size):
    read, write = os.pipe()
    fcntl.fcntl(read, 1031, 4096)  # F_SETPIPE_SZ
    # This text goes on until the context is full.
    p = subprocess.Popen([sys.argv[1], 'run', '-m', sys.argv[2], '-p', 'The cat and the dog',
                          '--temp', '0', '-c', str(size), '--no-perf'],
                         stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    return p, read

def finish(p, read, what, signals):
    for s in signals:
        p.send_signal(s)
    # What is still in the pipe is left there.
    err = p.communicate(timeout=100)[1].decode()
    os.close(read)
    lines = [l for l in err.splitlines() if 'seed' not in l and 'trained for' not in l]
    if p.returncode != 130 or lines not in (['shoal: interrupted'], []):
        sys.exit('%s: code %s, stderr %r' % (what, p.returncode, err))
    if signals == [signal.SIGINT] and not lines:
        sys.exit('%s: nothing said' % what)

p, read = start(200000)
os.read(read, 1)
finish(p, read, 'after the first byte', [signal.SIGINT])

p, read = start(200000)
while p.poll() is None:
    buffered = bytearray(4)
    fcntl.ioctl(read, 0x541B, buffered)  # FIONREAD
    if int.from_bytes(buffered, sys.byteorder) > 0:
        break  # a pipe of one page is full with that
    select.select([], [], [], 0.01)
finish(p, read, 'with a full pipe', [signal.SIGINT])

p, read = start(200000)
os.read(read, 1)
finish(p, read, 'SIGTERM', [signal.SIGTERM])
p, read = start(200000)
os.read(read, 1)
finish(p, read, 'twice', [signal.SIGINT, signal.SIGINT])
EOF
tiny -n 2 --json
