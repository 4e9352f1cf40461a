#!/usr/bin/env bash
# bench/compare works: a round of each row with a tiny model, and the peer where it is built.  Says
# nothing about speed.
# test-options: timeout=300 no-sanitizers
set -euo pipefail

fail() {
    echo "FAILED: $*"
    cat "$SHOAL_TMP/table"
    exit 1
}
peer=$(scripts/fetch-peer.sh --bench --if-built) || peer=none
printf 'before\n<!-- bench/compare: begin -->\nold\n<!-- bench/compare: end -->\nafter\n' > "$SHOAL_TMP/doc.md"
printf '<!-- bench/compare: begin short -->\n<!-- bench/compare: end short -->\n' > "$SHOAL_TMP/short.md"
bench/compare --rounds 2 -m tests/data/models/llama-dense.gguf --prefill 16 --decode 8 --ctx 512 \
    --story 'The cat and the dog' --question 'The cat and the dog' \
    --shoal "$SHOAL" --peer "$peer" --link 300us,1gbit --json "$SHOAL_TMP/json" \
    --update "$SHOAL_TMP/doc.md" --update "$SHOAL_TMP/short.md" > "$SHOAL_TMP/table" || fail "exit code $?"

for row in unsplit '2 workers, loopback'; do
    [ "$(grep -c "^  $row " "$SHOAL_TMP/table")" -eq 4 ] || fail "not four lines of \"$row\""
done
python3 - "$SHOAL_TMP/json" "$peer" << 'EOP' || fail 'JSON'
import json, sys
d = json.load(open(sys.argv[1], encoding='utf-8'))
sides = ['shoal'] if sys.argv[2] == 'none' else ['shoal', 'peer']
for row, by_side in d['rounds'].items():
    assert sorted(by_side) == sorted(sides), (row, by_side)
    for side, rounds in by_side.items():
        assert len(rounds) == 2 and all(rounds), (row, side, rounds)
assert d['figures']['decode']['unsplit']['ours']['median'] > 0
assert d['memory']['1 worker, loopback']['shoal']['workers'][0]['RssAnon'] > 0
EOP
head -n 2 "$SHOAL_TMP/doc.md" | cmp - <(printf 'before\n<!-- bench/compare: begin -->\n') || fail 'the part before'
tail -n 2 "$SHOAL_TMP/doc.md" | cmp - <(printf '<!-- bench/compare: end -->\nafter\n') || fail 'the part after'
grep -q '^| 2 workers, loopback |' "$SHOAL_TMP/doc.md" || fail 'no table in the document'
grep -Eq '^\| 2 workers, loopback \| [0-9]+ ' "$SHOAL_TMP/short.md" || fail 'no short table'
if grep -q '^old$' "$SHOAL_TMP/doc.md"; then fail 'the old part is still there'; fi
