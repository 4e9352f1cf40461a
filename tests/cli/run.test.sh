#!/usr/bin/env bash
# shoal run on small models: ids, text, JSON, logits, perplexity, seeds.
. tests/cli/lib.sh

# ---- the form of --json
tiny -n 16 --json
equal "$(json 'sorted(d)')" "['ids', 'network', 'plan', 'prompt_ids', 'stages', 'text', 'timings']" 'fields'
equal "$(json 'sorted(d["timings"])')" \
    "['load_ms', 'predicted_ms', 'predicted_n', 'predicted_per_second', 'prompt_ms', 'prompt_n', 'prompt_per_second']" 'timings'
equal "$(json 'sorted(d["plan"][0])')" "['device', 'kv_bytes', 'layers', 'weight_bytes']" 'plan'
equal "$(json 'd["plan"][0]["layers"]')" '[0, 1]' 'layers'
equal "$(json 'd["network"]')" '[]' 'network'
equal "$(json 'sorted(d["stages"][0])')" \
    "['bytes_in', 'bytes_out', 'compute_ms', 'device', 'in_flight_max', 'layers', 'steps', 'wait_ms', 'wire_ms']" 'stages'
equal "$(json '[(s["layers"], s["steps"], s["bytes_in"], s["bytes_out"]) for s in d["stages"]]')" \
    '[([0, 1], 16, 0, 0)]' 'the one stage'
equal "$(json '0 < sum(d["stages"][0][k] for k in ("compute_ms", "wait_ms", "wire_ms")) <= d["timings"]["prompt_ms"] + d["timings"]["predicted_ms"]')" \
    True 'times of the stage'
equal "$(json 'len(d["ids"]), d["timings"]["predicted_n"]')" '(16, 16)' 'ids'
equal "$(json 'd["timings"]["prompt_n"] == len(d["prompt_ids"]) == 15')" True 'prompt ids'
equal "$(json 'd["plan"][0]["weight_bytes"] > 100000 and d["plan"][0]["kv_bytes"] > 100000')" True bytes
equal "$(wc -l < "$SHOAL_TMP/out")" 1 'lines of JSON'
greedy=$(json 'd["ids"]')
text=$(json 'd["text"]')
prompt_ids=$(json '",".join(map(str, d["prompt_ids"]))')

# ---- ways to give a prompt
tiny -n 16
equal "$(cat "$SHOAL_TMP/out")" "$text" 'streamed text'
err_has 'prompt eval time'
err_has '^  CPU .*0-1'
tiny -n 16 --no-perf
[ ! -s "$SHOAL_TMP/err" ] || fail 'something on stderr in spite of --no-perf'
tiny -n 16 --display-prompt
equal "$(cat "$SHOAL_TMP/out")" "The cat and the dog$text" 'text after its prompt'
printf 'The cat and the dog\n' > "$SHOAL_TMP/prompt"
expect 0 run -m "$models/llama-dense.gguf" -f "$SHOAL_TMP/prompt" -n 16 --temp 0
equal "$(cat "$SHOAL_TMP/out")" "$text" 'text after a prompt from a file'
"$SHOAL" run -m "$models/llama-dense.gguf" -f - -n 16 --temp 0 --no-perf < "$SHOAL_TMP/prompt" > "$SHOAL_TMP/out"
equal "$(cat "$SHOAL_TMP/out")" "$text" 'text after a prompt from stdin'
expect 0 run -m "$models/llama-dense.gguf" --prompt-ids "$prompt_ids" -n 16 --temp 0 --json
equal "$(json 'd["ids"]')" "$greedy" 'ids after a prompt of ids'
expect 0 run -m "$models/llama-dense.gguf" -p 'a\x41\n\\' -n 0 --json
escaped=$(json 'd["prompt_ids"]')
expect 0 run -m "$models/llama-dense.gguf" -p $'aA\n\\' -n 0 --json --no-escape
equal "$(json 'd["prompt_ids"]')" "$escaped" 'ids of an escaped prompt'
equal "$(json 'd["ids"], d["text"]')" "([], '')" 'what -n 0 generates'
tiny -n 1 --verbose-prompt --no-perf
err_has 'the prompt has 15 tokens'

