#!/usr/bin/env bash
# Fifty seeds of faults between real processes (fewer under the sanitizers); one that fails prints
# the command that repeats it.
# test-options: timeout=400
set -euo pipefail

seeds=50
[ "$SHOAL_CFG" = release ] || seeds=12
exec python3 tests/sim/processes.py 1 "$seeds"
