"""Reference for reading GGUF: the model as transformers dequantises it, rounded to bf16. Writes gguf_weights.json: shape and xxh3-64 of every tensor.

    python gguf_weights.py smollm2.gguf > gguf_weights.json      # needs torch, transformers, gguf, xxhash
"""
import json
import os
import sys

import torch
import transformers
import xxhash

directory, name = os.path.split(os.path.abspath(sys.argv[1]))
model = transformers.AutoModelForCausalLM.from_pretrained(directory, gguf_file=name, dtype=torch.float32)
tied = model.config.tie_word_embeddings
tensors = {}
for key, value in sorted(model.state_dict().items()):
    if tied and key == "lm_head.weight":
        continue
    data = value.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()
    tensors[key] = [list(value.shape), xxhash.xxh3_64_hexdigest(data)]
head = {"file": name, "file_xxh3": xxhash.xxh3_64_hexdigest(open(sys.argv[1], "rb").read()), "transformers": transformers.__version__, "dtype": "BF16"}
print(json.dumps(head)[:-1] + ', "tensors": {')
print(",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in tensors.items()))
print("}}")
