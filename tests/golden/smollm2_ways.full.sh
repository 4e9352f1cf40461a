#!/usr/bin/env bash
# SmolLM2: the logits of 200 positions, bit for bit, over 0, 1, 2 and 3 workers, 1 and 2 threads,
# several chunkings, and every instruction set tier that the CPU has.
# test-options: timeout=1200
. tests/cli/lib.sh
limit=600

if [ -z "${SHOAL_TEST_MODEL-}" ]; then
    echo 'the small real model is not there'
    exit 77
fi
ids=$(python3 -c 'print(",".join(str((i * 7919 + 13) % 49152) for i in range(200)))')
logits() { # FILE ARGUMENT...
    local file=$1
    shift
    expect 0 run -m "$SHOAL_TEST_MODEL" --prompt-ids "$ids" -n 0 -c 256 --no-perf --logits-out "$file" "$@"
}
same() {
    logits "$SHOAL_TMP/other" "$@"
    cmp "$SHOAL_TMP/alone" "$SHOAL_TMP/other" || fail "other logits: ${SHOAL_CPU-best tier} $*"
    echo "equal: ${SHOAL_CPU-best tier} $*"
}

logits "$SHOAL_TMP/alone" -t 1
equal "$(stat -c %s "$SHOAL_TMP/alone")" $((200 * 49152 * 4)) 'bytes of logits'
same -t 2
same -t 2 -ub 64
same -t 1 -ub 7
same -t 2 -ub 1

start_worker -t 1
a=$address
start_worker -t 2
b=$address
start_worker -t 1
c=$address
same --rpc "$a"
same --rpc "$a,$b"
same --rpc "$a,$b" -ub 33
same --rpc "$a,$b,$c"
same --rpc "$a,$b" --with-local

for tier in avx2 scalar; do
    export SHOAL_CPU=$tier
    same -t 2
    start_worker -t 2
    unset SHOAL_CPU
    same --rpc "$a,$address"
done
grep -q avx512 /proc/cpuinfo || echo 'this CPU has no AVX-512: that tier was not compared'
