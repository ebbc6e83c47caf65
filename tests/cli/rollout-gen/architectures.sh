#!/usr/bin/env bash
# Every architecture, with its options and another family's tokenizer, is published, generates, and is trained, biases and norms of heads as well: two steps, in
# which the trainer's log-probabilities are the generator's.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
. "$APRIL_SOURCE/pipelines/lib.sh"
data=$APRIL_SOURCE/tests/unit/text/data

# steps NAME CONFIG TOKENIZER SHARDS: a run of two steps with such a model
steps() {
  python3 "$APRIL_SOURCE/tests/data/make_model.py" "$1/model" "$2" "$data/$3.tokenizer.json" "$4"
  weight-sync publish -q --model "$1/model" --to "$1/weights" --version 0
  partial-buffer init -q -s "$1/buffer" --model "$1/model" --group-size 4 --groups-per-step 2 --in-flight 16 --max-tokens 48 --seed 1
  prompts 16 | partial-buffer add -q -s "$1/buffer" --prompts -
  mkdir "$1/metrics"
  for _ in 1 2; do "$APRIL_SOURCE/pipelines/round.sh" "$1" "$1/model" --scorer regex --pattern '[aeiou]' --lr 1e-2 2>>"$1/log" || { cat "$1/log"; exit 1; }; done
  expect "$(cat "$1/weights/LATEST")" 2 "$1: newest version"
  expect "$(value_of on_policy_differing_tokens "$1/metrics/grpo-step.jsonl" | sort -u)" 0 "$1: tokens whose log-probability the trainer has otherwise"
  python3 - "$1/weights" <<'PY'
import json, struct, sys
def tensors(version):
    data = open(f"{sys.argv[1]}/v{version:08}/model.safetensors", "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    return {name: data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]] for name, t in json.loads(data[8:8 + size]).items() if name != "__metadata__"}
before, after = tensors(0), tensors(2)
assert before.keys() == after.keys()
same = [name for name in before if before[name] == after[name]]
assert not same, f"not trained: {same}"
PY
}

steps llama '{"model_type":"llama","rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":32}}' llama2 1
steps llama-untied '{"model_type":"llama","tie_word_embeddings":false,"num_key_value_heads":4,"rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32}}' llama3 2
steps qwen2 '{"model_type":"qwen2","num_attention_heads":7,"num_key_value_heads":1,"use_sliding_window":false}' mistral 3
steps qwen3 '{"model_type":"qwen3","head_dim":32,"attention_bias":false}' qwen2 1
