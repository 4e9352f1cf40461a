#!/usr/bin/env bash
# The fuzz targets for half a minute each, and the corpus without a fuzzer.
# test-options: no-sanitizers timeout=1800
set -euo pipefail
SHOAL_FUZZ_REPLAY=1 bash tests/fuzz/fuzz.test.sh
SHOAL_FUZZ_SECONDS=30 exec bash tests/fuzz/fuzz.test.sh
