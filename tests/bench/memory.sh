#!/usr/bin/env bash
# memory.sh PEERS [BATCH CONTEXT]: peak memory of generating (default: 64 rollouts that grow to 1024 tokens each), beside what it cannot do without.
#
# `needed` is the model's file, which is mapped and read, the weights packed for the machine, and keys and values of the positions in use.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
batch=${2:-64} context=${3:-1024}
need_programs partial-buffer rollout-gen
model=$peers/model/hf
# Prompts of three quarters of the context: the last one is read before the first response ends, so that all rollouts are there at once.
"$python" "$here/peers/make_prompt.py" "$model" $((context * 3 / 4)) "$batch" >"$work/prompts-all.jsonl"
queue_prompts "$work/prompts-all.jsonl" "$batch" $((context / 4)) 1
python3 - "$model" "$batch" "$context" "$work/metrics.jsonl" rollout-gen -q --model "$model" --in-flight "$batch" --in "$work/queued.stream" \
  --out "$work/done.stream" --metrics "$work/metrics.jsonl" <<'PY'
import json, os, resource, subprocess, sys
model, batch, context, metrics, *command = sys.argv[1:]
subprocess.run(command, check=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
config = json.load(open(f"{model}/config.json"))
weights = sum(os.path.getsize(f"{model}/{name}") for name in os.listdir(model) if name.endswith(".safetensors"))
head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
position = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * 2
positions = 32 * max(json.loads(line)["kv_blocks_used"] for line in open(metrics))  # blocks of 32, as seen each second
needed = (2 * weights + position * positions) / 2**20
print(json.dumps({"figure": "memory", "unit": "MiB", "batch": int(batch), "context": int(context), "positions": positions, "peak": round(peak),
                  "weights": round(weights / 2**20), "keys_and_values": round(position * positions / 2**20), "needed": round(needed),
                  "beyond": round(peak - needed)}))
PY
