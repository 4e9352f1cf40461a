#!/usr/bin/env bash
# Which weights shoal run --workers sends: all once, none that the worker has in files of any name,
# and after a host that was killed only the rest.
# test-options: timeout=240
. tests/cli/lib.sh

model=$models/llama-dense.gguf
own=$SHOAL_TMP/own
export XDG_CACHE_HOME=$SHOAL_TMP/cache

# ask ADDRESSES [ARGUMENT...]: a run over these workers.
ask() { expect 0 run -m "$model" -p 'The cat and the dog' --temp 0 -n 8 -c 128 --json --workers "$@"; }
sum() { json "sum(p['$1'] for p in d['plan'])"; }
log() { cat "$SHOAL_TMP/worker.$1"; }

expect 0 run -m "$model" -p 'The cat and the dog' --temp 0 -n 8 -c 128 --json
text=$(json 'd["ids"]')

# ---- nothing is there: everything crosses, to two workers at once, each time anew
start_worker
first=$address
start_worker
ask "$first,$address" --layers 1,1
total=$(sum weight_bytes)
[ "$total" -gt 250000 ] || fail "the model has only $total bytes of weights"
equal "$(sum sent_bytes) $(sum found_bytes)" "$total 0" 'bytes sent and found'
equal "$(json 'd["ids"]')" "$text" ids
ask "$first,$address" --layers 1,1
equal "$(sum sent_bytes) $(sum found_bytes)" "$total 0" 'bytes sent and found by a second host'
stop_worker "$pid"

# ---- a host is killed in the middle: what came stays for the lease, and is not sent again
start_worker --lease 600
way=$SHOAL_TMP/way
mkfifo "$way"
python3 tests/cli/narrow.py "${address##*:}" 150000 > "$way" < /dev/null &
peers+=($!)
exec 8< "$way"
read -r port <&8
"$SHOAL" run -m "$model" -p a -n 1 -c 128 --workers "127.0.0.1:$port" > /dev/null 2>&1 &
run=$!
read -r word <&8
equal "$word" full 'the word of the narrow way'
kill -KILL "$run"
wait "$run" 2> /dev/null || true
# Once both of its connections are over, the worker has read all that passed.
left() {
    expect 0 status "$address" --json
    [ "$(json '[d["workers"][0]["figures"][k] for k in ("connections", "sessions_detached")]')" = '[1, 1]' ]
}
wait_until left
ask "$address"
found=$(sum found_bytes)
[ "$found" -gt 100000 ] || fail "only $found bytes were still there"
equal "$(($(sum sent_bytes) + found))" "$(sum weight_bytes)" 'bytes sent and found'
equal "$(json 'd["ids"]')" "$text" 'ids after a kill'
stop_worker "$pid"

# ---- the worker has a file, under another name; one that is copied in later is found, too
mkdir "$own"
cp "$model" "$own/something else.gguf"
start_worker --models "$own"
ask "$address"
equal "$(sum sent_bytes) $(sum found_bytes)" "0 $(sum weight_bytes)" 'bytes sent and found of a file'
equal "$(json 'd["ids"]')" "$text" 'ids of a file'
[ "$(json 'd["network"][0]["bytes_sent"]')" -lt 65536 ] || fail 'more than frames crossed'
log 3 | grep -q 'hashed .*something else.gguf' || fail "the log does not tell: $(log 3)"
stop_worker "$pid"
