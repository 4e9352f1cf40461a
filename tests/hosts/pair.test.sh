#!/usr/bin/env bash
# Two machines and two pasted lines: the worker makes a key and prints a line, which is pasted at
# the host as it is.  Then what a revoked, a missing and a wrong key come to.
# test-options: timeout=240
. tests/hosts/lib.sh --hosts 3 --rtt 400us --rate 1gbit

mkdir "$SHOAL_TMP/one" "$SHOAL_TMP/two" "$SHOAL_TMP/three" "$SHOAL_TMP/four" "$SHOAL_TMP/home"
cp "$models/llama-dense.gguf" "$SHOAL_TMP/home/model.gguf"

# on_machine N: what follows belongs to the user of that machine.
on_machine() { export XDG_CONFIG_HOME=$SHOAL_TMP/$1; }
# paste HOST CODE: the line $second, typed in a folder that has the model.
paste() {
    code=0
    printf 'cd %q && PATH=%q:/usr/bin:/bin && %s -n 12 --temp 0\n' "$SHOAL_TMP/home" "${SHOAL%/*}" \
        "$second" > "$SHOAL_TMP/typed"
    timeout -k 5 "$limit" "$lan" exec "$1" bash "$SHOAL_TMP/typed" > "$SHOAL_TMP/out" \
        2> "$SHOAL_TMP/err" < /dev/null || code=$?
    [ "$code" -eq "$2" ] || fail "exit code $code, not $2, of the pasted line: $second"
}
again() { # HOST CODE ADDRESS ARGUMENT...
    local host=$1 want=$2 to=$3
    shift 3
    expect_on "$host" "$want" run --workers "$to" -m "$models/llama-dense.gguf" \
        -p 'Once upon a time' -n 12 --temp 0 "$@"
}

expect 0 run -m "$models/llama-dense.gguf" -p 'Once upon a time' -n 12 --temp 0
cp "$SHOAL_TMP/out" "$SHOAL_TMP/alone"

# ---- without a key it does not start; the refusal is the first line
on_machine one
expect_on h1 2 worker --listen 0.0.0.0:0
says 'shoal worker --listen 0\.0\.0\.0:0 --pair laptop$'
read -r -a words <<< "$(sed -n 's/.*: shoal worker \(.*\)$/\1/p' "$SHOAL_TMP/err")"

# ---- the second line is pasted on another machine
start_worker_on h1 "${words[@]}" -t 1
first=$line
worker=$pid
grep -Eq '^ready: .*laptop.* words: [a-z]+( [a-z]+){7}$' <<< "$first" || fail "the line is \"$first\""
grep -Eq '^shoal run --workers 10\.77\.0\.1:[0-9]+ --key SHOAL1-[A-Z2-7]{52}-[A-Z2-7]{4} -m model\.gguf -p ' \
    <<< "$second" || fail "the line is \"$second\""
to=$(sed -n 's/.*--workers \([^ ]*\) .*/\1/p' <<< "$second")
grep -q 'SHOAL1-' "$SHOAL_TMP"/worker.* && fail 'the key is in the log'
on_machine two
paste h2 0
cmp "$SHOAL_TMP/out" "$SHOAL_TMP/alone" || fail 'another text than on one machine'
err_has "${first##* words: }"
equal "$(stat -c %a "$XDG_CONFIG_HOME/shoal/cluster")" 600 'mode of the cluster file'
equal "$(stat -c %a "$SHOAL_TMP/one/shoal/keys/laptop")" 600 'mode of the key'

# ---- from then on the key is known
again h2 0 "$to"
cmp "$SHOAL_TMP/out" "$SHOAL_TMP/alone" || fail 'another text with the key that was kept'
expect_on h2 0 status
out_has "^${to//./\\.}: .*, encrypted; .* in use"
out_has '^  nobody$'

# ---- a second worker beside it; the two are joined by a link of their own, encrypted, too
on_machine four
start_worker_on h3 --listen 0.0.0.0:0 --pair laptop -t 1
beside=$(sed -n 's/.*--workers \([^ ]*\) .*/\1/p' <<< "$second")
key=$(grep -Eo 'SHOAL1-[A-Z2-7]+-[A-Z2-7]+' <<< "$second")
on_machine two
again h2 0 "$to,$beside" --layers 1,1 --key "$key" --json
equal "$(json '[(p["encrypted"], p.get("direct")) for p in d["plan"]]')" \
    "[(True, True), (True, None)]" 'encrypted, and joined'
expect_on h2 0 key list
out_has "^  ${beside//./\\.} "
again h2 0 "$to,$beside" --layers 1,1
cmp "$SHOAL_TMP/out" "$SHOAL_TMP/alone" || fail 'another text over two workers'
stop_worker "$pid"
expect_on h2 0 key forget "$beside"

# ---- who has none, a wrong one, the wrong protocol
on_machine three
again h3 1 "$to"
says 'needs a key'
expect_on h3 0 key make other
other=$(grep -Eo 'SHOAL1-[A-Z2-7]+-[A-Z2-7]+' "$SHOAL_TMP/out")
again h3 1 "$to" --key "$other"
says "the worker at ${to//./\\.} does not accept this key"
[ ! -e "$XDG_CONFIG_HOME/shoal/cluster" ] || fail 'a key that was not accepted is kept'
again h3 1 "$to" --insecure
says "${to//./\\.}.*key"
expect_on h3 1 run --rpc "$to" -m "$models/llama-dense.gguf" -p a
says "${to//./\\.}"

# ---- revoking ends what is open, at once
on_machine two
begin_text_on h2 --workers "$to" -m "$models/llama-dense.gguf" -p 'Once'
expect_on h2 0 status
out_has '^  laptop +llama-dense\.gguf +10\.77\.0\.2:[0-9]+ +[0-9.]+ [kMG]?B +[0-9]+ '
expect_on h2 0 status "$to" --json
equal "$(json '[(s["key"], s["model"]) for s in d["workers"][0]["sessions"]]')" \
    "[('laptop', 'llama-dense.gguf')]" 'who is there'
on_machine one
expect_on h1 0 key revoke laptop
wait_until grep -q 'key "laptop" is revoked' "$SHOAL_TMP/worker.0"
wait_until grep -q 'session ended: .*key *laptop .*steps' "$SHOAL_TMP/worker.0"
finish_text
equal "$code" 1 'exit code of the run whose key was revoked'
err_has "^shoal: .*${to//./\\.}.*revoked"
on_machine two
again h2 1 "$to"
says 'does not accept this key'
expect_on h2 1 status
says 'does not accept this key'
stop_worker "$worker"
