#!/usr/bin/env bash
# The release program as it is shipped: position independent, full RELRO, no executable stack.
# test-options: no-sanitizers
set -euo pipefail

program=$SHOAL_BUILD/release/shoal
[ -e "$program" ] || program=$SHOAL_BUILD/release/test/base/mem_test
head=$(readelf -hlW "$program")
dynamic=$(readelf -dW "$program")
fail() { echo "$program: $1"; exit 1; }
grep -q 'Type: *DYN' <<< "$head" || fail 'is not position independent'
grep -q 'GNU_RELRO' <<< "$head" || fail 'has no RELRO segment'
grep -Eq 'BIND_NOW|FLAGS_1.*NOW' <<< "$dynamic" || fail 'binds lazily'
grep -Eq 'GNU_STACK.* RW ' <<< "$head" || fail 'has an executable stack'
