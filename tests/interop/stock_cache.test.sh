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
# serve DIRECTORY WHAT: a worker for one client.
serve() {
    start_worker -t 2 --cache "$1"
    run_client "$2"
    stop_worker "$pid" # stores the rest before
}
large() { find "$1" -type f -size "+$((least - 1))c" "${@:2}"; }
# A large entry that is used becomes young, and stays where it is.  One that is sent again does not.
make_old() { large "$1" -exec touch -d 2001-01-01 {} +; }
inodes() { large "$1" -printf '%i\n' | sort; }
used() { # DIRECTORY INODES WHAT
    equal "$(inodes "$1")" "$2" "$3: entries"
    [ "$(large "$1" -newermt 2002-01-01 | wc -l)" -ge 1 ] || fail "$3: no entry was used"
}

mine=$SHOAL_TMP/mine
serve "$mine" 'an empty cache'
entry=$(large "$mine" | head -n 1)
[ -n "$entry" ] || fail 'nothing was stored'
cp "$entry" "$SHOAL_TMP/right"
make_old "$mine"
before=$(inodes "$mine")
serve "$mine" 'a full cache'
used "$mine" "$before" 'a full cache'

# One bit of an entry flips: it is sent again, and right.
python3 - "$entry" << 'PY'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(5000000)
    byte = f.read(1)[0]
    f.seek(5000000)
    f.write(bytes([byte ^ 16]))
PY
! cmp -s "$entry" "$SHOAL_TMP/right" || fail 'the entry is whole'
serve "$mine" 'a damaged entry'
cmp "$entry" "$SHOAL_TMP/right" || fail 'the entry was not stored anew'

# The stock server finds what a worker has stored, and the other way round.
mkdir "$SHOAL_TMP/stock" "$SHOAL_TMP/theirs"
ln -s "$SHOAL_TMP/theirs" "$SHOAL_TMP/stock/rpc"
export LLAMA_CACHE=$SHOAL_TMP/stock
start_stock -t 1 -c
run_client 'the stock server, empty cache'
sent() { # ON|OFF: bytes that our own client sends to that server
    expect 0 run -m "$real" --prompt-ids "$ids" -n $n --temp 0 --json --rpc "$address" --rpc-cache "$1"
    json 'd["network"][0]["bytes_sent"]'
}
off=$(sent off)
on=$(sent on)
echo "our client sent $off bytes, and $on with what the stock server had"
[ "$on" -le $((off - least)) ] || fail 'our client sent what the stock server had'
kill "$pid"
[ "$(large "$SHOAL_TMP/theirs" | wc -l)" -ge 1 ] || fail 'the stock server stored nothing'
make_old "$SHOAL_TMP/theirs"
before=$(inodes "$SHOAL_TMP/theirs")
serve "$SHOAL_TMP/theirs" 'a worker with the cache of the stock server'
used "$SHOAL_TMP/theirs" "$before" 'a worker with the cache of the stock server'
