#!/usr/bin/env bash
# Every op that graphs of language models hold, in some thousand forms (types, layouts, shapes, in
# place): a worker's results beside those of llama.cpp's own CPU.
# test-options: timeout=300
. tests/interop/lib.sh
build_peer_program stock_ops.c stock_ops_cases.c

start_worker -t 2
got=0
GGML_NO_BACKTRACE=1 timeout -k 5 280 "$SHOAL_TMP/stock_ops" "$address" > "$SHOAL_TMP/ops" \
    2> "$SHOAL_TMP/err" < /dev/null || got=$?
cut -c 1-250 "$SHOAL_TMP/ops"
[ "$got" -eq 0 ] || fail "exit code $got"
stop_worker "${workers[0]}"
