#!/usr/bin/env bash
# Everything is finished; the result does not depend on slots, threads, pipes or order; the counts add up.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"

work 10 4 40 >work.bin
rollout-gen --model "$model" --in work.bin --out whole.zst --metrics metrics.jsonl 2>log
expect "$(count whole.zst complete)" 40 "finished rollouts"
grep -q "read 40, finished 40, partial 0, queued 0, failed 0, passed 0; [0-9,]* tokens, [0-9,]* tokens/s" log || { cat log; exit 1; }
python3 - <<'PY'
import json
lines = [json.loads(line) for line in open("metrics.jsonl")]
last = lines[-1]
assert last["finished"] == last["read"] == 40 and last["tokens"] == last["finished_tokens"] > 400 and 0 < last["occupancy"] <= 1, last
assert 0 < last["length_finishes"] < 40, last
assert 0 < last["decode_tokens"] < last["tokens"] and last["decode_s"] > 0, last  # the step that reads the prompts makes tokens, too
PY

content whole.zst >whole
expect "$(wc -l <whole)" 40 "lines of content"
for options in "--in-flight 1" "--in-flight 7 --threads 2 --prefill-rows 3" "--in-flight 64 --threads 1"; do
  rollout-gen -q --model "$model" $options <work.bin >other.bin
  content other.bin | cmp -s whole - || { echo "other tokens or log-probabilities with $options"; exit 1; }
  rollout-cat -q --canonical --in other.bin >other.canonical
  rollout-cat -q --canonical --in whole.zst | cmp -s other.canonical - || { echo "another canonical stream with $options"; exit 1; }
done
rollout-cat -q --in @zmq+ipc://socket --out through.zst &
rollout-gen -q --model "$model" --in work.bin --out zmq+ipc://socket
wait $!
rollout-cat -q --canonical --in through.zst | cmp -s other.canonical - || { echo "another canonical stream through ZeroMQ"; exit 1; }

rollout-gen -q --model "$model" --kernels portable --precision f32 --in work.bin --out portable.zst
expect "$(count portable.zst complete)" 40 "finished with portable kernels"

# Truncated sampling records both log-probabilities, greedy needs no luck.
work 2 2 12 --top-k 5 | rollout-gen -q --model "$model" --out topk.zst
has topk.zst '"sampled_logprobs"' || { echo "no sampled_logprobs with --top-k"; exit 1; }
work 2 3 12 --temperature 0 | rollout-gen -q --model "$model" --out greedy.zst
expect "$(rollout-cat -q --json --in greedy.zst | python3 -c 'import json, sys
print(len({json.dumps([r["group_id"], r["tokens"]]) for r in map(json.loads, sys.stdin) if r["type"] == "rollout"}))')" 2 "different greedy responses of 2 prompts"
