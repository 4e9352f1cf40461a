#!/usr/bin/env bash
# All tests: installs what is missing, builds, checks, runs; closes with one line
# "N passed, N failed, N skipped".
#
#   ./test.sh            at most 10 minutes on two cores
#   ./test.sh --full     also the long tests, a clang and an arm64 build (an hour; what CI runs)
#   ./test.sh --only X   only tests whose name contains X
set -euo pipefail
cd "$(dirname "$0")"

groups=(build test lint demo)
for arg in "$@"; do
    case "$arg" in
        --full) groups+=(clang arm64) ;;
        -h | --help)
            sed -n '2,7s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
    esac
done
scripts/install-deps.sh "${groups[@]}"
# The tests on a real model are skipped where it cannot be fetched.
if [ -z "${SHOAL_TEST_MODEL-}" ] && model=$(scripts/fetch-model.sh); then
    export SHOAL_TEST_MODEL=$model
fi
exec python3 scripts/run_tests.py "$@"
