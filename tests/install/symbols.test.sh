#!/usr/bin/env bash
# What libshoal shows to a linker: names of the public API, nothing else.
# test-options: timeout=300 no-sanitizers
set -euo pipefail

make --no-print-directory -s "B=$SHOAL_BUILD" libshoal > /dev/null
lib=$SHOAL_BUILD/release
found=$(nm -D --defined-only "$lib"/libshoal.so.* | awk '{print $3}' | sort)
grep -qx shoal_version <<< "$found" || { echo 'shared: shoal_version is missing'; exit 1; }
strange=$(grep -v '^shoal_' <<< "$found" || true)
[ -z "$strange" ] || { printf 'shared: not public names:\n%s\n' "$strange"; exit 1; }

found=$(nm -g --defined-only "$lib/libshoal.a" 2> /dev/null | awk 'NF == 3 {print $3}' | sort)
grep -qx shoal_version <<< "$found" || { echo 'static: shoal_version is missing'; exit 1; }
strange=$(grep -v '^shoal_' <<< "$found" || true)
[ -z "$strange" ] || { printf 'static: not public names:\n%s\n' "$strange"; exit 1; }
