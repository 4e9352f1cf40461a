#!/usr/bin/env bash
# Runs make for arm64 on another machine: with the cross compiler, in build/arm64, and with the
# test programs run by qemu-user.
#
#   scripts/make-arm64.sh TARGETS...     as make, e.g. test-kernels
#   scripts/make-arm64.sh --words        only print the variables for make, one per line
#
# The compiler, its C library and qemu come with `scripts/install-deps.sh arm64`.  The libraries
# that shoal and its tests link (cmocka, jansson, pcre2, OpenSSL) are fetched once, from the package
# sources of this machine and with their signatures checked, into
# ${XDG_CACHE_HOME:-~/.cache}/shoal/arm64-2 (a new number for a new list): the system neither learns
# a second architecture nor changes a package.  Exit 77: not possible here, with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=aarch64-linux-gnu
packages=(libcmocka0 libcmocka-dev libjansson4 libjansson-dev libpcre2-8-0 libpcre2-dev libssl3 libssl-dev)
root=${XDG_CACHE_HOME:-$HOME/.cache}/shoal/arm64-2

unable() {
    echo "make-arm64: $*" >&2
    exit 77
}

# Fills the folder $1 from Debian's arm64 packages, with lists and a state of apt's of our own.
fetch_libraries() {
    local tmp=$1.$$ deb
    local apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64
        -o "Dir::State=$tmp/state" -o "Dir::State::status=$tmp/status" -o "Dir::Cache=$tmp/cache"
        -o APT::Sandbox::User=)
    command -v apt-get > /dev/null || unable 'there is no apt-get to fetch arm64 libraries with'
    mkdir -p "$tmp/state/lists/partial" "$tmp/cache/archives/partial" "$tmp/debs" "$tmp/root"
    : > "$tmp/status"
    trap 'rm -rf "$tmp"' EXIT
    "${apt[@]}" update >&2 || unable 'the lists of arm64 packages could not be fetched'
    (cd "$tmp/debs" && "${apt[@]}" download "${packages[@]}" >&2) \
        || unable "no arm64 packages could be fetched: ${packages[*]}"
    for deb in "$tmp"/debs/*.deb; do
        dpkg -x "$deb" "$tmp/root"
    done
    mkdir -p "$(dirname "$1")"
    [ -d "$1" ] || mv "$tmp/root" "$1" # another run may have been faster
    rm -rf "$tmp" # exec below leaves no time for the trap
    trap - EXIT
}

[ "$(uname -m)" != aarch64 ] || unable 'this is an arm64 machine: make needs no help here'
for tool in "$tools-gcc" qemu-aarch64; do
    command -v "$tool" > /dev/null || unable "there is no $tool: scripts/install-deps.sh arm64"
done
[ -d "$root" ] || fetch_libraries "$root"

lib=$root/usr/lib/$tools
words=(
    "CC=$tools-gcc" "AR=$tools-ar" "OBJCOPY=$tools-objcopy" "B=${B:-build}/arm64"
    "PKG_CONFIG=env PKG_CONFIG_LIBDIR=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root pkg-config"
    # The headers of the system's libraries must not warn, and what gcc guesses about null pointers
    # differs from target to target.
    "CFLAGS=-isystem $root/usr/include -isystem $root/usr/include/$tools -Wno-null-dereference"
    "LDFLAGS=-Wl,-rpath,$lib"
    "RUN=qemu-aarch64 -L /usr/$tools"
)
if [ "${1-}" = --words ]; then
    printf '%s\n' "${words[@]}"
    exit 0
fi
exec make "${words[@]}" "$@"
