#!/usr/bin/env bash
# ./demo.sh with a model that is at hand: from a folder and to a temporary folder with spaces.
# test-options: no-sanitizers
. tests/cli/lib.sh

mkdir "$SHOAL_TMP/a folder" "$SHOAL_TMP/a place"
cp "$models/llama-dense.gguf" "$SHOAL_TMP/a folder/my model.gguf"
code=0
B=$SHOAL_BUILD TMPDIR="$SHOAL_TMP/a place" ./demo.sh "$SHOAL_TMP/a folder/my model.gguf" \
    > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" < /dev/null || code=$?
equal "$code" 0 'exit code of the demo'
out_has '^split and unsplit agree: [0-9]+ tokens'
err_has 'per token'
err_has 'layers'
out_has 'makes it no faster'
equal "$(ls "$SHOAL_TMP/a place")" '' 'what the demo left behind'
for process in $(sed -n 's/.*: process \([0-9]*\),.*/\1/p' "$SHOAL_TMP/out"); do
    ! kill -0 "$process" 2> /dev/null || fail "worker $process still runs"
done

for arguments in '--nonsense' "$SHOAL_TMP/none.gguf"; do
    code=0
    B=$SHOAL_BUILD ./demo.sh "$arguments" > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" < /dev/null || code=$?
    [ "$code" -ne 0 ] || fail "the demo accepts $arguments"
    err_has 'demo: '
done
