#!/usr/bin/env python3
"""What the products and the attention of one decode step take in LibTorch, where nothing has to be exact: oneDNN's products at their natural row counts
and scaled_dot_product_attention, bf16, every layer with weights of its own. One JSON line a batch and context; the best of several rounds.

    python3 inexact_step.py MODEL THREADS BATCH:CONTEXT…
"""
import json
import sys
import time

import torch
from torch.nn.functional import linear, scaled_dot_product_attention


def main():
    model, threads, shapes = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    config = json.load(open(f"{model}/config.json"))
    hidden, layers, intermediate, vocab = (config[key] for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"))
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim") or hidden // heads
    matrix = lambda n, k: torch.randn(n, k).mul_(0.02).bfloat16()
    # Query, key and value as one product, and gate and up: as few calls as such an engine would make.
    weights = [(matrix((heads + 2 * kv_heads) * head, hidden), matrix(hidden, heads * head), matrix(2 * intermediate, hidden), matrix(hidden, intermediate))
               for _ in range(layers)]
    output = matrix(vocab, hidden)
    for shape in shapes:
        batch, context = (int(number) for number in shape.split(":"))
        cache = [torch.randn(2, batch, kv_heads, context, head).bfloat16() for _ in range(layers)]
        x, wide = torch.randn(batch, hidden).bfloat16(), torch.randn(batch, intermediate).bfloat16()

        def step():
            for (qkv, out, gate_up, down), (keys, values) in zip(weights, cache):
                query = linear(x, qkv)[:, : heads * head].view(batch, heads, 1, head)
                attended = scaled_dot_product_attention(query, keys, values, enable_gqa=True)
                linear(attended.reshape(batch, heads * head), out)
                linear(x, gate_up)
                linear(wide, down)
            linear(x, output)

        step()
        best, begin = 1e9, time.monotonic()
        while time.monotonic() - begin < 4:
            start = time.monotonic()
            step()
            best = min(best, time.monotonic() - start)
        print(json.dumps({"batch": batch, "context": context, "step_s": round(best, 6)}), flush=True)


if __name__ == "__main__":
    main()
