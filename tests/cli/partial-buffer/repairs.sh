#!/usr/bin/env bash
# verify and repair: all damage is told, with what repair would do; repair moves aside, says what, and leaves a buffer that goes on.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 20
partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b
until partial-buffer claim -q -s b >claim 2>/dev/null; do partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b; done
train <claim | partial-buffer commit -q -s b
partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b
partial-buffer verify -s b >told 2>log
[ ! -s told ] && grep -q "0 things are wrong" log || { cat told log; exit 1; }
partial-buffer repair -q -s b | grep -qx "nothing to repair"
[ ! -e b/lost+found ] || { echo "a sound buffer was changed"; exit 1; }

# Two damaged frames are both told; the dry run changes nothing.
cp -r b whole
python3 - b/journal/00000001.zst <<'PYTHON'
import re, struct, sys
path = sys.argv[1]
data = bytearray(open(path, "rb").read())
frames = [found.start() - 8 for found in re.finditer(b"APRJ", bytes(data))]
for frame in (frames[len(frames) // 2], frames[len(frames) * 3 // 4]):
    length = struct.unpack_from("<I", data, frame + 24)[0]
    data[frame + 72 + length // 2] ^= 0xFF
open(path, "wb").write(data)
PYTHON
cp -r b damaged
fails "2 things are wrong" 3 partial-buffer verify -s b
grep -q "hint: .*partial-buffer repair -s b --dry-run" stderr || { cat stderr; exit 1; }
partial-buffer verify -q -s b 2>/dev/null >told || true
expect "$(grep -c '^journal/00000001.zst, frame at offset .*: damaged$' told)" 2 "damaged places"
expect "$(grep -c '^  repair would: keep everything before this frame' told)" 2 "remedies"
fails "damaged" 3 partial-buffer stat -s b
grep -q "hint: .*partial-buffer repair" stderr || { cat stderr; exit 1; }
partial-buffer repair -q -s b --dry-run >planned
cmp b/journal/00000001.zst damaged/journal/00000001.zst && [ ! -e b/lost+found ] || { echo "--dry-run changed something"; exit 1; }
partial-buffer repair -s b >done 2>log
grep -q "the accounts balance" log && grep -q "cannot stand any more" done && grep -q "everything that was moved is in lost+found/1" done || { cat done log; exit 1; }
expect "$(grep '^[0-9]* entries behind' planned | sed 's/would be/were/')" "$(grep '^[0-9]* entries behind' done)" "what was planned"
cat b/journal/00000001.zst b/lost+found/1/00000001.zst.from-* | cmp - damaged/journal/00000001.zst
grep -q "cannot be read" b/lost+found/1/report.txt
partial-buffer verify -q -s b && partial-buffer audit -q -s b >/dev/null
partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b

# The tail: told as torn, moved aside; the rest is as it was.
rm -r b && cp -r whole b
truncate -s -5 b/journal/00000001.zst
fails "torn tail of a transaction that nobody was told had happened" 3 partial-buffer verify -s b
partial-buffer repair -q -s b >/dev/null
partial-buffer verify -q -s b && partial-buffer audit -q -s b >/dev/null

# A manifest that is gone, an unnamed file, a missing segment.
rm -r b && cp -r whole b
partial-buffer compact -q -s b
before=$(partial-buffer audit -q -s b | head -n 6)
rm b/manifest.json
echo junk >b/journal/00000099.zst
partial-buffer repair -q -s b >done
expect "$(partial-buffer audit -q -s b | head -n 6)" "$before" "the accounts after the manifest was lost"
[ -e b/lost+found/1/00000099.zst ] || { echo "an unnamed file was not moved"; cat done; exit 1; }
partial-buffer verify -q -s b >notes
last=$(python3 -c 'import json; print(json.load(open("b/manifest.json"))["segments"][0]["name"])')
rm "b/$last"
fails "is missing, but the manifest names it" 3 partial-buffer ls -s b
grep -q "repair" stderr || { cat stderr; exit 1; }
fails "missing, but the manifest names it" 3 partial-buffer verify -s b
partial-buffer repair -q -s b >/dev/null
partial-buffer verify -q -s b && partial-buffer audit -q -s b >/dev/null

# Not while a hub serves.
rm -r b && cp -r whole b
partial-buffer serve -q -s b --bind zmq+ipc://hub 2>/dev/null &
hub=$!
trap 'kill $hub 2>/dev/null || true' EXIT
until [ -S hub ]; do sleep 0.05; done
fails "is served by a hub" 1 partial-buffer repair -s b
partial-buffer verify -q -s b
partial-buffer audit -q -s b >/dev/null
kill $hub && wait $hub || true
trap - EXIT
