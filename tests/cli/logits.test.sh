#!/usr/bin/env bash
# --logits-out: the form of the file, and its numbers beside those of another implementation.
. tests/cli/lib.sh

tiny -n 0 --json --logits-out "$SHOAL_TMP/logits"
equal "$(stat -c %s "$SHOAL_TMP/logits")" $((15 * 104 * 4)) 'bytes of 15 rows of 104'
for steps in '-ub 1' '-ub 7' '-t 1' '-ub 5 -t 2'; do
    # shellcheck disable=SC2086
    tiny -n 3 --json --logits-out "$SHOAL_TMP/other" $steps
    cmp "$SHOAL_TMP/logits" "$SHOAL_TMP/other" || fail "the logits depend on $steps"
done

# As many rows as tokens, with the error that the models' index allows.
python3 - "$models/index.json" > "$SHOAL_TMP/entries" << 'EOF'
import json, sys
for e in json.load(open(sys.argv[1]))['entries']:
    print(e['file'], e['golden'], e['bound'], ','.join(map(str, e['tokens'])))
EOF
while read -r file golden bound tokens; do
    expect 0 run -m "$models/$file" --prompt-ids "$tokens" -c 256 --cache-type f32 -n 0 --json \
        --logits-out "$SHOAL_TMP/logits"
    python3 - "$SHOAL_TMP/logits" "$models/$golden" "$bound" "$file" << 'EOF' || fail "$file"
import array, math, sys
a, b = array.array('f'), array.array('f')
a.frombytes(open(sys.argv[1], 'rb').read())
b.frombytes(open(sys.argv[2], 'rb').read())
if sys.byteorder != 'little':
    a.byteswap()
    b.byteswap()
error = sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b) if len(a) == len(b) else math.inf
print('%s: %d and %d numbers, NMSE %.3g, at most %s' % (sys.argv[4], len(a), len(b), error, sys.argv[3]))
sys.exit(not error <= float(sys.argv[3]))
EOF
done < "$SHOAL_TMP/entries"
