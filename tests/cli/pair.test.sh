#!/usr/bin/env bash
# Who gets into a worker, and how: both protocols on one port, Unix sockets, a pasted line, crowds
# at the door, another version, and what shoal status says of it.
# test-options: timeout=300
. tests/cli/lib.sh

model=$models/llama-dense.gguf
on_machine() { export XDG_CONFIG_HOME=$SHOAL_TMP/$1; }
mkdir "$SHOAL_TMP/one" "$SHOAL_TMP/two" "$SHOAL_TMP/home"
tiny -n 8 --json
want=$(json 'd["ids"]')

# ---- what it prints on loopback, and two hosts on the one port at once, a protocol each
start_worker -t 1
both=$address
equal "$line" "ready: shoal run --workers $both" 'the first line'
equal "$second" "for llama.cpp's protocol: --rpc $both" 'the second line'
begin_text -m "$model" -p 'The cat and the dog' --workers "$both"
tiny -n 8 --json --rpc "$both"
equal "$(json 'd["ids"]')" "$want" 'ids by the one protocol while the other is in use'
tiny -n 8 --json --workers "$both"
equal "$(json 'd["ids"]')" "$want" 'ids of a second host'

expect 0 status "$both"
out_has "^$both: .*, shoal [0-9.]+, not encrypted; .* in use, .* free; up "
out_has '^  none +llama-dense\.gguf +127\.0\.0\.1:[0-9]+ +[0-9.]+ [kMG]?B +[0-9]+ +[0-9]+ s +[0-9]+ s$'
expect 0 status "$both" --json
equal "$(json '[(s["key"], s["model"], s["steps"] > 0) for s in d["workers"][0]["sessions"]]')" \
    "[(None, 'llama-dense.gguf', True)]" 'who is there'
equal "$(json 'd["workers"][0]["figures"]["memory_free"] < d["workers"][0]["figures"]["memory_total"]')" \
    True 'memory'
kill -INT "$run"
finish_text
equal "$code" 130 'exit code after Ctrl-C'
nobody() { expect 0 status "$both" && grep -q '^  nobody$' "$SHOAL_TMP/out"; }
wait_until nobody

# ---- another version is a sentence, at both ends
timeout "$limit" python3 "$cli/door.py" skew "$both" > "$SHOAL_TMP/out" || fail 'no answer to another revision'
out_has '^no revision of the protocol in common: here is shoal [0-9.]+ with 1 to 1, there shoal 9\.9\.9 with 9 to 12$'
start_peer newer
expect 1 run -m "$model" -p a --workers "$address"
says "$address runs shoal 9\.9\.9, which wants revision 9 of the protocol; this is shoal [0-9.]+ with 1 to 1"
expect 1 status "$address" "$both"
says "$address runs shoal 9\.9\.9"
out_has "^$both: " # the other one answers
expect 1 status "$address" --json
equal "$(json 'd["workers"][0]["status"]')" ERR_UNSUPPORTED 'status of a worker of another version'

# ---- a Unix socket: this user's, and gone with the worker
socket=$SHOAL_TMP/s
if [ ${#socket} -le 66 ]; then
    start_worker --listen "unix:$socket" -t 1
    equal "$address" "unix:$socket" 'the address of a Unix socket'
    equal "$(stat -c %a "$socket")" 600 'mode of the socket'
    tiny -n 8 --json --workers "unix:$socket"
    equal "$(json 'd["ids"]')" "$want" 'ids over a Unix socket'
    expect 1 worker --listen "unix:$socket"
    says "unix:$socket.*in use"
    # One that is left behind is no obstacle.
    kill -KILL "$pid"
    wait "$pid" 2> /dev/null || true
    [ -S "$socket" ] || fail 'the socket of a killed worker is not there'
    expect 1 run -m "$model" -p a --workers "unix:$socket"
    says 'no worker listens'
    start_worker --listen "unix:$socket" -t 1
    tiny -n 8 --json --workers "unix:$socket"
    stop_worker "$pid"
    [ ! -e "$socket" ] || fail 'the socket stays'
fi

# ---- two machines, two lines; here they are two folders
on_machine one
start_worker --pair laptop -t 1
safe=$(sed -n 's/.*--workers \([^ ]*\) .*/\1/p' <<< "$second")
words=${line##* words: }
equal "$(wc -w <<< "$words")" 8 'words of the fingerprint'
expect 0 key list
out_has "^  laptop +.* $words$"
on_machine two
cp "$model" "$SHOAL_TMP/home/model.gguf"
(cd "$SHOAL_TMP/home" && PATH=${SHOAL%/*}:$PATH timeout "$limit" bash -c "$second -n 8 --temp 0") \
    > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" || fail "the pasted line: $second"
err_has "note: the key of $safe is kept, so --key can be left out; the worker shows the same words: $words$"
tiny -n 8 --json --workers "$safe"
equal "$(json 'd["ids"], d["plan"][0]["encrypted"]')" "($want, True)" 'with the key that was kept'
expect 0 status
out_has "^$safe: .*, encrypted; "
# The other protocol is not offered where there are keys.
expect 1 run -m "$model" -p a --rpc "$safe"
says "$safe"

# ---- a crowd at the door delays nobody, with keys and without
for to in "$safe" "$both"; do
    rm -f "$SHOAL_TMP/there"
    mkfifo "$SHOAL_TMP/there" "$SHOAL_TMP/stay.$to"
    exec 5<> "$SHOAL_TMP/stay.$to"
    timeout "$limit" python3 "$cli/door.py" crowd "$to" 150 > "$SHOAL_TMP/there" < "$SHOAL_TMP/stay.$to" 5<&- &
    crowd=$!
    peers+=("$crowd")
    read -r there < "$SHOAL_TMP/there"
    equal "$there" there 'the crowd'
    tiny -n 8 --json --workers "$to"
    equal "$(json 'd["ids"]')" "$want" 'ids beside a crowd'
    exec 5>&-
    kill "$crowd" 2> /dev/null || true
done

# ---- the key again, and none any more
on_machine one
stop_worker "$pid"
port=${safe##*:}
start_worker --listen "127.0.0.1:$port" --pair laptop # the same key, the same line
equal "${line##* words: }" "$words" 'the fingerprint of a key that was there'
on_machine two
tiny -n 8 --json --workers "$safe"
on_machine one
expect 0 key revoke laptop
on_machine two
expect 1 run -m "$model" -p a --workers "$safe"
says "the worker at $safe does not accept this key"
stop_worker "$pid"

# ---- wrong usage
expect 2 worker --pair laptop --insecure
says -- '--insecure means no keys'
expect 2 worker --pair 'La Ptop'
says 'La Ptop'
expect 2 worker --lease 0
says 'lease'
expect 1 worker --models "$SHOAL_TMP/none"
says "$SHOAL_TMP/none"
expect 2 worker --keys "$SHOAL_TMP/none" --listen 127.0.0.1:0
says -- '--pair laptop$'
expect 2 worker --listen unix:here
says 'unix:here'
on_machine one
expect 2 status
says 'which worker'
