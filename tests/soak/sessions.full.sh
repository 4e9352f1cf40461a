#!/usr/bin/env bash
# A worker after 10,000 short and 100 long sessions has the memory that it started with.
# test-options: no-sanitizers timeout=600
. tests/cli/lib.sh

python3 tests/soak/sessions.py --shoal "$SHOAL" --model "$models/llama-dense.gguf" \
    --short 10000 --long 100 --bound 2048
