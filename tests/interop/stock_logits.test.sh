#!/usr/bin/env bash
# A stock client over workers computes the recorded logits of the small models; and what it does
# with its cache there (copies, removals, several sequences, shifts) gives what it gives alone.
# test-options: timeout=300
. tests/interop/lib.sh
build_peer_program stock_client.c

start_worker -t 2
a=$address
start_worker -t 1
b=$address
both=$a,$b

# Recorded logits: of one batch and of single tokens as exact as the record says; with a cache of
# f16 the bounds are those that belong to it.
python3 - > "$SHOAL_TMP/entries" << 'EOF2'
import json
for folder in ('tests/data/models', 'tests/data/archs'):
    for e in json.load(open(folder + '/index.json', encoding='utf-8'))['entries']:
        if e['name'].startswith('mamba'):
            continue  # its recurrent ops are not among those that a worker has
        loose = 1e-5 if e['bound'] <= 1e-8 else e['bound']
        print(folder + '/' + e['file'], folder + '/' + e['golden'], e['bound'], loose, e['n_ctx'],
              ','.join(map(str, e['tokens'])))
EOF2
n=0
while read -r file golden bound loose n_ctx ids; do
    n=$((n + 1))
    check() { # BOUND ARGUMENT...
        local most=$1
        shift
        client "$SHOAL_TMP/text" logits -m "$file" --ids "$ids" -c "$n_ctx" \
            --out "$SHOAL_TMP/logits" "$@"
        near "$SHOAL_TMP/logits" "$golden" "$most" "${file##*/} $*"
    }
    check "$bound" --fa 0 --k f32 --v f32 --rpc "$a"
    check "$bound" --fa 0 --k f32 --v f32 --rpc "$a" --chunk 1
    check "$loose" --fa 1 --rpc "$a"
    case $file in
        *w256*) ;; # one layer
        *) check "$bound" --fa 0 --k f32 --v f32 --rpc "$both" --split 1,1 ;;
    esac
done < "$SHOAL_TMP/entries"
[ "$n" -ge 9 ] || fail "only $n models"

# The cache's life, beside the client's own.  The model of blocks rounds its activations, and a
# quantised cache its keys: one that rounds the other way is a whole step of its scale.
ids=$(python3 -c "print(','.join(str(3 + i * 7 % 90) for i in range(40)))")
alike() { # BOUND MODE MODEL ARGUMENT...
    local most=$1 mode=$2 file=$models/$3 servers
    shift 3
    client "$SHOAL_TMP/text" "$mode" -m "$file" --ids "$ids" --out "$SHOAL_TMP/local" "$@"
    for servers in "$a" "$both"; do
        client "$SHOAL_TMP/text" "$mode" -m "$file" --ids "$ids" --out "$SHOAL_TMP/remote" "$@" \
            --rpc "$servers" --split 1,1
        near "$SHOAL_TMP/remote" "$SHOAL_TMP/local" "$most" "$mode $* ${servers//[^,]/}"
    done
}
for mode in memory shift; do
    alike 1e-10 $mode llama-dense.gguf --fa 0 --k f32 --v f32
    alike 1e-5 $mode llama-dense.gguf --fa 1 --k f32 --v f32 # attention takes f16 all the same
    alike 1e-5 $mode llama-dense.gguf --fa 0
    alike 1e-5 $mode llama-moe.gguf --fa 1
done
for types in '--fa 0 --k q8_0' '--fa 1 --k q8_0 --v q8_0' '--fa 1 --k q4_0 --v q4_0' \
    '--fa 1 --k q5_1 --v iq4_nl'; do
    # shellcheck disable=SC2086
    alike 1e-2 memory llama-w256-q6_k.gguf $types
done
# The stock client cannot shift a quantised cache of that model even alone; of a real one it can.
if [ -f "$real" ] && [ "$SHOAL_CFG" = release ]; then
    models=${real%/*}
    alike 1e-2 shift "${real##*/}" --fa 1 --k q8_0 --v q8_0
    alike 1e-2 shift "${real##*/}" --fa 0 --k q8_0
fi
for pid in "${workers[@]}"; do stop_worker "$pid"; done
