#!/usr/bin/env bash
# Versions that are published meanwhile are taken up between two steps: tokens know which weights made them.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
version=3
weight-sync publish -q --model "$model" --to weights --version $version
work 20 8 200 >work.bin
for kv in recompute keep; do
  first=$version
  rollout-gen -q --weights weights --kv $kv --in-flight 4 --in work.bin --out out-$kv.bin --no-compress &
  pid=$!
  while [ ! -s out-$kv.bin.tmp ] && [ ! -s out-$kv.bin ]; do sleep 0.01; done
  # However fast the machine is: versions keep coming for as long as it generates.
  while kill -0 $pid 2>/dev/null; do
    weight-sync publish -q --model "$model" --to weights --version $((version += 1))
  done
  wait $pid
  rollout-cat -q --json --in out-$kv.bin | python3 -c '
import json, sys
first, last, kv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
in_flight, seen, changed = 4, set(), 0
for record in map(json.loads, sys.stdin):
    if record["type"] != "rollout": continue
    assert record["status"] == "complete"
    spans = record["weight_versions"]
    versions = [span["version"] for span in spans]
    assert versions == sorted(set(versions)), versions
    assert spans[0]["start"] == 0 and spans[-1]["end"] == len(record["tokens"])
    for before, after, segment in zip(spans, spans[1:], record["segments"][1:]):
        assert before["end"] == after["start"] == segment["start"]
        assert segment["kv"] == kv, record["segments"]
    seen.update(versions)
    changed += len(spans) - 1
assert min(seen) == first and max(seen) <= last, (seen, first, last)
assert 0 < changed <= in_flight * (len(seen) - 1), (changed, seen)' "$first" "$version" "$([ $kv = keep ] && echo kept || echo recomputed)"
done
