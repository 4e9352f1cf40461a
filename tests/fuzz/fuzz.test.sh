#!/usr/bin/env bash
# Runs every fuzz target for a short time, starting from its kept corpus and a fixed seed.  Where
# clang or its fuzzer is missing, the targets run the corpus once, built with the address sanitizer.
# test-options: no-sanitizers timeout=900
#
# SHOAL_FUZZ_SECONDS    for each target (6)
# SHOAL_FUZZ_REPLAY=1   act as if there were no fuzzer
#
# By hand, for longer, keeping what is found:
#   make fuzz && build/fuzz/fuzz/wire -max_total_time=600 NEW tests/fuzz/corpus/wire
set -euo pipefail

seconds=${SHOAL_FUZZ_SECONDS:-6}
build=$SHOAL_BUILD
crashes=$build/fuzz/crashes
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
export UBSAN_OPTIONS=print_stacktrace=1

# Another script may be building the same programs.
build_targets() {
    mkdir -p "$build"
    flock "$build/fuzz.lock" make --no-print-directory -s -j2 B="$build" "$@" fuzz-replay
}

has_fuzzer() {
    [ -z "${SHOAL_FUZZ_REPLAY-}" ] && command -v clang > /dev/null &&
        printf 'int LLVMFuzzerTestOneInput(const char *p, long n) { return n > 9 ? p[0] != 0 : 0; }' |
        clang -x c -fsanitize=fuzzer,address,undefined -o "$SHOAL_TMP/probe" - > /dev/null 2>&1
}

# Longest inputs: what a minute of fuzzing can still vary.
longest() {
    case "$1" in
        gguf) echo 4000 ;;
        wire | rpc) echo 2000 ;;
        *) echo 600 ;;
    esac
}

fuzz_one() { # TARGET
    local log=$SHOAL_TMP/$1.log status=0
    mkdir -p "$SHOAL_TMP/new/$1" "$crashes"
    "$build/fuzz/fuzz/$1" -seed=1 -max_total_time="$seconds" -max_len="$(longest "$1")" \
        -len_control=0 -timeout=300 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$crashes/$1-" "$SHOAL_TMP/new/$1" "tests/fuzz/corpus/$1" \
        > "$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 60 "$log"
        local found
        found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        echo "fuzz: $1 failed; to see it again: make fuzz && build/fuzz/fuzz/$1 $found"
        return 1
    fi
    sed -n "s/^#[0-9]*.*DONE *\(cov.*\)corp.*/$1: \1/p; s/^stat::number_of_executed_units: */$1: runs /p" "$log"
}

replay_one() { # TARGET
    local log=$SHOAL_TMP/$1.log status=0
    "$build/asan/fuzz/$1" "tests/fuzz/corpus/$1" > "$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 60 "$log"
        echo "fuzz: $1 failed on the last file named above; to see it again:" \
            "make CFG=asan fuzz-replay && build/asan/fuzz/$1 FILE"
        return 1
    fi
    echo "$1: $(tail -n 1 "$log")"
}

failed=0
if has_fuzzer; then
    build_targets CFG=fuzz CC=clang
    for target in gguf wire client tokenizer rpc tls; do
        fuzz_one "$target" || failed=1
    done
else
    echo "no clang with a fuzzer: the corpus only"
    build_targets CFG=asan
    for target in gguf wire client tokenizer rpc tls; do
        replay_one "$target" || failed=1
    done
fi
exit "$failed"
