#!/usr/bin/env bash
# Workers on two machines, joined by a link over TLS with a key that the host gave them; then the way
# between the two is cut, before a run and in the middle of one: the host relays and says so, and
# the text is the same.
# test-options: timeout=240
. tests/hosts/lib.sh --hosts 3 --rtt 400us --rate 1gbit

model=$models/llama-dense.gguf
args=(-m "$model" -p 'The cat and the dog' --temp 0 --layers '1,1')
expect 0 run "${args[@]:0:6}" -n 24 --json --logits-out "$SHOAL_TMP/alone"
want=$(json 'd["ids"]')

# pair HOST: a worker there, whose key this machine then has.
pair() {
    mkdir -p "$SHOAL_TMP/$1" "$SHOAL_TMP/home"
    export XDG_CONFIG_HOME=$SHOAL_TMP/$1
    start_worker_on "$1" --listen "10.77.0.${1#h}:0" --pair host -t 1
    address=$(sed -n 's/.*--workers \([^ ]*\) .*/\1/p' <<< "$second")
    export XDG_CONFIG_HOME=$SHOAL_TMP/home
    expect 0 key add "$address" "$(grep -Eo 'SHOAL1-[A-Z2-7]+-[A-Z2-7]+' <<< "$second")"
}
pair h2
first=$address
pair h3
workers_of="$first,$address"
same() { # DIRECT WHAT
    expect 0 run "${args[@]}" -n 24 --json --workers "$workers_of" --logits-out "$SHOAL_TMP/split"
    equal "$(json 'd["ids"]')" "$want" "ids $2"
    cmp "$SHOAL_TMP/split" "$SHOAL_TMP/alone" || fail "other logits $2"
    equal "$(json '[p["encrypted"] for p in d["plan"]]')" '[True, True]' "encryption $2"
    equal "$(json 'd["plan"][0]["direct"]')" "$1" "a link $2"
}

# ---- a link over TLS
same True 'over a link'
expect 0 run "${args[@]}" -n 2 --stats --wire f16 --workers "$workers_of"
err_has "hidden states go from worker $first straight to worker $address in f16: 10\.77\.0\.3:[0-9]+, round trip"

# ---- the two do not reach each other
"$lan" cut h2 h3
same False 'without a way between them'
out_has '"why": ?"[^"]*none of 1 addresses let this worker in'
"$lan" join h2 h3
same True 'when there is one again'

# ---- the way is cut in the middle of a text
expect 0 run "${args[@]:0:6}" -n 1500 -c 2000 --json
want=$(json 'd["ids"]')
packets() { "$lan" counts | awk '{ print $1 }'; }
timeout -k 5 "$limit" "$SHOAL" run "${args[@]}" -n 1500 -c 2000 --json --workers "$workers_of" \
    > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" < /dev/null &
run=$!
before=$(packets)
passed() { [ "$(($(packets) - before))" -ge 1000 ]; }
wait_until passed
"$lan" cut h2 h3
code=0
wait "$run" || code=$?
equal "$code" 0 'exit code of the run whose link was lost'
err_has 'the link of stage 0 to stage 1 is lost, its rows go through this host now'
equal "$(json 'd["ids"]')" "$want" 'ids of the run whose link was lost'
"$lan" join h2 h3
expect 0 run "${args[@]:0:6}" -n 24 --json
want=$(json 'd["ids"]')
same True 'afterwards'
