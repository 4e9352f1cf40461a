#!/usr/bin/env bash
# `shoal bench`: its tables and its JSON, alone and over two workers, and what it refuses.
# test-options: timeout=300
. tests/cli/lib.sh

model=$models/llama-dense.gguf
bench() { expect 0 bench -m "$model" -t 1 -r 2 "$@"; }

# Alone: a row per test, aligned, and nothing about ways.
bench -p 8,16 -n 4 -d 0,8 -ub 0,5
equal "$(grep -Ec '^pp(8|16)( @ d8)? ' "$SHOAL_TMP/out")" 8 'rows of prompts'
equal "$(grep -Ec '^tg4( @ d8)? ' "$SHOAL_TMP/out")" 2 'rows of texts'
out_has '^stage +device +layers'
equal "$(grep -c 'round trip' "$SHOAL_TMP/out")" 0 'a table of ways'
at=$(grep -n '^test ' "$SHOAL_TMP/out" | cut -d: -f1)
tail -n "+$at" "$SHOAL_TMP/out" | python3 -c '
import sys
lines = sys.stdin.read().split("\n\n")[0].splitlines()
end = lines[0].index("steps") + 5
assert all(line[end - 1].isdigit() and line[end] == " " for line in lines[1:]), lines'

# Figures that fit together.
bench -p 8 -n 6 -npl 3 --json
equal "$(json 'len(d["plan"]), len(d["tests"]), d["links"]')" '(1, 3, [])'
equal "$(json '[t["test"] for t in d["tests"]]')" "['pp8', 'tg6', 'tg6 x3']"
equal "$(json '[t["steps"] for t in d["tests"]]')" '[1, 6, 6]'
equal "$(json 'all(len(t["values"]) == 2 and min(t["values"]) > 0 for t in d["tests"])')" True
equal "$(json 'all(0 < t["bound_ms"]["median"] for t in d["tests"])')" True
# Two values: the median is their mean.
equal "$(json 'all(abs(sum(t["values"]) / 2 / t["tokens_per_second"]["median"] - 1) < 1e-6 for t in d["tests"])')" True
equal "$(json 'all(0 < t["of_bound"]["low"] <= t["of_bound"]["median"] <= t["of_bound"]["high"] <= 1.01 for t in d["tests"])')" True
equal "$(json 'abs(d["tests"][2]["took_ms"]["median"] * d["tests"][2]["tokens_per_second"]["median"] / 3000 - 1) < 0.5')" True
equal "$(json '"p99_ms" in d["tests"][0]')" False

# Over two workers: every way, and groups.
start_worker -t 1
a=$address
start_worker -t 1
b=$address
bench -p 40 -ub 8 -n 4 -npl 4 -d 10 --workers "$a,$b" -o json
equal "$(json '[t["test"] for t in d["tests"]]')" \
    "['pp40 @ d10', 'tg4 @ d10', 'tg4 x4 @ d10', 'tg4 x4, 2 groups in turn @ d10', 'tg4 x4, 2 groups @ d10']"
equal "$(json '[t["steps"] for t in d["tests"]]')" '[5, 4, 4, 8, 8]'
equal "$(json '[len(t["compute_ms"]) for t in d["tests"]]')" '[2, 2, 2, 2, 2]'
equal "$(json 'all(t["hops_ms"] > 0 for t in d["tests"][1:])')" True
equal "$(json 'd["plan"][0]["direct"]')" True
equal "$(json 'sorted(set((w["from"], w["to"], w["relayed"]) for w in d["links"]))')" \
    '[(-1, 0, False), (-1, 1, False), (0, 1, False), (0, 1, True)]'
equal "$(json 'all(w["one_way_us"] > 0 and w["bytes_per_second"] > 0 for w in d["links"])')" True
equal "$(json 'len(set(w["bytes"] for w in d["links"]))')" 3 'sizes of frames'
bench -p 0 -n 4 -npl 5 --groups 2,3 --workers "$a,$b" --no-links -o json
equal "$(json '[t["steps"] for t in d["tests"]]')" '[4, 4, 8, 8, 12, 12]'
bench -p 0 -n 4 -npl 5 --groups 2 --no-turns --workers "$a,$b" --no-links -o json
equal "$(json '[(t["n_groups"], t["in_flight"]) for t in d["tests"]]')" '[(1, 1), (1, 1), (2, 2)]'
bench -p 8 -n 4 --workers "$a" --with-local --relay --no-links
out_has '^ +1 +CPU'
equal "$(grep -c 'round trip' "$SHOAL_TMP/out")" 0 'a table of ways'
# llama.cpp's protocol takes part, without a bound.
bench -p 0 -n 4 --rpc "$a" --json
equal "$(json '"bound_ms" in d["tests"][0], len(d["tests"])')" '(False, 1)'
stop_worker "${workers[0]}"
stop_worker "${workers[1]}"

# What is refused.
expect 2 bench
says 'which model'
expect 2 bench -m "$model" -p 0 -n 0
says 'leave no test'
expect 2 bench -m "$model" -r 0
expect 2 bench -m "$model" -npl 65
expect 2 bench -m "$model" -p 8,x
expect 2 bench -m "$model" --groups 2
expect 2 bench -m "$model" -npl 4 --groups 3
says '3 groups'
expect 2 bench -m "$model" --wire f16
says '--workers'
expect 2 bench -m "$model" -pg 8,8
expect 2 bench -m "$model" --with-local
expect 2 bench -m "$model" --rpc 127.0.0.1:1 --layers 1,1
expect 1 bench -m "$model" -p 1000000 -n 0
says '1000000 tokens are more than'
expect 1 bench -m "$SHOAL_TMP/none.gguf"
expect 1 bench -m "$model" --workers 127.0.0.1:1
out_is_empty
