#!/usr/bin/env bash
# A worker after some hundred sessions of all kinds: memory, descriptors, threads.
# (Sanitizers keep memory of their own; with them a leak shows when the worker ends.)
# test-options: timeout=240
. tests/cli/lib.sh

args=(--shoal "$SHOAL" --model "$models/llama-dense.gguf")
if [ "$SHOAL_CFG" = release ]; then
    python3 tests/soak/sessions.py "${args[@]}" --short 2000 --long 20 --bound 2048
else
    python3 tests/soak/sessions.py "${args[@]}" --short 300 --long 8
fi
