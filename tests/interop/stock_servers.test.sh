#!/usr/bin/env bash
# `shoal run` over stock RPC servers, one and two, and one beside a worker: the recorded logits, and
# the text that it writes alone.
# test-options: timeout=400
. tests/interop/lib.sh

start_stock -t 1
s=$address
start_stock -t 1
t=$address
start_worker -t 1
a=$address

while read -r file golden bound tokens; do
    for servers in "$s" "$s,$t" "$a,$s"; do
        case $file in *w256*) [ "$servers" = "$s" ] || continue ;; esac # one layer
        expect 0 run -m "$models/$file" --prompt-ids "$tokens" -c 256 --cache-type f32 -n 0 --json \
            --logits-out "$SHOAL_TMP/logits" --rpc "$servers"
        near "$SHOAL_TMP/logits" "$models/$golden" "$bound" "$file over $servers"
    done
done < <(python3 - "$models/index.json" << 'EOF2'
import json, sys
for e in json.load(open(sys.argv[1], encoding='utf-8'))['entries']:
    print(e['file'], e['golden'], e['bound'], ','.join(map(str, e['tokens'])))
EOF2
)

# alone MODEL IDS: our own unsplit text with its margins; over SERVERS LEAST: the same, up to the
# first margin below LEAST?
n=48
alone() {
    model=$1 prompt=$2
    local ids
    expect 0 run -m "$model" --prompt-ids "$prompt" -n $n --temp 0 --json
    equal "$(json 'len(d["ids"])')" $n 'tokens'
    ids=$(json '",".join(map(str, d["ids"]))')
    expect 0 run -m "$model" --prompt-ids "$prompt,$ids" -n 0 --logits-out "$SHOAL_TMP/logits"
    python3 "$interop/compare.py" margins "$SHOAL_TMP/logits" \
        $(($(tr -cd , <<< "$prompt" | wc -c))) "$ids" > "$SHOAL_TMP/local"
}
over() {
    expect 0 run -m "$model" --prompt-ids "$prompt" -n $n --temp 0 --json --rpc "$1"
    json '"\n".join("%d 0" % i for i in d["ids"])' > "$SHOAL_TMP/remote"
    same_text "$SHOAL_TMP/local" "$SHOAL_TMP/remote" $n "${model##*/} over $1" "$2"
}
alone "$models/llama-dense.gguf" "$(python3 -c "print(','.join(str(3 + i * 7 % 90) for i in range(40)))")"
for servers in "$s" "$s,$t" "$t,$a"; do over "$servers" 0.001; done

# A real model, up to margins that the rounding of activations may bridge.
if [ -f "$real" ] && [ "$SHOAL_CFG" = release ]; then
    for text in 'The capital of France is' '1, 2, 3, 4, 5, 6,' 'The quick brown fox'; do
        alone "$real" "$(ids_of "$text")"
        for servers in "$s" "$s,$t" "$s,$a" "$a,$t"; do over "$servers" 0.15; done
    done
fi
for pid in "${workers[@]}"; do kill -0 "$pid" || fail 'a server has ended'; done
