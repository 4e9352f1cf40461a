#!/usr/bin/env bash
# A worker that is told to end while it has clients: what is under way is answered or cut, each
# session leaves its line, the exit code is 0, and the client's sentence names the worker.
# test-options: timeout=240
. tests/cli/lib.sh

model=$models/llama-dense.gguf
session='[0-9.:]+: session ended: the server shuts down .*in .*graphs '
worker_log() { echo "$SHOAL_TMP/worker.$((${#workers[@]} - 1))"; }
has() { grep -Eq -- "$1" "$(worker_log)" || fail "no line with /$1/: $(cat "$(worker_log)")"; }

# ---- a client in the middle of a text
for signal in TERM INT HUP; do
    start_worker -t 1
    worker=$pid
    rm -f "$SHOAL_TMP/text"
    mkfifo "$SHOAL_TMP/text"
    "$SHOAL" run -m "$model" -p 'The cat and the dog' --temp 0 -n 90000 -c 100000 --rpc "$address" > "$SHOAL_TMP/text" \
        2> "$SHOAL_TMP/err" < /dev/null &
    run=$!
    peers+=("$run")
    exec 7< "$SHOAL_TMP/text"
    head -c 20 <&7 > /dev/null # it writes
    cat <&7 > /dev/null &
    kill "-$signal" "$worker"
    code=0
    wait "$worker" || code=$?
    equal "$code" 0 "exit code of a worker after SIG$signal"
    code=0
    wait "$run" || code=$?
    exec 7<&-
    equal "$code" 1 'exit code of the client'
    says "$address"
    has "$session +[1-9]"
    has 'worker: stopped'
done

# ---- clients that wait for nothing, and one whose graph takes longer than a worker waits
start_worker -t 1
worker=$pid
exec 6<> "/dev/tcp/127.0.0.1/${address##*:}"
printf '\016\030\0\0\0\0\0\0\0%s' "$(printf '%024d' 0)" >&6 # a greeting
python3 "$cli/endless.py" "$address" > "$SHOAL_TMP/endless" &
peers+=($!)
wait_until grep -q 'running' "$SHOAL_TMP/endless"
kill -TERM "$worker"
code=0
wait "$worker" || code=$?
equal "$code" 0 'exit code of a worker with an endless graph'
wait_until grep -q 'closed' "$SHOAL_TMP/endless"
exec 6>&-
equal "$(grep -Ec 'info .*session ended: .*the server shuts down ' "$(worker_log)")" 2 sessions
has 'session ended: .*graphs +1  '

# ---- the second signal does not wait
start_worker -t 1
worker=$pid
python3 "$cli/endless.py" "$address" > "$SHOAL_TMP/endless" &
peers+=($!)
wait_until grep -q 'running' "$SHOAL_TMP/endless"
kill -TERM "$worker"
kill -INT "$worker"
code=0
wait "$worker" || code=$?
equal "$code" 130 'exit code after two signals'
