#!/usr/bin/env bash
# A second clone in a folder with spaces, as an ordinary user: it builds, its program runs, and its
# quick tests pass.
# test-options: timeout=1500 no-sanitizers
set -euo pipefail

git rev-parse --git-dir > /dev/null 2>&1 || { echo 'this is not a git clone'; exit 77; }
[ -z "$(git rev-parse --show-prefix)" ] || { echo 'this is not the root of a git clone'; exit 77; }

# Root tests as nobody: build and tests must not need more.
as_user=()
if [ "$(id -u)" -eq 0 ]; then
    as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    "${as_user[@]}" true || { echo 'cannot become an ordinary user'; exit 77; }
fi
home="$SHOAL_TMP/a user"
mkdir "$home"
git clone -q --no-hardlinks . "$home/my shoal"
[ "${#as_user[@]}" -eq 0 ] || chown -R 65534:65534 "$home"
chmod 755 "$SHOAL_TMP"
cd "$home/my shoal"
# The interpreters of the outer user may lie where this one may not look.
run() { "${as_user[@]}" env HOME="$home" PATH=/usr/local/bin:/usr/bin:/bin "$@"; }

run make --no-print-directory -s -j2 all tests-base
run build/release/test/base/file_test
run python3 scripts/lint.py --only includes
[ ! -e build/release/shoal ] || run build/release/shoal --version
run make --no-print-directory -s DESTDIR="$home/a root" PREFIX=/usr install > /dev/null
[ -e "$home/a root/usr/include/shoal/status.h" ]
