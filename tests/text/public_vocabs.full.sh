#!/usr/bin/env bash
# All cases of the public vocabularies, fetched once into the build folder (77 MB) unless
# SHOAL_VOCAB_DIR names a folder that has them.
# test-options: no-sanitizers timeout=900
set -euo pipefail
dir=${SHOAL_VOCAB_DIR:-$SHOAL_BUILD/public-vocabs}
if ! ls "$dir"/*.out >/dev/null 2>&1; then
    if ! tests/text/fetch_vocabs.sh "$dir"; then
        echo "the public vocabularies cannot be fetched"
        exit 77
    fi
fi
SHOAL_VOCAB_DIR=$dir "$SHOAL_BUILD/$SHOAL_CFG/test/tests/text/public_vocab_test"
