"""Recorded log-probabilities against transformers' f32 forward over the same tokens.   compare_logprobs.py MODEL_DIR SAMPLED_STREAM GREEDY_STREAM"""
import json
import os
import sys

import msgpack
import numpy
import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(os.cpu_count())
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()


def rollouts(path):
    records = list(msgpack.Unpacker(open(path, "rb"), max_buffer_size=0))
    if records[-1]["type"] != "end":
        sys.exit(f"{path} has no end record")
    return [record for record in records if record["type"] == "rollout"]


def reference(rollout):
    """log-softmax rows that predict each response token, the response's tokens, the recorded values"""
    prompt, tokens = (numpy.frombuffer(rollout[key], "<u4").astype(numpy.int64) for key in ("prompt_tokens", "tokens"))
    with torch.inference_mode():
        logits = model(torch.from_numpy(numpy.concatenate([prompt, tokens]))[None]).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.double(), -1), torch.from_numpy(tokens), torch.from_numpy(numpy.frombuffer(rollout["logprobs"], "<f4").copy())


largest, positions, agree, greedy_positions = 0.0, 0, 0, 0
for rollout in rollouts(sys.argv[2]):
    rows, tokens, recorded = reference(rollout)
    largest = max(largest, (rows.gather(1, tokens[:, None])[:, 0] - recorded).abs().max().item())
    positions += len(tokens)
for rollout in rollouts(sys.argv[3]):
    rows, tokens, _ = reference(rollout)
    agree += (rows.argmax(-1) == tokens).sum().item()
    greedy_positions += len(tokens)
print(json.dumps({"figure": "logprobs_against_transformers_f32", "unit": "nats", "largest_difference": largest, "positions": positions}))
print(json.dumps({"figure": "argmax_against_transformers_f32", "agree": agree, "positions": greedy_positions}))
