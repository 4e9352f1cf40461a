#!/usr/bin/env bash
# A model file that loses its tail while a text is being written: one sentence, code 1, no SIGBUS.
. tests/cli/lib.sh

for shape in alone worker; do
    copy=$SHOAL_TMP/shrinks.gguf
    pipe=$SHOAL_TMP/text
    cp "$models/llama-dense.gguf" "$copy"
    rm -f "$pipe"
    mkfifo "$pipe"
    where=()
    if [ "$shape" = worker ]; then
        start_worker -t 1
        where=(--rpc "$address" --with-local --layers 1,1)
    fi
    # The pipe is one page, so the program is somewhere in the text while its reader waits.
    python3 - "$pipe" "$SHOAL_TMP/err" "$SHOAL" run -m "$copy" -p 'The cat and the dog' --temp 0 \
        -n 20000 -c 30000 --no-perf "${where[@]}" << 'EOF' &
import fcntl, os, sys
out = os.open(sys.argv[1], os.O_WRONLY)
fcntl.fcntl(out, 1031, 4096)  # F_SETPIPE_SZ
os.dup2(out, 1)
os.dup2(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
os.execv(sys.argv[3], sys.argv[3:])
EOF
    run=$!
    exec 9< "$pipe"
    read -r -n 1 _ <&9 || fail 'no text came'
    truncate -s 40000 "$copy"
    timeout "$limit" cat <&9 > "$SHOAL_TMP/out" || fail 'the run does not end'
    code=0
    wait "$run" || code=$?
    exec 9<&-
    equal "$code" 1 "exit code ($shape)"
    grep -v 'trained for' "$SHOAL_TMP/err" > "$SHOAL_TMP/rest" && mv "$SHOAL_TMP/rest" "$SHOAL_TMP/err"
    says 'shrinks\.gguf: the file shrank'
done
tiny -n 2 --json
