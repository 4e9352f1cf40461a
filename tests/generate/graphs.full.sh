#!/usr/bin/env bash
# Many more seeds than ./test.sh runs, always the same: random graphs here, and over the wire.  A
# hunt with fresh seeds is for runs by hand: SHOAL_SECONDS=600 build/asan/test/tests/generate/graphs_test
# test-options: timeout=600
set -euo pipefail
programs=$SHOAL_BUILD/$SHOAL_CFG/test/tests/generate
SHOAL_SEEDS=20000 "$programs/graphs_test"
SHOAL_SEEDS=20000 "$programs/wire_test"
