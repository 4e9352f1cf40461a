# Helpers of the interoperation tests; sourced by them after the usual ones.  They run where the
# stock llama.cpp is built (scripts/fetch-peer.sh) and are skipped elsewhere; `./test.sh --full`
# builds it.  Sets $peer, its folder, and $real, a small real model or nothing.
# shellcheck shell=bash
. tests/cli/lib.sh

interop=tests/interop
peer=${SHOAL_PEER-}
[ -n "$peer" ] || peer=$(scripts/fetch-peer.sh --if-built) || {
    echo 'llama.cpp is not built: scripts/fetch-peer.sh does it, or ./test.sh --full'
    exit 77
}
# shellcheck disable=SC2034
real=${SHOAL_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/shoal/models/SmolLM2-135M-Instruct.Q4_1.gguf}
export OMP_WAIT_POLICY=passive # threads that wait must not take the processors from the others

# build_peer_program NAME.c [MORE.c]...: these of tests/interop against llama.cpp, as
# $SHOAL_TMP/NAME.
build_peer_program() {
    local name=${1%.c}
    gcc -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Werror -isystem "$peer/include" \
        -o "$SHOAL_TMP/$name" "${@/#/$interop/}" -L "$peer/bin" -Wl,-rpath,"$peer/bin" \
        -Wl,-rpath-link,"$peer/bin" -lllama -lggml -lggml-rpc -lggml-cpu -lggml-base -lm \
        > "$SHOAL_TMP/out" 2>&1 || fail "$name does not compile"
}

# client OUTPUT ARGUMENT...: the stock client, which must succeed; what it prints goes to a file.
client() {
    local to=$1 got=0
    shift
    timeout -k 5 "$limit" "$SHOAL_TMP/stock_client" "$@" > "$to" 2> "$SHOAL_TMP/err" < /dev/null \
        || got=$?
    [ "$got" -eq 0 ] || fail "exit code $got: stock_client $*; $(tail -n 5 "$SHOAL_TMP"/worker.*)"
}

# same_text LOCAL OTHER N WHAT [LEAST]: files of "id margin" lines.  The ids must be the same N; from
# the first that LOCAL chose by less than LEAST (0.15) on they may differ, because other roundings
# may choose otherwise there.
same_text() {
    python3 "$interop/compare.py" text "$@" || fail "$4"
}
# near A B BOUND WHAT: two files of f32, B being right: NMSE at most BOUND.
near() {
    python3 "$interop/compare.py" logits "$@" || fail "$4"
}

# ids_of TEXT: the ids of the recorded prompt for the real model that begins so.
ids_of() {
    python3 - "$1" << 'EOF' || fail "no prompt $1"
import json, sys
cases = json.load(open('tests/data/smollm2-135m-q4_1.json', encoding='utf-8'))['cases']
print(next(','.join(map(str, c['prompt_ids'])) for c in cases if c['prompt'].startswith(sys.argv[1])))
EOF
}

# start_stock [ARGUMENT...]: a stock RPC server; sets $address and $pid.  It cannot
# choose a port by itself, so one that was free a moment ago is tried, and another if it was taken.
# shellcheck disable=SC2034 # $address is for the tests
start_stock() {
    local port log try
    log=$SHOAL_TMP/stock.${#workers[@]}
    for try in 1 2 3 4 5; do
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        "$peer/bin/ggml-rpc-server" -H 127.0.0.1 -p "$port" "$@" > "$log" 2>&1 < /dev/null &
        pid=$!
        workers+=("$pid")
        address=127.0.0.1:$port
        if python3 "$interop/wait_port.py" "$port" "$pid"; then return; fi
    done
    fail "no stock server after $try tries: $(tail -n 5 "$log")"
}
