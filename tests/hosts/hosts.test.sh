#!/usr/bin/env bash
# Workers on two machines and the model on a third: the line that a worker prints works there, and
# what comes out is the same as on one machine.
# test-options: timeout=240
. tests/hosts/lib.sh --hosts 4 --rtt 400us --rate 1gbit

model=$models/llama-dense.gguf
args=(-m "$model" -p 'The cat and the dog' -n 16 --temp 0)

# ---- the line that it prints, typed on another machine
start_worker_on h1 --listen 10.77.0.1:0 --insecure -t 1
first=$address
grep -Eq '^ready: shoal run --insecure --workers 10\.77\.0\.1:[0-9]+$' <<< "$line" || fail "the line is \"$line\""
expect 0 run "${args[@]}"
cp "$SHOAL_TMP/out" "$SHOAL_TMP/alone"
read -r -a words <<< "${line#*: shoal }"
expect_on h2 0 "${words[@]}" "${args[@]}"
cmp "$SHOAL_TMP/out" "$SHOAL_TMP/alone" || fail 'another text than on one machine'
expect_on h2 0 run --rpc "$first" "${args[@]}"
cmp "$SHOAL_TMP/out" "$SHOAL_TMP/alone" || fail 'another text over the other protocol'
# A host does not send prompts in the clear unasked.
expect_on h2 1 run --workers "$first" "${args[@]}"
says 'needs a key'

# On all addresses it prints one that others reach, not the dead interface that comes first.
start_worker_on h2 --listen 0.0.0.0:0 --insecure -t 1
other=$address
grep -Eq '^ready: shoal run --insecure --workers 10\.77\.0\.2:[0-9]+$' <<< "$line" || fail "the line is \"$line\""
grep -q '172\.31\.0\.1' "$SHOAL_TMP/worker.1" || fail 'the other address is not told'
start_worker_on h4 --listen '[::]:0' --insecure -t 1
third=$address
grep -Eq '^ready: shoal run --insecure --workers 10\.77\.0\.4:[0-9]+$' <<< "$line" || fail "the line is \"$line\""

# One that listens on its own machine only is not reached from outside.
start_worker_on h2 --listen 127.0.0.1:0 -t 1
expect_on h3 1 run "${args[@]}" --rpc "10.77.0.2:${address##*:}"
says "10\.77\.0\.2:${address##*:}.*refused"

# ---- two and three workers, the model on a machine of its own or beside one of them
expect 0 run "${args[@]}" --json --logits-out "$SHOAL_TMP/alone"
want=$(json 'd["ids"]')
same() { # HOST ARGUMENT...
    local host=$1
    shift
    expect_on "$host" 0 run "${args[@]}" --json --logits-out "$SHOAL_TMP/split" "$@"
    equal "$(json 'd["ids"]')" "$want" "ids on $host with $*"
    cmp "$SHOAL_TMP/split" "$SHOAL_TMP/alone" || fail "other logits on $host with $*"
}
same h3 --rpc "$first,$other"
same h3 --rpc "$first,$other" --with-local -ub 3
same h2 --rpc "$other,$first"
same h3 --rpc "$first,$other,$third" --layers 1,0,1

# ---- two machines behind one worker, at the same time
clients=()
for host in h2 h3 h4; do
    timeout "$limit" "$lan" exec "$host" "$SHOAL" run "${args[@]}" --json --rpc "$first" \
        > "$SHOAL_TMP/client.$host" 2> "$SHOAL_TMP/client.$host.err" < /dev/null &
    clients+=($!)
done
for client in "${clients[@]}"; do
    wait "$client" || fail "a client: $(cat "$SHOAL_TMP"/client.*.err)"
done
for host in h2 h3 h4; do
    cp "$SHOAL_TMP/client.$host" "$SHOAL_TMP/out"
    equal "$(json 'd["ids"]')" "$want" "ids on $host beside others"
done