expect 1 run -m "$models/llama-dense.gguf" -p '' -n 4
says 'the prompt is empty'
expect 0 run -m "$models/llama-moe.gguf" -p '' -n 4 --temp 0 --json # begins with a token of its own
equal "$(json 'd["prompt_ids"]')" '[1]' 'ids of an empty prompt'
expect 1 run -m "$models/llama-dense.gguf" --prompt-ids 5,104 -n 4
says 'no token 104'
expect 1 run -m "$models/llama-dense.gguf" -f "$SHOAL_TMP/none" -n 4
says 'none: cannot open'

# ---- the ids of texts, as the models' makers have them
python3 - "$models/index.json" > "$SHOAL_TMP/texts" << 'EOF'
import json, sys
for e in json.load(open(sys.argv[1]))['entries']:
    print(e['file'], e['text_ids'], e['text'], sep='\t')
EOF
while IFS=$'\t' read -r file ids words; do
    expect 0 run -m "$models/$file" -p "$words" -n 0 --json
    equal "$(json 'd["prompt_ids"]')" "$ids" "ids of \"$words\" in $file"
done < "$SHOAL_TMP/texts"

# ---- seeds
draw() { expect 0 run -m "$models/llama-dense.gguf" -p 'The cat' -n 24 --json "$@" && json 'd["ids"]'; }
first=$(draw --seed 7)
equal "$(draw --seed 7)" "$first" 'ids of seed 7'
equal "$(draw --seed 7 -t 1 -ub 2)" "$first" 'ids of seed 7 in other steps'
[ "$(draw --seed 8)" != "$first" ] || fail 'seeds 7 and 8 give the same ids'
expect 0 run -m "$models/llama-dense.gguf" -p 'The cat' -n 24 --json
err_has '^shoal: seed [0-9]+$'
again=$(json 'd["ids"]')
seed=$(sed -n 's/^shoal: seed //p' "$SHOAL_TMP/err")
equal "$(draw --seed "$seed")" "$again" 'ids of the reported seed'
tiny -n 16 --json --repeat-penalty 1.5
[ "$(json 'd["ids"]')" != "$greedy" ] || fail 'a repetition penalty changes nothing'

# ---- the context
expect 1 run -m "$models/llama-dense.gguf" -p "$(printf 'a%.0s' {1..100})" -c 64 -n 4
says 'the prompt has 100 tokens, the context holds 64'
expect 0 run -m "$models/llama-dense.gguf" -p 'The cat' -c 32 --temp 0 --json
n=$(json 'len(d["prompt_ids"]) + len(d["ids"])')
equal "$n" 33 'tokens when the context is full' # the last is sampled and has no place
expect 0 run -m "$models/llama-dense.gguf" -p 'The cat' -c 32 --temp 0
err_has 'the context of 32 tokens is full'

# Without a limit this one ends by itself, with the token that says so and no text for it.
expect 0 run -m "$models/llama-dense.gguf" -p 'The cat' --temp 0 --json
equal "$(json 'd["ids"][-1], d["ids"].count(2), len(d["ids"]) < 100')" '(2, 1, True)' 'the last id'
out_has '"text":"[^<]*"'

# ---- perplexity
head -c 3000 LICENSE > "$SHOAL_TMP/text"
expect 0 run -m "$models/llama-dense.gguf" --perplexity "$SHOAL_TMP/text" -c 128 --chunks 4
out_has '^perplexity [0-9.]+ \+/- [0-9.]+ \(4 chunks of 128 tokens\)$'
value=$(awk '{print $2}' "$SHOAL_TMP/out")
expect 0 run -m "$models/llama-dense.gguf" --perplexity "$SHOAL_TMP/text" -c 128 --chunks 4 --json -ub 16
equal "$(json '"%.4f" % d["perplexity"]')" "$value" 'perplexity in steps of 16'
equal "$(json 'd["timings"]["prompt_n"]')" 512 'tokens read'
expect 1 run -m "$models/llama-dense.gguf" --perplexity "$SHOAL_TMP/prompt" -c 128
says 'has [0-9]+ tokens, a chunk takes 128'
