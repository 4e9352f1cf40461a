#!/usr/bin/env bash
# The tensor cache with a stock client: what it sent once it does not send again, not to another
# worker with the same directory either; a damaged entry is noticed; and the directories of the
# stock server and of a worker are the same.
# test-options: timeout=300 no-sanitizers
. tests/interop/lib.sh
if [ ! -f "$real" ]; then
    echo 'the small real model is not there'
    exit 77
fi
build_peer_program stock_client.c

least=$((10 << 20)) # bytes of a tensor that is asked for by its hash
ids=$(ids_of '1, 2, 3, 4, 5, 6,')
n=8
client "$SHOAL_TMP/local" text -m "$real" --ids "$ids" -n $n

# run_client WHAT: over the server at $address.
run_client() {
    client "$SHOAL_TMP/remote" text -m "$real" --ids "$ids" -n $n --rpc "$address"
    same_text "$SHOAL_TMP/local" "$SHOAL_TMP/remote" $n "$1"
}
# serve DIRECTORY WHAT: a worker for one client; sets $bytes, what that sent.
serve() {
    start_worker -t 2 --cache "$1" --log json
    run_client "$2"
    stop_worker "$pid" # stores the rest before
    bytes=$(python3 - "$SHOAL_TMP/worker.$((${#workers[@]} - 1))" << 'PY'
import json, sys
with open(sys.argv[1], encoding='utf-8') as f:
    lines = [json.loads(line) for line in f]
print(max(line.get('bytes_in', 0) for line in lines))
PY
    )
    echo "$2: the client sent $bytes bytes"
}
entries() { find "$1" -type f -size "+$((least - 1))c" | wc -l; }

mine=$SHOAL_TMP/mine
serve "$mine" 'an empty cache'
first=$bytes
[ "$(entries "$mine")" -ge 1 ] || fail 'nothing was stored'
stored=$(find "$mine" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
[ "$stored" -ge $least ] || fail "$stored bytes were stored"
serve "$mine" 'a full cache'
[ "$bytes" -le $((first - stored)) ] || fail "$stored bytes were there, but $first became $bytes"

# One bit of an entry flips: it is sent again, and right.
entry=$(find "$mine" -type f -size "+$((least - 1))c" | head -n 1)
python3 - "$entry" << 'PY'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(5000000)
    byte = f.read(1)[0]
    f.seek(5000000)
    f.write(bytes([byte ^ 16]))
PY
serve "$mine" 'a damaged entry'
[ "$bytes" -ge $((first - stored + least)) ] || fail 'the damaged entry was used'
serve "$mine" 'the entry stored anew'
[ "$bytes" -le $((first - stored)) ] || fail 'the entry was not stored anew'

# The stock server finds what a worker has stored, and the other way round.
mkdir "$SHOAL_TMP/stock" "$SHOAL_TMP/theirs"
ln -s "$SHOAL_TMP/theirs" "$SHOAL_TMP/stock/rpc"
export LLAMA_CACHE=$SHOAL_TMP/stock
start_stock -t 2 -c
run_client 'the stock server, empty cache'
kill "$pid"
[ "$(entries "$SHOAL_TMP/theirs")" -ge 1 ] || fail 'the stock server stored nothing'
serve "$SHOAL_TMP/theirs" 'a worker with the cache of the stock server'
[ "$bytes" -le $((first - stored)) ] || fail 'what the stock server had stored was not used'
