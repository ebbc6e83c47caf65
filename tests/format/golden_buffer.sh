# Every build reads the golden buffer, proves it sound, goes on with it, and upgrades it to a copy that is the same.
set -euo pipefail
golden=$APRIL_SOURCE/formats/golden/v1/buffer
cp -r "$golden" b
# Without what tells the time, or depends on it.
seen() { partial-buffer ls -q -s "$1" --json | python3 -c '
import json, sys
keep = ("uid", "group_id", "index", "state", "group_state", "tokens", "resumes", "leases", "reward", "oldest_version", "newest_version", "worker")
for line in sys.stdin:
    rollout = json.loads(line)
    print(json.dumps({key: rollout[key] for key in keep}))'; }
seen b | cmp - "$APRIL_SOURCE/formats/golden/v1/buffer.json"
partial-buffer verify -q -s b
partial-buffer audit -q -s b >audit
partial-buffer upgrade b copy
seen copy | cmp - "$APRIL_SOURCE/formats/golden/v1/buffer.json"
partial-buffer verify -q -s copy
partial-buffer audit -q -s copy >audit
for buffer in b copy; do
  partial-buffer take -q -s $buffer --worker w --rollouts 2 | rollout-cat -q --check >/dev/null
done
seen b >b.seen
seen copy | cmp - b.seen
status=0
partial-buffer upgrade b copy 2>message || status=$?
[ $status -eq 2 ]
grep -q "copy is not empty" message
