"""Reference values of lib/grpo/math.h: the same formulas written a second time, in f64 with automatic differentiation.

    python3 tests/parity/grpo_reference.py > tests/parity/grpo_reference.json       (needs torch; TRL, if there, checks the losses that it has too)
"""
import collections
import itertools
import json
import math
import sys
import types

import torch

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)

ADVANTAGE_CLAIMS = [
    [[1, 0, 0, 1, 0, 0, 0, 0], [0.5, 0.25], [0.1, 0.1, 0.1], [2, -1, 0.3]],
    [[1, 0, 0, 1, 0, 0, 0, 0]],
    [[0.1, 0.1, 0.1], [3, 3]],
]
LENGTHS = [[5, 3, 4], [1, 6]]
GROUP_REWARDS = [[1, 0, 0.5], [0, 1]]
BUDGET = 9
BOUNDS = {"ppo": (0.2, 0.28), "dual": (0.2, 0.28, 1.35), "gspo": (0.05, 0.1), "cispo": (1.0, 0.25)}
KL_COEF, ENTROPY_COEF = 0.07, 0.03


def centred(rule, rewards):
    r = torch.tensor(rewards, dtype=torch.float64)
    if bool((r == r[0]).all()):
        return torch.zeros_like(r)
    if rule == "rloo":
        return torch.stack([r[i] - torch.cat([r[:i], r[i + 1 :]]).mean() for i in range(len(r))])
    return r - r.mean()


def advantages(rule, std, claim):
    groups = [centred(rule, rewards) for rewards in claim]
    if std == "batch":
        values = torch.cat(groups) if rule == "reinforce-pp" else torch.tensor([x for rewards in claim for x in rewards], dtype=torch.float64)
        return [g / (values.std() + 1e-6) for g in groups]
    if std == "none":
        return groups
    return [g / (torch.tensor(rewards, dtype=torch.float64).std(unbiased=std == "unbiased") + 1e-6) for g, rewards in zip(groups, claim)]


SCHEDULES = [{"name": name, "lr": 2e-5, "floor": 2e-6, "warmup": 3, "total": 11} for name in ("constant", "linear", "cosine")]


def learning_rate(schedule, step):
    lr, floor, warmup, total = (schedule[k] for k in ("lr", "floor", "warmup", "total"))
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min((step - warmup) / (total - warmup), 1)
    return {"constant": lr, "linear": floor + (lr - floor) * (1 - progress), "cosine": floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2}[schedule["name"]]


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
    for s in sequences:
        s["entropies"] = rounded((torch.rand(len(s["logprobs"])) * 2).tolist())
    return sequences


def correction_weights(text, old, behaviour):
    name, _, numbers = text.partition(":")
    numbers = [float(x) for x in numbers.split(",") if x]
    ratio = torch.exp(old - behaviour)
    if name == "tis":
        return ratio.clamp(max=numbers[0])
    if name == "icepop":
        return torch.where((ratio >= numbers[0]) & (ratio <= numbers[1]), ratio, 0)
    if name == "seq":
        return torch.ones_like(old) * ratio.prod().clamp(max=numbers[0])
    if name == "geo":
        return torch.ones_like(old) * ratio.prod().pow(1 / len(old)).clamp(max=numbers[0])
    return torch.ones_like(old)


def policy_loss(loss, current, old, a):
    low, high = BOUNDS[loss][:2]
    ratio = torch.exp(current - old)
    if loss == "gspo":
        ratio = ratio.prod().pow(1 / len(current)) * torch.ones_like(current)
    if loss == "cispo":
        return -ratio.clamp(1 - low, 1 + high).detach() * a * current
    value = torch.minimum(ratio * a, ratio.clamp(1 - low, 1 + high) * a)
    if loss == "dual" and a < 0:
        value = torch.maximum(value, BOUNDS[loss][2] * a)
    return -value


def kl_values(name, current, reference):
    if name == "k1":
        return current - reference
    if name == "k2":
        return (current - reference) ** 2 / 2
    if name == "k3":
        return torch.exp(reference - current) - 1 - (reference - current)
    return torch.zeros_like(current)


