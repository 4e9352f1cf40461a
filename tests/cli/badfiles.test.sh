#!/usr/bin/env bash
# Model files that are not what they should be: one sentence with the file's name, code 1, and the
# next honest request succeeds.
. tests/cli/lib.sh

good=$models/llama-dense.gguf
bad=$SHOAL_TMP/bad.gguf
honest() { tiny -n 2 --json && equal "$(json 'len(d["ids"])')" 2 'ids of an honest request'; }
refused() { # PATTERN: as a model to run and to inspect
    expect 1 run -m "$bad" -p a -n 2
    out_is_empty
    says "bad\.gguf.*$1"
    expect 1 inspect "$bad"
    out_is_empty
    says "bad\.gguf.*$1"
}

expect 1 run -m "$SHOAL_TMP/none.gguf" -p a
says 'none\.gguf: No such file'
mkdir "$SHOAL_TMP/folder.gguf"
expect 1 run -m "$SHOAL_TMP/folder.gguf" -p a
says 'folder\.gguf is not a regular file'
expect 1 run -m '' -p a
says 'cannot open|not a regular'
: > "$bad"
refused 'has 0 bytes'
head -c 64 /dev/zero > "$bad"
refused 'no GGUF file'
head -c 20000 "$SHOAL" > "$bad"
refused 'no GGUF file'

size=$(stat -c %s "$good")
for part in 23 24 100 1000 5000 "$((size / 2))" "$((size - 1))"; do
    head -c "$part" "$good" > "$bad"
    refused '.'
done

# edit PYTHON: `b` is the file as a bytearray.
edit() {
    python3 - "$good" "$bad" "$1" << 'EOF'
import struct, sys
b = bytearray(open(sys.argv[1], 'rb').read())
def put(old, new):
    at = b.index(old)
    b[at:at + len(new)] = new
exec(sys.argv[3])
open(sys.argv[2], 'wb').write(b)
EOF
}
edit 'b[4:8] = struct.pack("<I", 77)'
refused 'version 77'
edit 'b[8:16] = struct.pack("<Q", 2**63)' # tensors
refused '.'
edit 'b[16:24] = struct.pack("<Q", 2**40)' # pairs
refused '.'
edit 'at = b.index(b"blk.0.attn_q.weight") + 19; b[at + 4:at + 12] = struct.pack("<Q", 2**62)'
refused 'blk\.0\.attn_q\.weight'
edit 'at = b.index(b"blk.0.attn_q.weight") + 19; b[at + 20:at + 24] = struct.pack("<I", 4242)'
refused 'blk\.0\.attn_q\.weight.*4242'

# Well formed, and still no model that can be run.
unusable() { # PATTERN
    expect 1 run -m "$bad" -p a -n 2
    out_is_empty
    says "$1"
}
edit 'put(b"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama", b"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00zebra")'
unusable 'zebra'
edit 'put(b"blk.1.attn_q.weight", b"blk.1.attn_X.weight")'
unusable 'blk\.1\.attn_q\.weight'
edit 'put(b"gpt2", b"tpg2") if b"gpt2" in b else put(b"tokenizer.ggml.model\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama", b"tokenizer.ggml.model\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00amall")'
unusable 'amall|tpg2'

# Random bytes behind an honest start.
python3 - "$good" "$SHOAL_TMP" << 'EOF'
import random, sys
good = open(sys.argv[1], 'rb').read()
rng = random.Random(11)
for n in range(24):
    b = bytearray(good)
    for _ in range(1 + n % 8):
        b[rng.randrange(5000)] = rng.randrange(256)
    open('%s/random%d.gguf' % (sys.argv[2], n), 'wb').write(b)
EOF
for file in "$SHOAL_TMP"/random*.gguf; do
    code=0
    timeout "$limit" "$SHOAL" run -m "$file" -p a -n 2 --temp 0 --no-perf > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" || code=$?
    [ "$code" -le 1 ] || fail "exit code $code for $file"
    [ "$code" -eq 0 ] || [ "$(grep -c '^shoal: ' "$SHOAL_TMP/err")" -ge 1 ] || fail "no message for $file"
done
honest
