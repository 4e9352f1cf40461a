#!/usr/bin/env bash
# Workers that are absent, foreign, silent, frozen, killed or full: one sentence with the address,
# code 1, nothing left running, and the next honest request succeeds.
# test-options: timeout=240
. tests/cli/lib.sh

model=$models/llama-dense.gguf
start_worker -t 1
honest_address=$address
tiny -n 8 --json
want=$(json 'd["ids"]')
honest() {
    tiny -n 8 --json --rpc "$honest_address"
    equal "$(json 'd["ids"]')" "$want" "ids of an honest request after: $1"
}
broken() { # PATTERN ARGUMENT...
    local pattern=$1
    shift
    expect 1 run -m "$model" -p 'The cat and the dog' --temp 0 -n 8 --no-perf "$@"
    out_is_empty
    says "$pattern"
}

# ended N: has the last worker seen the end of N clients that loaded a model?
ended() { [ "$(grep -c 'graphs' "$SHOAL_TMP/worker.$((${#workers[@]} - 1))")" -ge "$1" ]; }

# ---- absent: a port that was free a moment ago
start_worker
stop_worker "$pid"
broken "$address.*refused" --rpc "$address"
broken "$address.*refused" --rpc "$honest_address,$address"
broken 'no\.such\.host\.invalid' --rpc no.such.host.invalid:50052
broken '"99999" is no port|99999' --rpc 127.0.0.1:99999
honest 'absent workers'

# ---- something that is no worker
for mode in garbage closes major; do
    start_peer "$mode"
    broken "$address" --rpc "$address" --step-timeout 20
    broken "$address" --rpc "$honest_address,$address" --step-timeout 20
    honest "$mode"
done
start_peer major
broken 'version 9|major 9|9\.0' --rpc "$address"

# ---- something that answers nothing: the time limit ends it, or Ctrl-C
start_peer silent
broken "$address" --rpc "$address" --step-timeout 0.5
start_peer silent
"$SHOAL" run -m "$model" -p a -n 2 --rpc "$address" > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" < /dev/null &
pid=$!
read -r _ <&8 # it is connected
kill -INT "$pid"
code=0
wait "$pid" || code=$?
equal "$code" 130 'exit code after Ctrl-C beside a silent peer'
honest 'a silent peer'

# ---- frozen and killed while a text comes
# begin: a long text over $honest_address and a worker of its own, $victim.
begin() {
    start_worker -t 1
    victim=$pid
    begin_text -m "$model" -p 'The cat and the dog' --rpc "$honest_address,$address" "$@"
}
end() { # PATTERN
    finish_text
    equal "$code" 1 'exit code'
    says "$1"
}

begin
kill -KILL "$victim"
wait "$victim" 2> /dev/null || true
end "$address"
honest 'a worker that was killed'

begin --step-timeout 1
kill -STOP "$victim"
end "$address"
kill -CONT "$victim"
honest 'a worker that was frozen'
tiny -n 8 --json --rpc "$address" # and it serves again
equal "$(json 'd["ids"]')" "$want" 'ids from a worker that was frozen'
stop_worker "$victim"

# Ctrl-C does not wait for a frozen worker either.
begin
kill -STOP "$victim"
kill -INT "$run"
finish_text
equal "$code" 130 'exit code after Ctrl-C beside a frozen worker'
kill -CONT "$victim"
tiny -n 8 --json --rpc "$address"
equal "$(json 'd["ids"]')" "$want" 'ids from a worker that was frozen'
stop_worker "$victim"

# ---- frozen before the first word
start_worker -t 1
kill -STOP "$pid"
broken "$address" --rpc "$address" --step-timeout 0.5
kill -CONT "$pid"
tiny -n 8 --json --rpc "$address"
stop_worker "$pid"

# ---- a client that dies leaves nothing behind
# The cache of one client takes 38 MB here, so what two leave behind would not let a third in.
start_worker -t 1 --memory 110M
little=$pid
for _ in 1 2 3; do
    : > "$SHOAL_TMP/err"
    "$SHOAL" run -m "$model" -p 'The cat and the dog' --temp 0 -n 90000 -c 100000 --rpc "$address" \
        > /dev/null 2>> "$SHOAL_TMP/err" < /dev/null &
    pid=$!
    wait_until grep -Eq 'loaded in|plan: ' "$SHOAL_TMP/err"
    grep -q 'loaded in' "$SHOAL_TMP/err" || fail 'a client that died left its memory behind'
    kill -KILL "$pid"
    wait "$pid" 2> /dev/null || true
    sessions=$((${sessions:-0} + 1))
    wait_until ended "$sessions"
done
tiny -n 8 -c 100000 --json --rpc "$address"
equal "$(json 'd["ids"]')" "$want" 'ids after three clients that died'
stop_worker "$little"

# ---- no memory there: need and free are named
start_worker -t 1 --memory 100K
broken "needs [0-9.]+ .*[0-9.]+ .* free .*$address" --rpc "$address"
broken "$address.*(need|free)|needs .* free" --rpc "$honest_address,$address" --layers 0,2
out_is_empty
stop_worker "$pid"
honest 'no memory'
