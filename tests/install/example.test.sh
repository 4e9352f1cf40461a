#!/usr/bin/env bash
# A program on the installed library generates what the program shoal generates.
# test-options: timeout=300 serial no-sanitizers
set -euo pipefail

root=$SHOAL_TMP/root
make --no-print-directory -s "B=$SHOAL_BUILD" PREFIX=/opt/shoal DESTDIR="$root" install > /dev/null
lib="$root/opt/shoal/lib"
export PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib

# The flags are words of a command line.
# shellcheck disable=SC2046
"${CC:-gcc}" -std=c11 -Wall -Wextra -Werror examples/generate.c \
    $(pkg-config --cflags --libs shoal) -o "$SHOAL_TMP/generate"

model=tests/data/models/llama-dense.gguf
"$SHOAL_TMP/generate" "$model" 'The cat and the dog' > "$SHOAL_TMP/example"
"$root/opt/shoal/bin/shoal" run -m "$model" -p 'The cat and the dog' -n 32 --temp 0 --no-perf > "$SHOAL_TMP/program"
cmp "$SHOAL_TMP/example" "$SHOAL_TMP/program"

code=0
"$SHOAL_TMP/generate" "$SHOAL_TMP/none.gguf" x 2> "$SHOAL_TMP/err" || code=$?
[ "$code" -eq 1 ] && grep -q 'none.gguf' "$SHOAL_TMP/err"
