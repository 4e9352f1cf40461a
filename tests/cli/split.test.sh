#!/usr/bin/env bash
# One machine, or one, two and three workers, with and without the host's own processor, in any
# steps: the same ids and bit for bit the same logits.  And what crosses the network.
# test-options: timeout=300
. tests/cli/lib.sh

start_worker -t 1
a=$address
start_worker -t 2
b=$address
start_worker -t 1
c=$address

# same MODEL PROMPT ARGUMENT...: as alone?
same() {
    local model=$1 prompt=$2
    shift 2
    expect 0 run -m "$model" -p "$prompt" -n 16 --temp 0 --json --logits-out "$SHOAL_TMP/split" "$@"
    equal "$(json 'd["ids"]')" "$want" "ids with $*"
    cmp "$SHOAL_TMP/split" "$SHOAL_TMP/alone" || fail "other logits with $*"
}
compare() { # MODEL PROMPT N_LAYERS
    expect 0 run -m "$1" -p "$2" -n 16 --temp 0 --json --logits-out "$SHOAL_TMP/alone"
    want=$(json 'd["ids"]')
    same "$1" "$2" -t 1
    same "$1" "$2" -ub 3
    same "$1" "$2" --rpc "$a"
    same "$1" "$2" --rpc "$b" -ub 5
    [ "$3" -ge 2 ] || return 0
    same "$1" "$2" --rpc "$a,$b"
    equal "$(json '[s["steps"] >= 16 and min(s["bytes_in"], s["bytes_out"], s["compute_ms"]) > 0 for s in d["stages"]]')" \
        '[True, True]' 'figures of stages'
    same "$1" "$2" --rpc "$a" --with-local
    equal "$(json 'len(d["plan"])')" 2 'devices with --with-local'
    [ "$3" -ge 3 ] || return 0
    same "$1" "$2" --rpc "$a,$b,$c"
    same "$1" "$2" --rpc "$a,$b,$c" --layers "1,$(($3 - 2)),1" -ub 7
    same "$1" "$2" --rpc "$a,$b" --with-local
}
for model in "$models"/*.gguf; do
    layers=2
    case $model in
        *w256*) layers=1 ;;
        *moe*) continue ;;
    esac
    compare "$model" 'The cat and the dog' "$layers"
done

# Over this protocol the outputs of experts are added in another order: the same up to rounding.
expect 0 run -m "$models/llama-moe.gguf" -p 'The cat' -n 0 --json --logits-out "$SHOAL_TMP/alone"
for servers in "$a" "$a,$b"; do
    expect 0 run -m "$models/llama-moe.gguf" -p 'The cat' -n 0 --json --logits-out "$SHOAL_TMP/split" \
        --rpc "$servers"
    python3 - "$SHOAL_TMP/alone" "$SHOAL_TMP/split" << 'EOF' || fail "experts over $servers"
import array, sys
a, b = array.array('f'), array.array('f')
a.frombytes(open(sys.argv[1], 'rb').read())
b.frombytes(open(sys.argv[2], 'rb').read())
error = sum((x - y) ** 2 for x, y in zip(a, b)) / sum(x * x for x in a)
print('experts: NMSE %.3g of %d and %d numbers' % (error, len(a), len(b)))
sys.exit(len(a) != len(b) or not error <= 1e-11)
EOF
done

expect 2 run -m "$models/llama-dense.gguf" -p a --rpc "$a,$b" --layers 1
expect 1 run -m "$models/llama-dense.gguf" -p a --rpc "$a,$b" --layers 1,2
says '3|layers'

# Scalar kernels here, others there.
expect 0 run -m "$models/llama-dense-q4_0.gguf" -p 'The cat' -n 16 --temp 0 --json --logits-out "$SHOAL_TMP/alone"
want=$(json 'd["ids"]')
for tier in scalar avx2 avx512; do
    export SHOAL_CPU=$tier
    same "$models/llama-dense-q4_0.gguf" 'The cat'
    same "$models/llama-dense-q4_0.gguf" 'The cat' --rpc "$a" --with-local
done
unset SHOAL_CPU

# One round trip per server and token: 20 more tokens cost 20 more.
trips() {
    expect 0 run -m "$models/llama-dense.gguf" -p 'The cat and the dog' -n "$1" --temp 0 \
        --json --rpc "$a,$b"
    equal "$(json 'len(d["ids"])')" "$1" 'ids'
    json '" ".join(str(n["round_trips"]) for n in d["network"])'
}
read -r a10 b10 <<< "$(trips 10)"
read -r a30 b30 <<< "$(trips 30)"
equal "$((a30 - a10)) $((b30 - b10))" '20 20' 'round trips of 20 tokens'

# The same with a real model, where there is one.
real=${SHOAL_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/shoal/models/SmolLM2-135M-Instruct.Q4_1.gguf}
if [ -f "$real" ] && [ "$SHOAL_CFG" = release ]; then
    compare "$real" 'The capital of France is' 30
fi
