#!/usr/bin/env bash
# Bad input and bad flags: one clear line, the right exit code, nothing written.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
work 2 2 20 >work.bin

fails "no model is named" 2 rollout-gen --in work.bin
fails "both given" 2 rollout-gen --model "$model" --weights weights --in work.bin
fails "target-groups" 2 rollout-gen --model "$model" --from zmq+ipc://hub --target-groups 2
fails "kernel" 2 rollout-gen --model "$model" --kernels abacus --in work.bin
fails "no model at no-such-model.gguf: no such file" 1 rollout-gen --model no-such-model.gguf --in work.bin
mkdir -p run/checkpoints/step-0000000{1,2} && cp "$model"/* run/checkpoints/step-00000002
touch run/checkpoints/step-00000002/optimizer.safetensors
fails "hint: did you mean run/checkpoints/step-00000002?" 1 rollout-gen --model run/checkpoints --in work.bin
fails "run/checkpoints holds checkpoints, not published versions" 2 rollout-gen --weights run/checkpoints --in work.bin
grep -q "hint: did you mean --model run/checkpoints/step-00000002?" stderr || { cat stderr; exit 1; }
fails "is a model, not published versions" 2 rollout-gen --weights run/checkpoints/step-00000002 --in work.bin
fails "no published version" 7 rollout-gen --weights empty --peer-timeout-ms 200 --in work.bin
fails "hub" 6 rollout-gen --model "$model" --from zmq+ipc://hub --peer-timeout-ms 300 --out out.zst
fails "missing.bin" 1 rollout-gen --model "$model" --in missing.bin
fails "memory" 1 rollout-gen --model "$model" --memory 250kB --in work.bin --out out.zst

head -c 900 work.bin >cut.bin
fails "no end record" 3 rollout-gen --model "$model" --in cut.bin --out out.zst
[ ! -e out.zst ] || { echo "output of a truncated input"; exit 1; }

# The token ids of another tokenizer.
cp -r "$model" other
python3 - <<'PY'
import json
spec = json.load(open("other/tokenizer.json"))
vocab = spec["model"]["vocab"]
vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
json.dump(spec, open("other/tokenizer.json", "w"))
PY
fails "tokenizer" 4 rollout-gen --model other --in work.bin --out out.zst

# A damaged model.
cp -r "$model" damaged
python3 - <<'PY'
data = open("damaged/model.safetensors", "rb").read()
open("damaged/model.safetensors", "wb").write(data.replace(b"model.layers.1.mlp.up_proj.weight", b"model.layers.1.mlp.up_proj.height"))
PY
fails "model.layers.1.mlp.up_proj.weight" 3 rollout-gen --model damaged --in work.bin --out out.zst

# A model with a shorter context than the buffer knew: a prompt that fills it fails alone, exit 5.
cp -r "$model" short
sed -i 's/"max_position_embeddings": 256/"max_position_embeddings": 40/' short/config.json
{ prompts 1; echo "{\"prompt\":\"$(printf 'What is the final answer? %.0s' 1 2 3 4 5 6 7 8)\"}"; } >mixed.jsonl
partial-buffer add -q --purpose eval --prompts mixed.jsonl --model "$model" --group-size 6 --max-tokens 60 --out mixed.bin
fails "leaves no room in the model's context of 40 tokens" 5 rollout-gen --model short --in mixed.bin --out mixed.zst
expect "$(count mixed.zst complete)/$(count mixed.zst failed)" 6/6 "complete and failed"
# A response that fills it ends with finish length, and says so.
grep -q "reached the model's context of 40 tokens" stderr || { cat stderr; exit 1; }
has mixed.zst '"finish":"length"' || { echo "no response was cut by the context"; exit 1; }
