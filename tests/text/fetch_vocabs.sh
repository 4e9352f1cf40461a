#!/usr/bin/env bash
# Fill a folder with public vocabularies and their cases, for public_vocab_test:
#
#   tests/text/fetch_vocabs.sh DIR && SHOAL_VOCAB_DIR=DIR build/release/test/tests/text/public_vocab_test
#
# They come with the source package of llama-cpp-python (MIT; the vocabularies belong to their
# models and are fetched, not kept here).  Needs python3 with pip; downloads 77 MB.
set -euo pipefail
dir=${1:?usage: $0 DIR}
version=0.3.36
mkdir -p "$dir"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" download -q --no-deps --no-binary :all: "llama-cpp-python==$version" -d "$tmp"
tar -xzf "$tmp"/llama_cpp_python-*.tar.gz --wildcards --strip-components=4 -C "$dir" \
    '*/vendor/llama.cpp/models/ggml-vocab-*'
echo "$(ls "$dir"/*.out | wc -l) vocabularies with cases in $dir"
