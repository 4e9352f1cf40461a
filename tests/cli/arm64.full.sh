#!/usr/bin/env bash
# The arm64 program under qemu: alone, and as a worker of this machine's program.  The same ids and
# bit for bit the same logits, with and without its fast kernels.
# test-options: timeout=600 no-sanitizers
. tests/cli/lib.sh
limit=200

if ! words=$(B=$SHOAL_BUILD scripts/make-arm64.sh --words); then
    echo 'no arm64 programs can be made or run here'
    exit 77
fi
B=$SHOAL_BUILD scripts/make-arm64.sh -j2 all > "$SHOAL_TMP/make" 2>&1 \
    || fail "the arm64 build: $(tail -n 20 "$SHOAL_TMP/make")"
native=$SHOAL
foreign=$SHOAL_TMP/shoal-arm64
emulator=$(sed -n 's/^RUN=//p' <<< "$words")
printf '#!/bin/sh\nexec %s "%s/arm64/release/shoal" "$@"\n' "$emulator" "$SHOAL_BUILD" > "$foreign"
chmod +x "$foreign"

SHOAL=$foreign
start_worker -t 2
arm=$address
SHOAL=$native
start_worker -t 1
near=$address

generate() { # MODEL LOGITS ARGUMENT...
    local model=$1 logits=$2
    shift 2
    expect 0 run -m "$model" -p 'The cat and the dog' -n 16 --temp 0 --json --logits-out "$logits" "$@"
}
same() { # MODEL ARGUMENT...
    generate "$1" "$SHOAL_TMP/other" "${@:2}"
    equal "$(json 'd["ids"]')" "$want" "ids of $SHOAL $*"
    cmp "$SHOAL_TMP/other" "$SHOAL_TMP/alone" || fail "other logits: $SHOAL ${SHOAL_CPU-} $*"
}
for model in "$models"/*.gguf tests/data/archs/*.gguf; do
    generate "$model" "$SHOAL_TMP/alone" -t 1
    want=$(json 'd["ids"]')
    SHOAL=$foreign same "$model" -t 2
    case $model in
        *moe* | *mamba2*) ;; # over servers another order of sums, and not at all
        *w256*) same "$model" --rpc "$arm" ;;
        *) same "$model" --rpc "$arm,$near" ;;
    esac
done

model=$models/llama-dense-q4_0.gguf
generate "$model" "$SHOAL_TMP/alone" -t 1
want=$(json 'd["ids"]')
for tier in scalar neon; do SHOAL=$foreign SHOAL_CPU=$tier same "$model" -ub 3; done
QEMU_CPU=cortex-a53 SHOAL=$foreign same "$model" -t 2
SHOAL=$foreign same "$model" --rpc "$near"
QEMU_CPU=cortex-a53 SHOAL=$foreign expect 0 version
out_has neon
