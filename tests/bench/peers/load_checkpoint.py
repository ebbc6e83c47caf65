"""Loads checkpoints as their users would.   load_checkpoint.py BASE CHECKPOINT CHECKPOINT_WITH_ADAPTER"""
import json
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

base, whole, adapter = sys.argv[1:]

model, info = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.bfloat16, output_loading_info=True)
seen, file = model.state_dict(), load_file(whole + "/model.safetensors")
before = load_file(base + "/model.safetensors")
ids = [AutoTokenizer.from_pretrained(path)("What is 7 + 8? Ä 猫")["input_ids"] for path in (base, whole)]
print(json.dumps({"figure": "checkpoint_in_transformers", "tensors": len(file), "equal": sum(torch.equal(seen[name], file[name]) for name in file),
                  "missing": len(info["missing_keys"]), "unexpected": len(info["unexpected_keys"]),
                  "trained_tensors": sum(not torch.equal(file[name], before[name]) for name in file), "same_token_ids": ids[0] == ids[1]}), flush=True)

merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter + "/adapter").merge_and_unload().state_dict()
file, values, different, distance = load_file(adapter + "/model.safetensors"), 0, 0, 0
trained = 0
for name, ours in file.items():
    theirs = merged[name].to(torch.bfloat16)
    steps = (ours.view(torch.int16).int() - theirs.view(torch.int16).int()).abs()  # between neighbouring numbers of one sign it is 1
    values, different, distance = values + ours.numel(), different + int((steps > 0).sum()), max(distance, int(steps.max()))
    trained += not torch.equal(ours, before[name])
print(json.dumps({"figure": "adapter_in_peft", "values": values, "different_after_merging": different, "largest_distance_in_bf16_steps": distance,
                  "trained_tensors": trained}), flush=True)
