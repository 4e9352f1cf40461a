#!/usr/bin/env bash
# Installs what is missing of the packages that shoal needs, on Debian and its kin.
#
#   scripts/install-deps.sh [build] [test] [lint] [demo] [clang] [arm64] [peer]  (default: build)
#
# Needs root or sudo only if something is missing, and names the packages before it installs them.
# Elsewhere it prints what is missing and fails.
set -euo pipefail

missing=()

# need PACKAGE COMMAND...: the package is missing unless the command succeeds.
need() {
    local package=$1
    shift
    if ! "$@" > /dev/null 2>&1; then
        case " ${missing[*]-} " in
            *" $package "*) ;;
            *) missing+=("$package") ;;
        esac
    fi
}
has() { command -v "$1"; }
links() { command -v pkg-config && pkg-config --exists "$1"; }
compiles() { command -v gcc && printf '#include <stdio.h>\n' | gcc -E -x c - ; }

group_build() {
    need gcc has gcc
    need libc6-dev compiles
    need make has make
    need pkg-config has pkg-config
    need libpcre2-dev links libpcre2-8
    need libjansson-dev links jansson
    need libssl-dev links 'libssl >= 3.0'
}
group_test() {
    need libcmocka-dev links cmocka
    need python3 has python3
}
group_lint() {
    need clang-format has clang-format
    need python3 has python3
}
group_demo() {
    need python3 has python3
    need python3-pip python3 -m pip --version
    need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
}
# The fuzzer and the sanitizers of clang are a package of their own, named after its version.
fuzzes() {
    has clang && printf 'int LLVMFuzzerTestOneInput(const char *p, long n) { return n > 9 && *p; }' |
        clang -x c -fsanitize=fuzzer,address -o /dev/null -
}
fuzzer_package() {
    local major
    major=$({ clang -dumpversion || apt-cache depends clang | sed -n 's/.*Depends: clang-//p'; } 2> /dev/null)
    echo "libclang-rt-${major%%.*}-dev"
}
group_clang() {
    need clang has clang
    need "$(fuzzer_package)" fuzzes
}
group_peer() {
    need gcc has gcc
    need libc6-dev compiles
    need g++ has g++
    need make has make
    need cmake has cmake
    need python3 has python3
    need python3-pip python3 -m pip --version
    need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
}
# Only where Debian has a cross compiler for it; an arm64 machine needs none.
group_arm64() {
    [ "$(uname -m)" = x86_64 ] || return 0
    need gcc-aarch64-linux-gnu has aarch64-linux-gnu-gcc
    need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/lib/libc.so
    need qemu-user has qemu-aarch64
}

for group in "${@:-build}"; do
    case "$group" in
        build | test | lint | demo | clang | arm64 | peer) "group_$group" ;;
        *)
            echo "install-deps: no group \"$group\"; there are: build test lint demo clang arm64 peer" >&2
            exit 2
            ;;
    esac
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if ! command -v apt-get > /dev/null; then
    echo "install-deps: missing, by their Debian names: ${missing[*]}" >&2
    echo "install-deps: there is no apt-get here; install them with this system's tool" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo > /dev/null; then
        echo "install-deps: missing packages: ${missing[*]}" >&2
        echo "install-deps: run as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "install-deps: installing ${missing[*]}" >&2
install_missing() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
}
# The lists of a fresh system are empty or old; look without them only if they already serve.
if ! apt-cache show "${missing[@]}" > /dev/null 2>&1; then
    "${as_root[@]}" apt-get update -q >&2
fi
if ! install_missing; then
    "${as_root[@]}" apt-get update -q >&2
    install_missing
fi
