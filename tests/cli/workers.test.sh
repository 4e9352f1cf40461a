#!/usr/bin/env bash
# shoal run --workers: the same tokens and logits whatever the split, and one sentence, code 1 and
# nobody harmed where a worker is absent, foreign, of another key, frozen or killed.
# test-options: timeout=300
. tests/cli/lib.sh

model=$models/llama-dense.gguf
start_worker -t 1
a=$address
start_worker -t 1 --lease 1
b=$address
b_log=$SHOAL_TMP/worker.1
tiny -n 8 --json
want=$(json 'd["ids"]')
honest() {
    tiny -n 8 --json --workers "$a,$b" --layers 1,1
    equal "$(json 'd["ids"]')" "$want" "ids of an honest request after: $1"
}
broken() { # PATTERN ARGUMENT...
    local pattern=$1
    shift
    expect 1 run -m "$model" -p 'The cat and the dog' --temp 0 -n 8 --no-perf "$@"
    out_is_empty
    says "$pattern"
}
ended() { [ "$(grep -c 'session ended' "$b_log")" -ge "$1" ]; }

# ---- the same bits
tiny -n 1 --logits-out "$SHOAL_TMP/alone.f32"
for split in "--workers $a" "--workers $a,$b --layers 1,1" "--workers $b,$a --layers 1,1 --relay" \
    "--workers $a --rpc $b --layers 1,1" "--workers $b --with-local --layers 1,1" \
    "--rpc $a --with-local --layers 2,0"; do
    # shellcheck disable=SC2086 # words
    tiny -n 8 --json --logits-out "$SHOAL_TMP/split.f32" $split
    equal "$(json 'd["ids"]')" "$want" "ids with $split"
    cmp "$SHOAL_TMP/alone.f32" "$SHOAL_TMP/split.f32" || fail "logits with $split"
done
tiny -n 8 --json --workers "$a,$b" --layers 1,1
equal "$(json '[p["device"] for p in d["plan"]]')" "['worker $a', 'worker $b']" 'devices'
equal "$(json 'd["plan"][0]["sent_bytes"] > 1e5 and d["plan"][0]["found_bytes"] == 0')" True 'sent'
equal "$(json 'd["plan"][0]["direct"] and not d["plan"][0]["encrypted"]')" True 'a link'
equal "$(json '[n["address"] for n in d["network"]]')" "['$a', '$b']" 'network'
tiny -n 3 --workers "$a,$b" --layers 1,1 --relay
err_has "hidden states from worker $a to worker $b pass through this machine: "

# Less on the wire is another text now and then, but a text.
for wire in f16 q8; do
    tiny -n 8 --json --workers "$a,$b" --layers 1,1 --wire "$wire"
    equal "$(json 'len(d["ids"])')" 8 "$wire"
done

# ---- weights that are there already do not cross the network
start_worker -t 1 --models "$models"
tiny -n 8 --json --workers "$address"
equal "$(json 'd["ids"]')" "$want" 'ids with weights of the worker'
equal "$(json 'd["plan"][0]["sent_bytes"]')" 0 'bytes sent'
equal "$(json 'd["network"][0]["bytes_sent"] < 50000')" True 'bytes in all'
stop_worker "$pid"

# ---- wrong usage
expect 2 run -m "$model" -p a --key SHOAL1-x
says -- '--workers'
expect 2 run -m "$model" -p a --workers "$a,$b" --layers 2
says '1 numbers? for 2 machines'
broken 'SHOAL1|key' --workers "$a" --key SHOAL1-AAAA

# ---- nobody there, or something else
start_worker
stop_worker "$pid"
broken "no worker listens at $address: start one" --workers "$address"
broken "no worker listens at $address: start one" --workers "$a,$address"
broken 'no\.such\.host\.invalid' --workers no.such.host.invalid
for mode in garbage closes; do
    start_peer "$mode"
    broken "$address" --workers "$address"
    broken "$address" --workers "$a,$address"
done
start_peer llama
broken "$address speaks llama\.cpp's RPC protocol, not shoal's: give it with --rpc $address" --workers "$address"
honest 'peers that are no workers'

# ---- keys
# Beyond loopback nothing is said without one, unless that is asked for.
mkfifo "$SHOAL_TMP/open"
"$SHOAL" worker --listen 0.0.0.0:0 -t 1 --insecure > "$SHOAL_TMP/open" 2> "$SHOAL_TMP/worker.open" &
workers+=($!)
read -r ready < "$SHOAL_TMP/open"
if [[ "${ready##* }" != 127.* ]]; then
    broken "worker ${ready##* } needs a key: there, .*--pair NAME.*; here, .*shoal key add ${ready##* }" \
        --workers "${ready##* }"
    tiny -n 8 --json --workers "${ready##* }" --insecure
    equal "$(json 'd["ids"]')" "$want" 'ids without a key'
