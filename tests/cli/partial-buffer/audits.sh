#!/usr/bin/env bash
# audit: the table adds up, also after a compaction; what is wrong gets exit 3 and names repair.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
adds_up() {
  partial-buffer audit -q -s b >table
  grep -q "^clean: journaled = trained + held + dropped + superseded; " table || { cat table; exit 1; }
  awk '/^journaled/ {r = $2; t = $3} /^(trained|held|dropped|superseded)/ {r -= $2; t -= $3; n++} END {exit r != 0 || t != 0 || n != 4}' table ||
    { echo "the table does not add up"; cat table; exit 1; }
}
make 20
adds_up
partial-buffer take -q -s b --worker w | generate >late
partial-buffer take -q -s b --worker w >/dev/null
partial-buffer put -q -s b --in late
until partial-buffer claim -q -s b >claim 2>/dev/null; do partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b; done
adds_up
train <claim | partial-buffer commit -q -s b
adds_up
partial-buffer audit -q -s b --json >before
python3 - <<'PYTHON'
import json
report = json.load(open("before"))
assert report["clean"] and report["trained"]["tokens"] > 0 and report["superseded"]["rollouts"] > 0 and report["commits"] == 1, report
PYTHON
partial-buffer compact -q -s b
adds_up
partial-buffer audit -q -s b --json >after
python3 - <<'PYTHON'
import json
before, after = (json.load(open(name)) for name in ("before", "after"))
for account in "journaled", "trained", "held", "dropped", "dropped_for", "superseded":
    assert before[account] == after[account], (before, after)
PYTHON
segment=$(python3 -c 'import json; print(json.load(open("b/manifest.json"))["segments"][0]["name"])')
printf '\xff' | dd of="b/$segment" bs=1 seek=300 conv=notrunc status=none
fails "is damaged\|: damaged" 3 partial-buffer audit -s b
grep -q "hint: .*partial-buffer repair" stderr || { cat stderr; exit 1; }
