#!/usr/bin/env bash
# A stock client over one and two workers writes the text that it writes alone: with flash attention
# and without, with caches of several types, whole layers and split ones; a real model.
# test-options: timeout=400 no-sanitizers
. tests/interop/lib.sh
if [ ! -f "$real" ]; then
    echo 'the small real model is not there'
    exit 77
fi
build_peer_program stock_client.c

start_worker -t 1
a=$address
start_worker -t 1
b=$address

# Prompts without small margins: the noise of rounded activations, which reaches one unit of the
# logits in this model, decides nothing there.  llama.cpp's own variants of attention differ as much
# from each other.
capital=$(ids_of 'The capital of France is')
counting=$(ids_of '1, 2, 3, 4, 5, 6,')
fox=$(ids_of 'The quick brown fox')
n=48

# alone IDS ARGUMENT...: the client's own text, which the next calls of over() compare with.
alone() {
    ids=$1
    shift
    how=("$@")
    client "$SHOAL_TMP/local" text -m "$real" --ids "$ids" -n $n "${how[@]}"
}
# over SERVERS ARGUMENT...: the same text?
over() {
    local servers=$1
    shift
    client "$SHOAL_TMP/remote" text -m "$real" --ids "$ids" -n $n "${how[@]}" --rpc "$servers" "$@"
    same_text "$SHOAL_TMP/local" "$SHOAL_TMP/remote" $n "${how[*]} ${servers//[^,]/} $*"
}

for ids in "$capital" "$counting"; do
    alone "$ids" --fa 1
    over "$a"
    over "$a,$b"
    alone "$ids" --fa 0
    over "$a"
    over "$a,$b"
done
for ids in "$counting" "$fox"; do
    alone "$ids" --fa 1 --k q8_0 --v q8_0
    over "$a"
    over "$a,$b"
    alone "$ids" --fa 1 --k q4_0 --v q4_0
    over "$a"
    over "$a,$b"
    alone "$ids" --fa 0 --k q8_0
    over "$a"
    over "$a,$b"
done
alone "$fox" --fa 1 --k f32 --v f32
over "$a,$b" --split 1,4
over "$a,$b" --chunk 7
alone "$fox" --fa 1
over "$a,$b" --tensor

for pid in "${workers[@]}"; do stop_worker "$pid"; done
