#!/usr/bin/env bash
# shoal worker: where it listens, what it prints, how it ends, and many clients.
. tests/cli/lib.sh

# ---- other machines only with a key, and the refusal is the line that makes one
expect 2 worker --listen 0.0.0.0:0 --memory 1G
out_is_empty
says 'shoal worker --listen 0\.0\.0\.0:0 --memory 1G --pair laptop$'
expect 2 worker --listen '[::]:0'
says "shoal worker --listen '\[::\]:0' --pair laptop$"
expect 2 worker --listen :0
says -- '--pair laptop$'
expect 2 worker -H 0.0.0.0 -p 0
says -- '-H 0\.0\.0\.0 -p 0 --pair laptop$'
expect 1 worker --listen no.such.host.invalid:1
says 'no\.such\.host\.invalid'

# Without keys on request: both protocols, and a warning.
mkfifo "$SHOAL_TMP/open"
"$SHOAL" worker --listen 0.0.0.0:0 --memory 1G --insecure > "$SHOAL_TMP/open" 2> "$SHOAL_TMP/worker.open" &
workers+=($!)
read -r ready < "$SHOAL_TMP/open"
grep -Eq '^ready: shoal run --insecure --workers [^ ]+:[0-9]+$' <<< "$ready" || fail "the ready line is \"$ready\""
[ "${ready##* }" != "0.0.0.0:${ready##*:}" ] || fail "\"$ready\" cannot be used elsewhere"
grep -q 'no encryption' "$SHOAL_TMP/worker.open" || fail 'no warning'
tiny -n 3 --json --rpc "127.0.0.1:${ready##*:}"
tiny -n 3 --json --workers "127.0.0.1:${ready##*:}"
stop_worker "$!"

# ---- on loopback; the ready line is what shoal run takes
tiny -n 6 --json
alone=$(json 'd["ids"]')
start_worker -t 1
first=$pid
grep -Eq '^127\.0\.0\.1:[0-9]+$' <<< "$address" || fail "address $address"
tiny -n 6 --json --rpc "$address"
equal "$(json 'd["ids"]')" "$alone" 'ids from a worker'
equal "$(json 'd["network"][0]["address"], len(d["network"])')" "('$address', 1)" 'network'
equal "$(json 'd["plan"][0]["device"], d["plan"][0]["layers"]')" "('$address', [0, 1])" 'plan'
equal "$(json 'd["network"][0]["bytes_sent"] > 300000 and d["network"][0]["bytes_received"] > 2000')" True bytes

# A second worker cannot have the same port.
expect 1 worker --listen "$address"
says "$address"

# An IPv6 worker, where there is IPv6.
if [ -e /proc/net/if_inet6 ] && grep -q '^00000000000000000000000000000001' /proc/net/if_inet6; then
    mkfifo "$SHOAL_TMP/six"
    "$SHOAL" worker --listen '[::1]:0' > "$SHOAL_TMP/six" 2> "$SHOAL_TMP/worker.six" &
    workers+=($!)
    six=$!
    read -r ready < "$SHOAL_TMP/six"
    tiny -n 6 --json --rpc "${ready##* }"
    equal "$(json 'd["ids"]')" "$alone" 'ids over IPv6'
    stop_worker "$six"
fi

# ---- several clients at once, each with its own text
clients=()
for i in 1 2 3 4; do
    timeout "$limit" "$SHOAL" run -m "$models/llama-moe.gguf" -p 'The cat' -n 40 --seed "$i" --json \
        --rpc "$address" > "$SHOAL_TMP/client.$i" 2> "$SHOAL_TMP/client.$i.err" < /dev/null &
    clients+=($!)
done
for i in 1 2 3 4; do
    wait "${clients[i - 1]}" || fail "client $i: $(cat "$SHOAL_TMP/client.$i.err")"
    expect 0 run -m "$models/llama-moe.gguf" -p 'The cat' -n 40 --seed "$i" --json
    want=$(json 'd["ids"]')
    cp "$SHOAL_TMP/client.$i" "$SHOAL_TMP/out"
    equal "$(json 'd["ids"]')" "$want" "ids of client $i"
done

# ---- bytes that are no protocol cost the sender its connection and nobody else anything
for junk in 'GET / HTTP/1.1' ''; do
    exec 7<> "/dev/tcp/127.0.0.1/${address##*:}"
    # The end may come as a reset, in the middle of the junk or behind it; only a wait fails.
    printf '%s\r\n\r\n' "$junk" >&7 2> /dev/null || true
    code=0
    timeout "$limit" cat <&7 > "$SHOAL_TMP/junk" 2> /dev/null || code=$?
    [ "$code" -ne 124 ] || fail "the worker keeps a connection that sent \"$junk\""
    exec 7>&-
done
tiny -n 6 --json --rpc "$address"
equal "$(json 'd["ids"]')" "$alone" 'ids after junk'

# ---- it ends in order, and what clients had is free by then
stop_worker "$first"
expect 1 run -m "$models/llama-dense.gguf" -p a --rpc "$address"
says "$address.*refused"
start_worker
kill -INT "$pid"
wait "$pid" || fail "code $? after SIGINT"

# It says that it is ready, or it ends.
code=0
timeout "$limit" "$SHOAL" worker --listen 127.0.0.1:0 > /dev/full 2> "$SHOAL_TMP/err" || code=$?
equal "$code" 1 'exit code of a worker that cannot say it is ready'
err_has 'No space left'
