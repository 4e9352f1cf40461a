#!/usr/bin/env bash
# A cable is pulled: the run ends with one sentence that names the worker, not with a hang; when the
# cable is back, so is everything else.
# test-options: timeout=240
. tests/hosts/lib.sh --hosts 3 --rtt 400us --rate 100mbit

model=$models/llama-dense.gguf
args=(-m "$model" -p 'The cat and the dog' --temp 0)
start_worker_on h2 --listen 10.77.0.2:0 --insecure -t 1
first=$address
start_worker_on h3 --listen 10.77.0.3:0 --insecure -t 1
second=$address
expect 0 run "${args[@]}" -n 8 --json
want=$(json 'd["ids"]')
honest() {
    expect 0 run "${args[@]}" -n 8 --json --rpc "$first,$second"
    equal "$(json 'd["ids"]')" "$want" "ids $1"
}
honest 'before anything happened'

# ---- before the run: nobody answers
"$lan" cut h3
expect 1 run "${args[@]}" -n 8 --no-perf --rpc "$first,$second"
out_is_empty
says "$second"
"$lan" join h3
honest 'after a cable that was out at the beginning'

# ---- while weights are on their way: the cable carries 186 MB in a quarter of a minute
"${SHOAL%/*}/tool/bigmodel" "$SHOAL_TMP/big.gguf" 1
carried() { [ "$("$lan" counts | awk '{ print int($3 / 1000000) }')" -ge "$1" ]; }
timeout -k 5 "$limit" "$SHOAL" run -m "$SHOAL_TMP/big.gguf" -p w300 -n 1 --temp 0 --rpc "$second" \
    --step-timeout 2 > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" < /dev/null &
run=$!
wait_until carried 10
"$lan" cut h3
code=0
wait "$run" || code=$?
equal "$code" 1 'exit code'
out_is_empty
says "$second"
if grep -q 'loading: 100 %' "$SHOAL_TMP/err"; then fail 'it tells of all weights'; fi
rm "$SHOAL_TMP/big.gguf"
"$lan" join h3
honest 'after a cable that was pulled while loading'

# ---- in the middle of a text
begin_text "${args[@]}" --rpc "$first,$second" --step-timeout 2
"$lan" cut h3
finish_text
equal "$code" 1 'exit code'
says "$second"

# ---- the other worker serves on meanwhile, and both do afterwards
expect 0 run "${args[@]}" -n 8 --json --rpc "$first"
equal "$(json 'd["ids"]')" "$want" 'ids of the worker that is still there'
"$lan" join h3
honest 'after a cable that was out for a while'

# The worker behind the cable has noticed by then or soon does: what the lost run had is free.
ended() { [ "$(grep -c 'graphs' "$SHOAL_TMP/worker.1")" -ge "$1" ]; }
wait_until ended 6
for worker in "${workers[@]}"; do stop_worker "$worker"; done
