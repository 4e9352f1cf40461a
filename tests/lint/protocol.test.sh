#!/usr/bin/env bash
# docs/protocol.md has the messages that src/rpc/messages.h has; and the check can fail.
# test-options: no-sanitizers
set -euo pipefail
scripts/protocol_doc.py --check

mkdir -p "$SHOAL_TMP/docs" "$SHOAL_TMP/include/shoal" "$SHOAL_TMP/src/rpc" "$SHOAL_TMP/src/tensor"
for f in docs/protocol.md include/shoal/status.h src/rpc/messages.h src/tensor/ops.h; do
    cp "$f" "$SHOAL_TMP/$f"
done
script=$PWD/scripts/protocol_doc.py
cd "$SHOAL_TMP"
sed -i 's/F(U64,    *ack, /F(U32,    ack, /' src/rpc/messages.h
if "$script" --check 2> said; then
    echo "a changed field was not noticed"
    exit 1
fi
grep -q 'not up to date' said
"$script"
"$script" --check
