#!/usr/bin/env bash
# make install into a DESTDIR, then a program of a user: compiled through pkg-config, linked once
# with the shared and once with the static library, and run.
# test-options: timeout=300 serial no-sanitizers
set -euo pipefail

root=$SHOAL_TMP/root
make --no-print-directory -s "B=$SHOAL_BUILD" PREFIX=/opt/shoal DESTDIR="$root" install > /dev/null

lib="$root/opt/shoal/lib"
export PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$lib/pkgconfig
want=$(sed -n 's/^#define SHOAL_VERSION "\(.*\)"/\1/p' include/shoal/version.h)
[ "$(pkg-config --modversion shoal)" = "$want" ] || { echo "shoal.pc has another version"; exit 1; }

# The flags are words of a command line.
# shellcheck disable=SC2086
build() { "${CC:-gcc}" -std=c11 -Wall -Wextra -Werror examples/version.c $1 -o "$SHOAL_TMP/$2"; }

build "$(pkg-config --cflags --libs shoal)" shared
LD_LIBRARY_PATH=$lib "$SHOAL_TMP/shared" > "$SHOAL_TMP/shared.out"
grep -qx "libshoal $want" "$SHOAL_TMP/shared.out"
grep -q 'ERR_NOT_FOUND' "$SHOAL_TMP/shared.out"
uses=$(LD_LIBRARY_PATH=$lib ldd "$SHOAL_TMP/shared")
grep -q 'libshoal.so.0' <<< "$uses" || { echo 'the program does not use the shared library'; exit 1; }

rm "$lib"/libshoal.so*
build "$(pkg-config --static --cflags --libs shoal)" static
"$SHOAL_TMP/static" > "$SHOAL_TMP/static.out"
cmp "$SHOAL_TMP/shared.out" "$SHOAL_TMP/static.out"

if [ -e "$root/opt/shoal/bin/shoal" ]; then
    "$root/opt/shoal/bin/shoal" --version > /dev/null
fi
