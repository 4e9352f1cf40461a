#!/usr/bin/env bash
# All tests: installs what is missing, builds, checks, runs; closes with one line
# "N passed, N failed, N skipped".
#
#   ./test.sh            at most 10 minutes on two cores
#   ./test.sh --full     also the long tests, a clang and an arm64 build, and a stock llama.cpp
#                        that is built once (an hour; what CI runs)
#   ./test.sh --only X   only tests whose name contains X
set -euo pipefail
cd "$(dirname "$0")"

groups=(build test lint demo)
full=
for arg in "$@"; do
    case "$arg" in
        --full)
            groups+=(clang arm64 peer)
            full=yes
            ;;
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
    esac
done
scripts/install-deps.sh "${groups[@]}"
# The tests on a real model are skipped where it cannot be fetched.
if [ -z "${SHOAL_TEST_MODEL-}" ] && model=$(scripts/fetch-model.sh); then
    export SHOAL_TEST_MODEL=$model
fi
# So are those that talk to a stock llama.cpp where it is not built.
if [ -n "$full" ]; then
    peer=$(scripts/fetch-peer.sh) || [ -z "${CI-}" ] || exit 1
else
    peer=$(scripts/fetch-peer.sh --if-built) || true
fi
[ -z "$peer" ] || export SHOAL_PEER=$peer
exec python3 scripts/run_tests.py "$@"