def claim_loss(sequences, case):
    total_tokens = sum(len(s["logprobs"]) for s in sequences)
    adv = advantages(case["advantage"], case["std"], GROUP_REWARDS)
    leaves, entropies, per_sequence = [], [], []
    for s in sequences:
        current = torch.tensor(s["logprobs"], requires_grad=True)
        entropy = torch.tensor(s["entropies"], requires_grad=True)
        leaves.append(current)
        entropies.append(entropy)
        behaviour = torch.tensor(s["behaviour"])
        old = behaviour if case["old"] == "behaviour" else torch.tensor(s["old"])
        token_loss = correction_weights(case["correction"], old, behaviour) * policy_loss(case["loss"], current, old, adv[s["group"]][s["index"]])
        if case["kl"] != "off":
            token_loss = token_loss + KL_COEF * kl_values(case["kl"], current, torch.tensor(s["reference"]))
        if case["entropy"]:
            token_loss = token_loss - ENTROPY_COEF * entropy
        per_sequence.append(token_loss)
    if case["agg"] == "token-mean":
        loss = torch.cat(per_sequence).sum() / total_tokens
    elif case["agg"] == "seq-mean":
        loss = torch.stack([x.mean() for x in per_sequence]).mean()
    else:
        loss = torch.cat(per_sequence).sum() / (len(per_sequence) * BUDGET)
    loss.backward()
    entropy_gradients = [float(e.grad[0]) for e in entropies] if case["entropy"] else [0.0] * len(entropies)
    return {"value": loss.item(), "gradients": [leaf.grad.tolist() for leaf in leaves], "entropy_gradients": entropy_gradients}


DEFAULT = {"advantage": "grpo", "std": "unbiased", "loss": "ppo", "old": "current", "correction": "none", "agg": "token-mean", "kl": "off", "entropy": False}


def cases():
    ratios = [("current", c) for c in ("none", "tis:2", "tis:1.1", "icepop:0.5,5", "icepop:0.9,1.2", "seq:100", "seq:1.5", "geo:100", "geo:1.02")]
    ratios.append(("behaviour", "none"))
    for loss, (old, correction), agg in itertools.product(BOUNDS, ratios, ("token-mean", "seq-mean", "fixed-length")):
        yield {**DEFAULT, "loss": loss, "old": old, "correction": correction, "agg": agg}
    for rule, std in itertools.product(("grpo", "rloo"), ("unbiased", "population", "none", "batch")):
        yield {**DEFAULT, "advantage": rule, "std": std}
    yield {**DEFAULT, "advantage": "drgrpo", "std": "none"}
    yield {**DEFAULT, "advantage": "reinforce-pp", "std": "batch"}
    for kl, entropy, agg, correction in itertools.product(("off", "k1", "k2", "k3"), (False, True), ("token-mean", "seq-mean", "fixed-length"), ("none", "tis:2")):
        yield {**DEFAULT, "kl": kl, "entropy": entropy, "agg": agg, "correction": correction}


def trl_case(case):
    """What TRL calls the case; None where it has no such loss."""
    options = {"importance_sampling_level": "sequence" if case["loss"] == "gspo" else "token", "epsilon_low": BOUNDS[case["loss"]][0], "epsilon_high": BOUNDS[case["loss"]][1],
               "delta": BOUNDS[case["loss"]][2] if case["loss"] == "dual" else None}
    if case["loss"] == "cispo":
        if case["agg"] != "token-mean":
            return None
        return {**options, "loss_type": "cispo", "epsilon_high": 1 + BOUNDS["cispo"][1]}  # there the ratio's bound itself
    options["loss_type"] = {"token-mean": "dapo", "seq-mean": "grpo", "fixed-length": "dr_grpo"}[case["agg"]]
    if case["kl"] not in ("off", "k3") or case["entropy"] and case["agg"] != "token-mean":
        return None  # TRL's entropy is a mean over tokens under every aggregation
    if case["loss"] == "gspo" and case["agg"] != "seq-mean":
        return None  # its loss of one value a sequence is then not divided by tokens
    return options


