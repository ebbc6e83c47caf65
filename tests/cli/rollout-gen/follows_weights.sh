#!/usr/bin/env bash
# A version that is published meanwhile is taken up between two steps: tokens know which weights made them.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
weight-sync publish -q --model "$model" --to weights --version 3
work 20 8 200 >work.bin
for kv in recompute keep; do
  version=$(cat weights/LATEST | tr -dc 0-9 | sed 's/^0*//')
  rollout-gen -q --weights weights --kv $kv --in-flight 4 --in work.bin --out out-$kv.bin --no-compress &
  pid=$!
  for ((i = 0; i < 200; ++i)); do [ -s out-$kv.bin.tmp ] && break; sleep 0.02; done
  weight-sync publish -q --model "$model" --to weights --version $((version + 1))
  wait $pid
  rollout-cat -q --json --in out-$kv.bin | python3 -c '
import json, sys
first, kv = int(sys.argv[1]), sys.argv[2]
seen, changed = set(), 0
for record in map(json.loads, sys.stdin):
    if record["type"] != "rollout": continue
    assert record["status"] == "complete"
    spans = record["weight_versions"]
    assert spans[0]["start"] == 0 and spans[-1]["end"] == len(record["tokens"])
    seen.update(span["version"] for span in spans)
    if len(spans) == 2:
        changed += 1
        assert spans[0]["end"] == spans[1]["start"] == record["segments"][1]["start"]
        assert record["segments"][1]["kv"] == kv, record["segments"]
assert seen == {first, first + 1}, seen
assert 0 < changed <= 4, changed' "$version" "$([ $kv = keep ] && echo kept || echo recomputed)"
done
