#!/usr/bin/env bash
# Each check of lint can fail.
# test-options: no-sanitizers
exec scripts/lint-selftest.sh
