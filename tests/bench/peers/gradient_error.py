"""Gradients of recorded rollouts against transformers in f64 over the same bf16 weights, tensor by tensor: |seen - reference| / |reference|.

    gradient_error.py PEERS ROLLOUTS GROUPS ONCE.safetensors EACH.safetensors

ONCE computes a group's prompt once, EACH a prompt for every rollout. One JSON line: the largest of the tensors' errors, and of their quotients.
"""
import json
import os
import sys

import recorded
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

peers, rollouts, count, once, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), load_file(sys.argv[4]), load_file(sys.argv[5])
torch.set_num_threads(os.cpu_count())
groups = recorded.groups(rollouts, count)
model = AutoModelForCausalLM.from_pretrained(peers + "/model/hf", dtype=torch.float64, attn_implementation="eager")
tokens = sum(len(response) for group in groups for _, response in group)
for group in groups:
    for (prompt, response), advantage in zip(group, recorded.advantages(group)):
        ids = torch.cat([torch.from_numpy(prompt), torch.from_numpy(response)])[None]
        logits = model(ids[:, :-1]).logits[0, len(prompt) - 1 :]
        logprobs = torch.log_softmax(logits, -1).gather(1, torch.from_numpy(response)[:, None])
        (-advantage / tokens * logprobs.sum()).backward()

errors = {"once": [], "each": []}
for name, parameter in model.named_parameters():
    for errors_of, seen in ((errors["once"], once), (errors["each"], each)):
        errors_of.append(((seen[name].double() - parameter.grad).norm() / parameter.grad.norm()).item())
quotients = [a / b for a, b in zip(errors["once"], errors["each"])]
print(json.dumps({"figure": "prefix_gradient_error", "unit": "of the tensor's norm, against f64", "tensors": len(quotients), "response_tokens": tokens,
                  "once_median": sorted(errors["once"])[len(quotients) // 2], "once_largest": max(errors["once"]),
                  "each_median": sorted(errors["each"])[len(quotients) // 2], "each_largest": max(errors["each"]),
                  "quotient_median": sorted(quotients)[len(quotients) // 2], "quotient_largest": max(quotients)}))
