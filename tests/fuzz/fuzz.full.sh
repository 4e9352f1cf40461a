#!/usr/bin/env bash
# The fuzz targets for a minute each, and the corpus without a fuzzer.
# test-options: no-sanitizers timeout=1800
set -euo pipefail
SHOAL_FUZZ_REPLAY=1 bash tests/fuzz/fuzz.test.sh
SHOAL_FUZZ_SECONDS=60 exec bash tests/fuzz/fuzz.test.sh
