#!/usr/bin/env bash
# A thousand more seeds of the simulated network; one that fails prints the command that repeats it.
# test-options: timeout=600
set -euo pipefail

out=$SHOAL_TMP/out
SHOAL_SIM_SEEDS=1001-2000 "$SHOAL_BUILD/$SHOAL_CFG/test/tests/sim/network_test" > "$out" 2>&1 || {
    cat "$out"
    exit 1
}
grep 'hosts got their tokens' "$out"
