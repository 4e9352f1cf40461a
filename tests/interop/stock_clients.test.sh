#!/usr/bin/env bash
# Several stock clients at once on one worker: each writes its right text; one that is killed in the
# middle hurts nobody, and those that come later are served.
# test-options: timeout=300
. tests/interop/lib.sh
build_peer_program stock_client.c

model=$models/llama-dense.gguf
ids=$(python3 -c "print(','.join(str(3 + i * 7 % 90) for i in range(40)))")
n=1000 # tokens, so that all are under way together
exact=(--fa 0 --k f32 --v f32 -c 2048)
client "$SHOAL_TMP/local" text -m "$model" --ids "$ids" -n $n "${exact[@]}" -t 1

start_worker -t 1
a=$address
begun=()
begin() { # NAME N: in the background, with a trailing line of its exit code
    (
        got=0
        timeout -k 5 "$limit" "$SHOAL_TMP/stock_client" text -m "$model" --ids "$ids" -n "$2" \
            "${exact[@]}" --rpc "$a" > "$SHOAL_TMP/text.$1" 2> "$SHOAL_TMP/err.$1" < /dev/null || got=$?
        echo "$got" > "$SHOAL_TMP/code.$1"
    ) &
    begun+=($!)
}
has_lines() { [ -f "$1" ] && [ "$(grep -c '' "$1")" -ge "$2" ]; }

# The victim goes on for as long as it may; the others begin while it writes.
"$SHOAL_TMP/stock_client" text -m "$model" --ids "$ids" -n 100000 -c 200000 --rpc "$a" \
    > "$SHOAL_TMP/text.victim" 2> "$SHOAL_TMP/err.victim" < /dev/null &
victim=$!
peers+=("$victim")
wait_until has_lines "$SHOAL_TMP/text.victim" 20
for i in 1 2 3; do begin $i $n; done
for i in 1 2 3; do wait_until has_lines "$SHOAL_TMP/text.$i" 5; done
kill -0 "$victim" 2> /dev/null || fail "the victim ended by itself: $(tail -n 3 "$SHOAL_TMP/err.victim")"
kill -KILL "$victim"
wait "$victim" 2> /dev/null || true
begin 4 $n # comes after it
for pid in "${begun[@]}"; do wait "$pid"; done
for i in 1 2 3 4; do
    equal "$(cat "$SHOAL_TMP/code.$i")" 0 "exit code of client $i"
    same_text "$SHOAL_TMP/local" "$SHOAL_TMP/text.$i" $n "client $i" 0.001
done
stop_worker "${workers[0]}"
