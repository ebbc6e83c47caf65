#!/usr/bin/env bash
# training_memory.sh PEERS: peak memory of grpo-step on steps of at least 16,384 tokens, publishing and a checkpoint included; then, on the same rollouts, how
# many values of the new weights and of the optimiser's state differ between micro-batches of 512, 2,048 and 16,384 tokens on 1 and 2 threads.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
need_programs partial-buffer rollout-gen grpo-step bench_update
model=$peers/model/hf
record_addition "$work/rollouts.stream" 40
bench_update claims "$work/rollouts.stream" 40 2 "$work/claims.stream"
python3 - "$work/metrics.jsonl" grpo-step -q --model "$model" --from "$work/checkpoints" --publish "$work/weights" --in "$work/claims.stream" \
  --out "$work/steps.stream" --metrics "$work/metrics.jsonl" <<'PY'
import json, resource, subprocess, sys
metrics, *command = sys.argv[1:]
subprocess.run(command, check=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
tokens = [json.loads(line)["forward_tokens"] for line in open(metrics)]
print(json.dumps({"figure": "training_memory", "unit": "GiB", "steps": len(tokens), "tokens_a_step": tokens[-1], "peak": round(peak, 3)}))
PY
bench_update bits "$model" "$work/rollouts.stream"
