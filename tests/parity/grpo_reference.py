"""Reference values of lib/grpo/math.h: the same formulas written a second time, in f64 with automatic differentiation.

    python3 tests/parity/grpo_reference.py > tests/parity/grpo_reference.json       (needs torch)
"""
import itertools
import json

import torch

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)

REWARDS = [[1, 0, 0, 1, 0, 0, 0, 0], [0.5, 0.25], [0.1, 0.1, 0.1], [2, -1, 0.3]]
LENGTHS = [[5, 3, 4], [1, 6]]
GROUP_REWARDS = [[1, 0, 0.5], [0, 1]]
CLIP_LOW, CLIP_HIGH, KL_COEF = 0.2, 0.28, 0.07


def advantages(rewards, std):
    r = torch.tensor(rewards, dtype=torch.float64)
    if bool((r == r[0]).all()):
        return torch.zeros_like(r)
    centred = r - r.mean()
    if std == "none":
        return centred
    return centred / (r.std(unbiased=std == "unbiased") + 1e-6)


def rounded(values):
    return [float(torch.tensor(v, dtype=torch.float32)) for v in values]  # f32 values, as records carry them


def make_sequences():
    sequences = []
    for group, lengths in enumerate(LENGTHS):
        for index, length in enumerate(lengths):
            current = -torch.rand(length) * 3
            sequences.append({
                "group": group, "index": index,
                "logprobs": rounded(current.tolist()),
                "old": rounded((current + torch.randn(length) * 0.3).tolist()),
                "behaviour": rounded((current + torch.randn(length) * 0.6).tolist()),
                "reference": rounded((current + torch.randn(length) * 0.4).tolist()),
            })
    return sequences


def correction_weights(name, old, behaviour):
    if name == "none":
        return torch.ones_like(old)
    cap = float(name.split(":")[1])
    return torch.exp(old - behaviour).clamp(max=cap)


def kl_values(name, current, reference):
    if name == "k1":
        return current - reference
    if name == "k2":
        return (current - reference) ** 2 / 2
    if name == "k3":
        return torch.exp(reference - current) - 1 - (reference - current)
    return torch.zeros_like(current)


def claim_loss(sequences, std, old_choice, correction, agg, kl):
    total_tokens = sum(len(s["logprobs"]) for s in sequences)
    adv = {(g, i): a for g, rewards in enumerate(GROUP_REWARDS) for i, a in enumerate(advantages(rewards, std))}
    leaves, per_sequence = [], []
    for s in sequences:
        current = torch.tensor(s["logprobs"], requires_grad=True)
        leaves.append(current)
        behaviour = torch.tensor(s["behaviour"])
        old = behaviour if old_choice == "behaviour" else torch.tensor(s["old"])
        ratio = torch.exp(current - old)
        a = adv[(s["group"], s["index"])]
        policy = -torch.minimum(ratio * a, ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * a)
        token_loss = correction_weights(correction, old, behaviour) * policy
        if kl != "off":
            token_loss = token_loss + KL_COEF * kl_values(kl, current, torch.tensor(s["reference"]))
        per_sequence.append(token_loss)
    if agg == "token-mean":
        loss = torch.cat(per_sequence).sum() / total_tokens
    else:
        loss = torch.stack([x.mean() for x in per_sequence]).mean()
    loss.backward()
    return float(loss.detach()), [leaf.grad.tolist() for leaf in leaves]


def main():
    sequences = make_sequences()
    result = {
        "advantages": [{"rewards": r, "std": std, "advantages": advantages(r, std).tolist()} for r in REWARDS for std in ("unbiased", "population", "none")],
        "exp": [{"x": x, "exp": float(torch.exp(torch.tensor(x)))} for x in (0.0, 1.0, -1.0, 0.3465, -0.3466, 1e-12, -20.5, 33.25, -700.0, 700.0)],
        "clip_low": CLIP_LOW, "clip_high": CLIP_HIGH, "kl_coef": KL_COEF, "group_rewards": GROUP_REWARDS, "sequences": sequences, "claims": [],
    }
    axes = itertools.product(("unbiased", "none"), (("current", "none"), ("current", "tis:2"), ("current", "tis:1.1"), ("behaviour", "none")),
                             ("token-mean", "seq-mean"), ("off", "k1", "k2", "k3"))
    for std, (old, correction), agg, kl in axes:
        loss, gradients = claim_loss(sequences, std, old, correction, agg, kl)
        result["claims"].append({"std": std, "old": old, "correction": correction, "agg": agg, "kl": kl, "loss": loss, "gradients": gradients})
    print(json.dumps(result))


main()
