# Helpers of the command-line tests; sourced by them.  Results of the last program: $SHOAL_TMP/out,
# $SHOAL_TMP/err and $code.
# shellcheck shell=bash
set -euo pipefail

models=tests/data/models
cli=tests/cli
limit=60 # seconds that one program may take
[ "$SHOAL_CFG" = release ] || limit=200
workers=()
peers=()
run=
export XDG_CONFIG_HOME=$SHOAL_TMP/config # of keys: not the user's

end_workers() {
    local pid
    for pid in "${workers[@]}"; do
        kill -CONT "$pid" 2> /dev/null || true
        kill -KILL "$pid" 2> /dev/null || true
    done
    for pid in "${peers[@]}"; do kill "$pid" 2> /dev/null || true; done
    [ -z "$run" ] || kill -KILL "$run" 2> /dev/null || true
    wait 2> /dev/null
}
trap end_workers EXIT

fail() {
    echo "FAILED: $*"
    for f in out err; do
        echo "--- std$f:"
        head -c 2000 "$SHOAL_TMP/$f" 2> /dev/null || true
    done
    exit 1
}

# expect CODE ARGUMENT...: run shoal, which must end with that code.
expect() {
    local want=$1
    shift
    code=0
    timeout -k 5 "$limit" "$SHOAL" "$@" > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" < /dev/null || code=$?
    [ "$code" -eq "$want" ] || fail "exit code $code, not $want: shoal $*"
}

# The messages on stderr are exactly one line, and it matches; plans, seeds, progress and notes
# aside.
says() {
    local lines
    lines=$(grep '^shoal: ' "$SHOAL_TMP/err" | grep -Ev '^shoal: (seed |loading: |prompt: |run: note|note: |.*, context [0-9]+, loaded)' || true)
    [ "$(grep -c '' <<< "$lines")" -eq 1 ] || fail "not one message but: $lines"
    grep -Eq -- "$1" <<< "$lines" || fail "the message does not match /$1/: $lines"
}
out_has() { grep -Eq -- "$1" "$SHOAL_TMP/out" || fail "stdout does not match /$1/"; }
err_has() { grep -Eq -- "$1" "$SHOAL_TMP/err" || fail "stderr does not match /$1/"; }
out_is_empty() { [ ! -s "$SHOAL_TMP/out" ] || fail 'stdout is not empty'; }
equal() { [ "$1" = "$2" ] || fail "${3:-values}: \"$1\" is not \"$2\""; }

# json EXPRESSION: print a Python expression over d, the JSON object on the last stdout.
json() {
    python3 -c '
import json, sys
d = json.load(open(sys.argv[1], encoding="utf-8"))
print(eval(sys.argv[2]))' "$SHOAL_TMP/out" "$1" || fail "JSON: $1"
}

# shellcheck disable=SC2034 # $address and $second are for the tests
# start_worker [ARGUMENT...]: sets $line and $second, the two that it prints at once, $address, the
# end of the first, and $pid; its stderr goes to $SHOAL_TMP/worker.N.
start_worker() {
    local ready=$SHOAL_TMP/ready
    rm -f "$ready"
    mkfifo "$ready"
    "$SHOAL" worker --listen 127.0.0.1:0 "$@" > "$ready" 2> "$SHOAL_TMP/worker.${#workers[@]}" < /dev/null &
    pid=$!
    workers+=("$pid")
    { read -r line && read -r second; } < "$ready" \
        || fail "worker $* was not ready: $(cat "$SHOAL_TMP"/worker.*)"
    address=${line##* }
}
# stop_worker PID: it must end with code 0.
stop_worker() {
    local got=0
    kill -TERM "$1"
    wait "$1" || got=$?
    [ "$got" -eq 0 ] || fail "a worker ended with code $got: $(cat "$SHOAL_TMP"/worker.*)"
}

# shellcheck disable=SC2034 # $address is for the tests
# start_peer MODE: something that is no worker; sets $address, its lines can be read from fd 8.
start_peer() {
    local lines=$SHOAL_TMP/peer port
    rm -f "$lines"
    mkfifo "$lines"
    python3 "$cli/peer.py" "$1" > "$lines" < /dev/null &
    peers+=($!)
    exec 8< "$lines"
    read -r port <&8
    address=127.0.0.1:$port
}

# shellcheck disable=SC2034 # $run is for the tests
# begin_text ARGUMENT...: `shoal run` of a long text into a pipe of one page, which nobody reads: it
# is somewhere in the middle when this returns.  Sets $run; its stderr goes to $SHOAL_TMP/text.err.
begin_text() {
    local pipe=$SHOAL_TMP/text
    rm -f "$pipe"
    mkfifo "$pipe"
    python3 "$cli/one_page.py" "$pipe" "$SHOAL_TMP/text.err" "$SHOAL" run --temp 0 -n 20000 -c 30000 \
        --no-perf "$@" &
    run=$!
    exec 9< "$pipe"
    read -r -n 1 _ <&9 || fail 'no text came'
}
# finish_text: reads the rest; sets $code, and what it said on stderr is in $SHOAL_TMP/err.
finish_text() {
    timeout "$limit" cat <&9 > "$SHOAL_TMP/out" || fail 'the run does not end'
    code=0
    wait "$run" || code=$?
    run=
    exec 9<&-
    # Not what the test is about: the context is longer than what the model was trained for.
    grep -v 'trained for' "$SHOAL_TMP/text.err" > "$SHOAL_TMP/err" || true
}

# wait_until CONDITION...: polls, up to the limit.
wait_until() {
    local i
    for ((i = 0; i < limit * 20; i++)); do
        if "$@"; then return; fi
        sleep 0.05
    done
    fail "never came true: $*"
}

# The prompt that most tests use, and how.
tiny() { expect 0 run -m "$models/llama-dense.gguf" -p 'The cat and the dog' --temp 0 "$@"; }
