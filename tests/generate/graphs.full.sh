#!/usr/bin/env bash
# Seeds that no run had before, for a minute: random graphs here, and over the wire.
# test-options: timeout=400
set -euo pipefail
programs=$SHOAL_BUILD/$SHOAL_CFG/test/tests/generate
SHOAL_SECONDS=40 "$programs/graphs_test"
SHOAL_SECONDS=20 "$programs/wire_test"
