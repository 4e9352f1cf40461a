#!/usr/bin/env bash
# shoal worker --cache: large weights cross the network once, whatever happens to the worker.
# test-options: timeout=240 no-sanitizers
. tests/cli/lib.sh

model=$SHOAL_TMP/model.gguf
cache=$SHOAL_TMP/below/cache
"${SHOAL%/*}/tool/bigmodel" "$model" 1 q4_0 # two tensors of 37 MB, 26 MB of smaller ones

ask() { expect 0 run -m "$model" -p a -n 3 -c 64 --temp 0 --json --rpc-cache on --rpc "$address"; }
sent() { json 'd["network"][0]["bytes_sent"] // 1000000'; }
log() { cat "$SHOAL_TMP/worker.$((${#workers[@]} - 1))"; }
# entries N: so many are in their places, and nothing else.
entries() {
    [ "$(find "$cache" -type f -name '????????????????' | wc -l)" -eq "$1" ] &&
        [ "$(find "$cache" -type f | wc -l)" -eq "$1" ]
}

# stores N: the N-th file has begun to appear.
stores() { [ "$(find "$cache" -type f | wc -l)" -ge "$1" ]; }

# ---- the first load stores, the second over another process sends only the small ones
start_worker --cache "$cache"
expect 0 run -m "$model" -p a -n 3 -c 64 --temp 0 --json --rpc "$address"
ids=$(json 'd["ids"]')
[ "$(sent)" -ge 98 ] || fail "only $(sent) MB were sent"
wait_until entries 0 # over loopback nobody is asked, so nothing is offered
ask
equal "$(json 'd["ids"]')" "$ids" 'ids of the first load'
[ "$(sent)" -ge 98 ] || fail "only $(sent) MB were sent"
wait_until entries 2
equal "$(stat -c %a "$cache")" 700 'mode of the directory'
stop_worker "$pid"
start_worker --cache "$cache"
log | grep -q 'cache: .*, 2 entries, ' || fail "the log does not tell: $(log)"
ask
equal "$(json 'd["ids"]')" "$ids" 'ids of the second load'
[ "$(sent)" -le 30 ] || fail "$(sent) MB were sent again"
stop_worker "$pid"
log | grep -q 'from the cache *7[0-9]\.[0-9] MB' || fail "the log does not tell: $(log)"

# ---- a damaged entry is noticed, sent again and replaced
entry=$(find "$cache" -type f | head -n 1)
printf 'x' | dd of="$entry" bs=1 seek=20000000 conv=notrunc status=none
start_worker --cache "$cache"
ask
equal "$(json 'd["ids"]')" "$ids" 'ids with a damaged entry'
[ "$(sent)" -ge 55 ] || fail "only $(sent) MB were sent"
wait_until entries 2
stop_worker "$pid"
log | grep -q 'damaged' || fail "the log does not tell: $(log)"

# ---- a worker that is killed while it stores leaves nothing wrong
for after in 1 2; do
    rm -f "$cache"/*
    start_worker --cache "$cache"
    "$SHOAL" run -m "$model" -p a -n 3 -c 64 --rpc-cache on --rpc "$address" > /dev/null 2>&1 < /dev/null &
    client=$!
    wait_until stores "$after"
    kill -KILL "$pid"
    wait "$client" || true
    start_worker --cache "$cache"
    ask
    equal "$(json 'd["ids"]')" "$ids" 'ids after a kill'
    wait_until entries 2
    stop_worker "$pid"
    if log | grep -q 'damaged'; then fail "a bad entry was left: $(log)"; fi
done

# ---- what will not do
chmod 770 "$cache"
expect 1 worker --listen 127.0.0.1:0 --cache "$cache"
says 'others may write'
chmod 700 "$cache"
expect 2 worker --cache-size 5G
says '--cache-size goes with'
expect 2 worker --cache "$cache" -c
says 'two places'
expect 2 run -m "$model" -p a --rpc-cache sometimes --rpc "$address"
says 'rpc-cache'

# ---- the usual place
mkdir -p "$SHOAL_TMP/home"
XDG_CACHE_HOME=$SHOAL_TMP/home start_worker -c --cache-size 50M
ask
equal "$(json 'd["ids"]')" "$ids" 'ids with little room'
cache=$SHOAL_TMP/home/shoal/rpc
wait_until entries 1 # the second made the first go, or found no room
stop_worker "$pid"
