#!/usr/bin/env bash
# shoal inspect: what is in a file, for people and for programs.
. tests/cli/lib.sh

for model in "$models"/*.gguf; do
    expect 0 inspect "$model"
    out_has 'llama'
    out_has 'blk\.0\.attn_q\.weight'
    expect 0 inspect "$model" --json
    equal "$(json 'type(d).__name__')" dict 'the JSON of inspect'
done
expect 0 inspect -m "$models/llama-moe.gguf"
out_has 'ffn_gate_exps'

expect 1 inspect "$SHOAL_TMP/none.gguf"
says 'none\.gguf'
expect 1 inspect "$SHOAL_TMP"
says 'not a regular file'
head -c 1000 "$models/llama-dense.gguf" > "$SHOAL_TMP/cut.gguf"
expect 1 inspect "$SHOAL_TMP/cut.gguf"
says 'cut\.gguf'
out_is_empty

code=0
"$SHOAL" inspect "$models/llama-moe.gguf" > /dev/full 2> "$SHOAL_TMP/err" || code=$?
equal "$code" 1 'exit code on a full disk'
says '^shoal: stdout: .*No space left'