fi
stop_worker "$!"

start_worker -t 1 --keys "$SHOAL_TMP/keys" --pair laptop
address=$(grep -Eo 'listening on [0-9.]+:[0-9]+' "$SHOAL_TMP/worker.$((${#workers[@]} - 1))" | cut -d ' ' -f 3)
key=$(grep -rho 'SHOAL1-[A-Z2-7-]*' "$SHOAL_TMP/keys" | head -n 1)
broken "$address ended the connection without a greeting.*shoal key add $address" --workers "$address"
expect 0 key make another
other=$(grep -Eo 'SHOAL1-[A-Z2-7-]*' "$SHOAL_TMP/out" | head -n 1)
broken "$address.*does not accept this key" --workers "$address" --key "$other"
tiny -n 8 --json --workers "$address" --key "$key" --logits-out "$SHOAL_TMP/split.f32"
equal "$(json 'd["ids"]')" "$want" 'ids over TLS'
cmp "$SHOAL_TMP/alone.f32" "$SHOAL_TMP/split.f32" || fail 'logits over TLS'
equal "$(json 'd["plan"][0]["encrypted"]')" True 'TLS'
tiny -n 8 --json --workers "$address" # it was kept
equal "$(json 'd["plan"][0]["encrypted"]')" True 'TLS with a key that is kept'
stop_worker "$pid"

# ---- killed while a text comes
start_worker -t 1
victim=$pid
begin_text -m "$model" -p 'The cat and the dog' --workers "$a,$address" --layers 1,1
kill -KILL "$victim"
wait "$victim" 2> /dev/null || true
finish_text
equal "$code" 1 'exit code beside a worker that was killed'
says "worker $address.*stage 1, step [0-9]+"
honest 'a worker that was killed'

# ---- Ctrl-C while a text comes: the session is closed, not lost
: > "$b_log"
begin_text -m "$model" -p 'The cat and the dog' --workers "$a,$b" --layers 1,1
kill -INT "$run"
finish_text
equal "$code" 130 'exit code after Ctrl-C'
wait_until ended 1
grep -q 'session ended: closed by the client' "$b_log" || fail "the session was lost: $(cat "$b_log")"

# ---- Ctrl-C while weights are on their way to one of two workers: both are free at once
: > "$b_log"
way=$SHOAL_TMP/way
mkfifo "$way"
python3 tests/cli/narrow.py "${b##*:}" 60000 > "$way" < /dev/null &
peers+=($!)
exec 8< "$way"
read -r port <&8
"$SHOAL" run -m "$model" -p a -n 1 --workers "$a,127.0.0.1:$port" --layers 1,1 > "$SHOAL_TMP/out" \
    2> "$SHOAL_TMP/err" < /dev/null &
run=$!
read -r word <&8
equal "$word" full 'the word of the narrow way'
kill -INT "$run"
code=0
wait "$run" || code=$?
equal "$code" 130 'exit code after Ctrl-C while weights are sent'
wait_until ended 1
grep -q 'session ended: closed by the client' "$b_log" || fail "the session was lost: $(cat "$b_log")"
honest 'an interrupted start'

# ---- a host that is killed: all memory is free again after the lease
: > "$b_log"
begin_text -m "$model" -p 'The cat and the dog' --workers "$a,$b" --layers 1,1
kill -KILL "$run"
finish_text
wait_until ended 1
honest 'a host that was killed'

# ---- frozen: Ctrl-C does not wait for it
start_worker -t 1
victim=$pid
begin_text -m "$model" -p 'The cat and the dog' --workers "$a,$address" --layers 1,1
kill -STOP "$victim"
kill -INT "$run"
finish_text
equal "$code" 130 'exit code after Ctrl-C beside a frozen worker'
kill -CONT "$victim"
tiny -n 8 --json --workers "$address"
equal "$(json 'd["ids"]')" "$want" 'ids from a worker that was frozen'
stop_worker "$victim"

# ---- no memory there: need and free are named, and nothing was sent to anybody
start_worker -t 1 --memory 100K
broken "worker $address.*needs [0-9.]+ .*[0-9.]+ .* free" --workers "$address" --layers 2
broken "worker $address.*needs [0-9.]+ .*[0-9.]+ .* free" --workers "$a,$address" --layers 1,1
stop_worker "$pid"
honest 'no memory'
