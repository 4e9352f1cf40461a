#!/usr/bin/env bash
# A model file that loses its tail while a text is being written: one sentence, code 1, no SIGBUS.
. tests/cli/lib.sh

for shape in alone worker; do
    copy=$SHOAL_TMP/shrinks.gguf
    cp "$models/llama-dense.gguf" "$copy"
    where=()
    if [ "$shape" = worker ]; then
        start_worker -t 1
        where=(--rpc "$address" --with-local --layers 1,1)
    fi
    begin_text -m "$copy" -p 'The cat and the dog' "${where[@]}"
    truncate -s 40000 "$copy"
    finish_text
    equal "$code" 1 "exit code ($shape)"
    says 'shrinks\.gguf: the file shrank'
done
tiny -n 2 --json
