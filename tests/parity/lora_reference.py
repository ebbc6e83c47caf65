"""Reference of one update of LoRA's factors on the tiny Llama of grpo_update_reference.py, for tests/unit/grpo/lora_test.cc.

    python3 tests/parity/lora_reference.py > tests/parity/lora_reference.json       (needs torch)

f64 with automatic differentiation. The network computes with round(W + alpha / rank * B A) in bf16, whose rounding passes gradients through as they are.
Factors are multiples of 2^-5 and 2^-6, so that f32 holds every sum exactly and the rounded weights are the same everywhere. Names are PEFT's.
"""
import json

import torch

import grpo_update_reference as grpo

RANK, ALPHA, TARGETS = 3, 6.0, "q,k,v,gate,down"


def factor(salt, shape, unit):
    return torch.tensor([(grpo.mix(salt, i) % 15 - 7) * unit for i in range(shape.numel())]).reshape(shape)


def merge(weights, factors):
    merged = dict(weights)
    for name, (a, b) in factors.items():
        exact = weights[name] + ALPHA / RANK * b @ a
        merged[name] = exact + (exact.detach().bfloat16().double() - exact.detach())
    return merged


def main():
    weights = grpo.make_weights(0)
    modules = [name + "_proj.weight" for name in TARGETS.split(",")]
    factors = {}
    for p, (name, shape) in enumerate(grpo.shapes()):
        if name.split(".")[-2] + ".weight" in modules:
            factors[name] = (factor(2000 + p, torch.Size((RANK, shape[1])), 2**-5).requires_grad_(),
                             factor(3000 + p, torch.Size((shape[0], RANK)), 2**-6).requires_grad_())
    merged = merge(weights, factors)
    terms = []
    for g, prompt in enumerate(grpo.PROMPTS):
        rewards = torch.tensor(grpo.REWARDS[g], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        for i, response in enumerate(grpo.RESPONSES[g]):
            current = grpo.response_logprobs(merged, prompt, response, 1.0)
            terms.append(-torch.exp(current - current.detach()) * advantages[i])
    loss = torch.cat(terms).mean()
    named = {f"base_model.model.{name.removesuffix('.weight')}.lora_{letter}.weight": value
             for name, pair in factors.items() for letter, value in zip("AB", pair)}
    before = {name: grpo.pack(value) for name, value in named.items()}
    optimizer = torch.optim.AdamW(named.values(), lr=grpo.LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=grpo.DECAY)
    loss.backward()
    gradients = {name: grpo.pack(value.grad) for name, value in named.items()}
    optimizer.step()
    print(json.dumps({
        "config": grpo.CONFIG, "rank": RANK, "alpha": ALPHA, "targets": TARGETS, "lr": grpo.LR, "weight_decay": grpo.DECAY,
        "prompts": grpo.PROMPTS, "responses": grpo.RESPONSES, "rewards": grpo.REWARDS, "loss": loss.item(),
        "base": {name: grpo.pack(value) for name, value in weights.items()}, "merged": {name: grpo.pack(merged[name]) for name in factors},
        "factors": before, "gradients": gradients, "factors_after": {name: grpo.pack(value) for name, value in named.items()},
    }))


main()