def check_against_trl(sequences, case, expected):
    from trl.trainer.grpo_trainer import GRPOTrainer

    options = trl_case(case)
    if options is None:
        return None
    longest = max(len(s["logprobs"]) for s in sequences)

    def padded(name):
        return torch.stack([torch.nn.functional.pad(torch.tensor(s[name]), (0, longest - len(s[name]))) for s in sequences])

    current, entropies = padded("logprobs").requires_grad_(), padded("entropies").requires_grad_()
    mask = torch.stack([(torch.arange(longest) < len(s["logprobs"])).double() for s in sequences])
    old, behaviour = padded("behaviour" if case["old"] == "behaviour" else "old"), padded("behaviour")
    weights = torch.stack([
        torch.nn.functional.pad(correction_weights(case["correction"], o[m > 0], b[m > 0]), (0, longest - int(m.sum()))) for o, b, m in zip(old, behaviour, mask)
    ])
    adv = advantages(case["advantage"], case["std"], GROUP_REWARDS)
    trainer = types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (current, entropies, None), aux_loss_enabled=False, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, beta=KL_COEF if case["kl"] == "k3" else 0.0, use_vllm=case["correction"] != "none",
        vllm_importance_sampling_correction=True, current_gradient_accumulation_steps=1, max_completion_length=BUDGET, use_adaptive_entropy=False,
        _entropy_bonus_enabled=case["entropy"], entropy_coef=ENTROPY_COEF, _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        model=types.SimpleNamespace(training=True), args=types.SimpleNamespace(use_bias_correction_kl=False, delta=options.pop("delta"), steps_per_generation=1),
        accelerator=types.SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True), **options)
    tokens = torch.zeros(len(sequences), longest, dtype=torch.long)
    loss = GRPOTrainer._compute_loss(trainer, None, {
        "prompt_ids": tokens, "prompt_mask": mask, "completion_ids": tokens, "completion_mask": mask, "old_per_token_logps": old,
        "ref_per_token_logps": padded("reference"), "importance_sampling_ratio": weights, "num_items_in_batch": mask.sum(),
        "advantages": torch.stack([adv[s["group"]][s["index"]] for s in sequences])})
    loss.backward()
    difference = abs(loss.item() - expected["value"])
    for row, gradients in zip(current.grad, expected["gradients"]):
        difference = max(difference, (row[: len(gradients)] - torch.tensor(gradients)).abs().max().item())
    assert difference < 1e-14, (case, difference)
    return difference


def main():
    sequences = make_sequences()
    claims = [{**case, **claim_loss(sequences, case)} for case in cases()]
    try:
        differences = [check_against_trl(sequences, case, case) for case in claims]
        compared = [d for d in differences if d is not None]
        print(f"{len(compared)} of {len(claims)} cases are TRL's too; largest difference {max(compared):.1e}", file=sys.stderr)
    except ImportError:
        print("without TRL: nothing compared with it", file=sys.stderr)
    stds = ("unbiased", "population", "none", "batch")
    result = {
        "advantages": [{"rule": rule, "std": std, "rewards": claim, "advantages": [a.tolist() for a in advantages(rule, std, claim)]}
                       for rule, std, claim in itertools.product(("grpo", "drgrpo", "rloo", "reinforce-pp"), stds, ADVANTAGE_CLAIMS)],
        "exp": [{"x": x, "exp": float(torch.exp(torch.tensor(x)))} for x in (0.0, 1.0, -1.0, 0.3465, -0.3466, 1e-12, -20.5, 33.25, -700.0, 700.0)],
        "schedules": [{**schedule, "rates": [learning_rate(schedule, step) for step in range(14)]} for schedule in SCHEDULES],
        "bounds": BOUNDS, "kl_coef": KL_COEF, "entropy_coef": ENTROPY_COEF, "budget": BUDGET, "group_rewards": GROUP_REWARDS, "sequences": sequences,
        "claims": claims,
    }
    # One row a line: what a new value adds can be read in a diff.
    rows = [f"{json.dumps(key)}: " + ("[\n" + ",\n".join(map(json.dumps, value)) + "\n]" if isinstance(value, list) else json.dumps(value)) for key, value in result.items()]
    print("{" + ",\n".join(rows) + "}")


main()
