#!/usr/bin/env bash
# Builds the llama.cpp that the tests of interoperation talk to, and prints its folder.
#
#   scripts/fetch-peer.sh [--bench] [--if-built]
#
#   --bench      also llama-bench and llama-completion, for measurements
#   --if-built   never fetch or build; exit 1 if it is not there
#
# The source comes from PyPI, inside the package llama-cpp-python; its SHA-256 is checked.  Only
# what is needed is built: the CPU, the RPC protocol, libllama and the RPC server.  That takes about
# four minutes on two cores, once; the result is kept in ${XDG_CACHE_HOME:-~/.cache}/shoal/peer, in
# a folder of its own per version and instruction set:
#   bin/        ggml-rpc-server, the libraries, with --bench the two programs
#   include/    the headers
#   about       version, flags and compiler
# It appears under its name when it is whole.  scripts/install-deps.sh peer installs what it needs.
set -euo pipefail

version=0.3.36
sha256='832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e'
archive=llama_cpp_python-$version.tar.gz
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shoal/peer

fail() {
    echo "fetch-peer: $*" >&2
    exit 1
}
bench=
if_built=
for arg in "$@"; do
    case $arg in
        --bench) bench=yes ;;
        --if-built) if_built=yes ;;
        *) fail "no option \"$arg\"; there are: --bench --if-built" ;;
    esac
done

# The instruction set: what this processor has and shoal's kernels use too.  Never AMX.
cpu_has() {
    local flag
    for flag in "$@"; do grep -qw -- "$flag" <<< "$cpu_flags" || return 1; done
}
cpu_flags=$(grep -m1 '^flags' /proc/cpuinfo 2> /dev/null || true)
tier=$(uname -m)
flags=(-DGGML_NATIVE=OFF)
if [ "$tier" = x86_64 ]; then
    avx2=OFF avx512=OFF vnni=OFF
    if cpu_has avx2 fma f16c bmi2; then avx2=ON tier=avx2; fi
    if [ $avx2 = ON ] && cpu_has avx512f avx512cd avx512bw avx512dq avx512vl; then
        avx512=ON tier=avx512
        if cpu_has avx512_vnni; then vnni=ON tier=avx512vnni; fi
    fi
    for name in AVX AVX2 FMA F16C BMI2; do flags+=("-DGGML_$name=$avx2"); done
    flags+=("-DGGML_AVX512=$avx512" "-DGGML_AVX512_VNNI=$vnni")
fi
flags+=(-DGGML_RPC=ON -DCMAKE_BUILD_TYPE=Release -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON)
# Parts that are never built still take part in the configuration: only what the targets need.
flags+=(-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF)
flags+=(-DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_ALL_WARNINGS=OFF)
folder=$cache/$version-$tier
targets=(llama ggml-rpc-server)
programs=(ggml-rpc-server)
if [ -n "$bench" ]; then
    targets+=(llama-bench llama-completion)
    programs+=(llama-bench llama-completion)
fi

is_built() {
    local program
    [ -f "$folder/about" ] || return 1
    for program in "${programs[@]}"; do [ -x "$folder/bin/$program" ] || return 1; done
}
if is_built; then
    printf '%s\n' "$folder"
    exit 0
fi
[ -z "$if_built" ] || exit 1

mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9 # one builds, the others wait for it
if is_built; then
    printf '%s\n' "$folder"
    exit 0
fi
tmp=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
# With a sanitizer's or a test's variables a compiler would build something else.
unset CFLAGS CXXFLAGS CPPFLAGS LDFLAGS MAKEFLAGS MFLAGS MAKELEVEL CC CXX

source=$cache/$archive
is_source() { [ -f "$1" ] && echo "$sha256  $1" | sha256sum -c --status 2> /dev/null; }
if ! is_source "$source"; then
    echo "fetching llama-cpp-python $version from PyPI (about 77 MB, once)" >&2
    python3 -m pip download -q --no-deps --no-binary llama-cpp-python \
        --disable-pip-version-check --dest "$tmp" "llama-cpp-python==$version" >&2 \
        || fail 'the source could not be fetched; is there a network?'
    is_source "$tmp/$archive" || fail "$archive is not the expected one: its SHA-256 differs"
    mv "$tmp/$archive" "$source"
fi
echo "building llama.cpp ($tier), once" >&2
tar -xzf "$source" -C "$tmp" "${archive%.tar.gz}/vendor/llama.cpp"
top=$tmp/${archive%.tar.gz}/vendor/llama.cpp
log=$cache/build-$tier.log
jobs=${SHOAL_PEER_JOBS:-$(nproc)}
if ! { cmake -S "$top" -B "$tmp/build" "${flags[@]}" \
    && cmake --build "$tmp/build" -j "$jobs" --target "${targets[@]}"; } > "$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "llama.cpp could not be built; all of the log: $log"
fi

mkdir -p "$tmp/done/bin" "$tmp/done/include"
for program in "${programs[@]}"; do cp "$tmp/build/bin/$program" "$tmp/done/bin/"; done
cp -P "$tmp/build/bin/"*.so* "$tmp/done/bin/"
cp "$top/include/"*.h "$top/ggml/include/"*.h "$tmp/done/include/"
{
    printf 'llama-cpp-python %s\n' "$version"
    printf '%s\n' "${flags[*]}"
    cc --version | head -n 1
} > "$tmp/done/about"
# A folder without the programs of --bench gives way to one that has them.
[ ! -e "$folder" ] || mv "$folder" "$tmp/replaced"
mv -T "$tmp/done" "$folder"
printf '%s\n' "$folder"
