"""Reference of one whole update on a tiny Llama: loss, gradients and weights after AdamW, for tests/unit/grpo/update_parity_test.cc.

    python3 tests/parity/grpo_update_reference.py > tests/parity/grpo_update_reference.json       (needs torch; transformers, if there, checks the network)

The network is written out in f64 with automatic differentiation; weights are multiples of 2^-9 that bf16 holds exactly. Arrays are base64 of f32.
"""
import base64
import json
import sys

import torch

torch.set_default_dtype(torch.float64)
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCAB, EPS, THETA = 16, 2, 2, 1, 16, 16, 32, 1e-5, 10000.0
LR, DECAY = 1e-2, 0.1
PROMPTS = [[3, 9, 27, 17], [5, 25, 29]]
RESPONSES = [[[1, 2, 3, 4], [30, 7], [8, 8, 21, 6, 13]], [[11, 12], [31, 2, 19]]]
REWARDS = [[1, 0, 0.5], [0, 1]]
CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
          "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "intermediate_size": INTERMEDIATE, "vocab_size": VOCAB, "rms_norm_eps": EPS,
          "rope_theta": THETA, "tie_word_embeddings": True, "max_position_embeddings": 64}
BUDGET = 64
STALE = [[1, 0, 3], [0, 3]]  # so many first tokens of a response are of the weights before, where a case has a filter
TRUNCATED = [[False, False, True], [False, False]]  # responses that ended at their limit, where a case masks these
PLAIN = {"temperature": 1.0, "advantage": "grpo", "std": "auto", "loss": "ppo", "clip": [0.2, 0.28], "old": "current", "correction": "none", "agg": "token-mean",
         "kl": 0, "kl_name": "k3", "entropy": 0, "filter": "off", "mask_truncated": False}
CASES = [
    {**PLAIN, "correction": "tis:2", "kl": 0.05},
    {**PLAIN, "temperature": 0.7, "agg": "seq-mean"},
    {**PLAIN, "temperature": 0.8, "entropy": 0.02},
    {**PLAIN, "advantage": "rloo", "loss": "gspo", "clip": [0.3, 0.4], "old": "behaviour", "agg": "seq-mean", "entropy": 0.1},
    {**PLAIN, "advantage": "drgrpo", "loss": "cispo", "clip": [1, 1.5], "old": "behaviour", "agg": "fixed-length", "kl": 0.02},
    {**PLAIN, "advantage": "reinforce-pp", "loss": "dual", "correction": "icepop:0.5,2"},
    {**PLAIN, "std": "population", "correction": "seq:3", "kl": 0.05, "kl_name": "k1"},
    {**PLAIN, "std": "batch", "correction": "geo:1.1", "kl": 0.05, "kl_name": "k2"},
    {**PLAIN, "std": "none", "filter": "off-policy-mask", "correction": "tis:2", "agg": "seq-mean", "kl": 0.03},
    {**PLAIN, "mask_truncated": True, "kl": 0.02, "entropy": 0.05},
]


def mix(parameter, index):
    h = ((index + 1) * 2654435761 + (parameter + 1) * 2246822519) % 2**32
    h ^= h >> 15
    h = h * 2654435769 % 2**32
    return h ^ (h >> 13)


def shapes():
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for layer in range(LAYERS):
        for name, shape in (("input_layernorm", (HIDDEN,)), ("self_attn.q_proj", (q, HIDDEN)), ("self_attn.k_proj", (kv, HIDDEN)),
                            ("self_attn.v_proj", (kv, HIDDEN)), ("self_attn.o_proj", (HIDDEN, q)), ("post_attention_layernorm", (HIDDEN,)),
                            ("mlp.gate_proj", (INTERMEDIATE, HIDDEN)), ("mlp.up_proj", (INTERMEDIATE, HIDDEN)), ("mlp.down_proj", (HIDDEN, INTERMEDIATE))):
            yield f"model.layers.{layer}.{name}.weight", shape
    yield "model.norm.weight", (HIDDEN,)


def make_weights(salt):
    weights = {}
    for p, (name, shape) in enumerate(shapes()):
        size = torch.Size(shape).numel()
        values = [(mix(p + salt, i) % 255 - 127) / 512 + (1 if len(shape) == 1 else 0) for i in range(size)]
        weights[name] = torch.tensor(values).bfloat16().double().reshape(shape)
    return weights


def norm(x, weight):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * weight


def rotate(x):  # [positions, heads, head_dim]
    angles = torch.arange(x.shape[0])[:, None] * THETA ** (-torch.arange(HEAD_DIM // 2) * 2 / HEAD_DIM)[None]
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def logits(w, tokens):
    x = w["model.embed_tokens.weight"][torch.tensor(tokens)]
    n = len(tokens)
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        y = norm(x, w[p + "input_layernorm.weight"])
        q = rotate((y @ w[p + "self_attn.q_proj.weight"].T).reshape(n, HEADS, HEAD_DIM))
        k = rotate((y @ w[p + "self_attn.k_proj.weight"].T).reshape(n, KV_HEADS, HEAD_DIM)).repeat_interleave(HEADS // KV_HEADS, 1)
        v = (y @ w[p + "self_attn.v_proj.weight"].T).reshape(n, KV_HEADS, HEAD_DIM).repeat_interleave(HEADS // KV_HEADS, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) / HEAD_DIM**0.5
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(n, -1)
        x = x + mixed @ w[p + "self_attn.o_proj.weight"].T
        y = norm(x, w[p + "post_attention_layernorm.weight"])
        gate, up = y @ w[p + "mlp.gate_proj.weight"].T, y @ w[p + "mlp.up_proj.weight"].T
        x = x + (gate * gate.sigmoid() * up) @ w[p + "mlp.down_proj.weight"].T
    return norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T


def response_rows(w, prompt, response, temperature):
    return (logits(w, prompt + response)[len(prompt) - 1 : -1] / temperature).log_softmax(-1)


def response_logprobs(w, prompt, response, temperature):
    return response_rows(w, prompt, response, temperature)[torch.arange(len(response)), torch.tensor(response)]


def advantages(name, std):
    groups = [torch.tensor(rewards, dtype=torch.float64) for rewards in REWARDS]
    centred = [r - r.mean() for r in groups]
    if name == "rloo":
        centred = [c * len(c) / (len(c) - 1) for c in centred]
    if std == "auto":
        std = {"grpo": "unbiased", "reinforce-pp": "batch"}.get(name, "none")
    if std == "batch":
        spread = torch.cat(centred if name == "reinforce-pp" else groups).std()
        return [c / (spread + 1e-6) for c in centred]
    return centred if std == "none" else [c / (r.std(correction=std == "unbiased") + 1e-6) for c, r in zip(centred, groups)]


def correction(text, log_ratio):
    name, _, numbers = text.partition(":")
    numbers = [float(x) for x in numbers.split(",") if x]
    if name == "none":
        return torch.ones_like(log_ratio)
    if name in ("seq", "geo"):
        log_ratio = (log_ratio.sum() if name == "seq" else log_ratio.mean()) * torch.ones_like(log_ratio)
    ratio = torch.exp(log_ratio)
    return torch.where((ratio >= numbers[0]) & (ratio <= numbers[1]), ratio, 0) if name == "icepop" else ratio.clamp(max=numbers[0])


def divergence(name, current, reference):
    difference = current - reference
    return {"k1": difference, "k2": difference**2 / 2, "k3": torch.exp(-difference) - 1 + difference}[name]


def policy_loss(case, current, old, a):
    ratio = torch.exp(current - old)
    low, high = 1 - case["clip"][0], 1 + case["clip"][1]
    if case["loss"] == "cispo":
        return -ratio.clamp(low, high).detach() * a * current
    if case["loss"] == "gspo":
        ratio = torch.exp((current - old).mean()) * torch.ones_like(ratio)
    value = torch.minimum(ratio * a, ratio.clamp(low, high) * a)
    return -torch.maximum(value, 3 * a) if case["loss"] == "dual" and a < 0 else -value


def check_against_transformers(w):
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return
    config = LlamaConfig(hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM,
                         intermediate_size=INTERMEDIATE, vocab_size=VOCAB, rms_norm_eps=EPS, rope_theta=THETA, tie_word_embeddings=True,
                         max_position_embeddings=64)
    model = LlamaForCausalLM(config).float()
    model.load_state_dict({**w, "lm_head.weight": w["model.embed_tokens.weight"]})
    tokens = PROMPTS[0] + RESPONSES[0][2]
    difference = (model(torch.tensor([tokens])).logits[0].double() - logits(w, tokens)).abs().max().item()
    print(f"largest difference from transformers' f32 logits: {difference:.2e}", file=sys.stderr)
    assert difference < 1e-5


def pack(tensor):
    return base64.b64encode(tensor.detach().float().numpy().tobytes()).decode()


def update(case, weights, reference, behaviour):
    w = {name: value.clone().requires_grad_() for name, value in weights.items()}
    terms = []
    for g, prompt in enumerate(PROMPTS):
        for i, response in enumerate(RESPONSES[g]):
            rows = response_rows(w, prompt, response, case["temperature"])
            current = rows[torch.arange(len(response)), torch.tensor(response)]
            old = behaviour[g][i] if case["old"] == "behaviour" else current.detach()
            kept = torch.arange(len(response)) >= (STALE[g][i] if case["filter"] != "off" else 0)
            term = correction(case["correction"], old - behaviour[g][i]) * policy_loss(case, current, old, advantages(case["advantage"], case["std"])[g][i])
            if case["mask_truncated"] and TRUNCATED[g][i]:
                term = 0 * term
            if case["kl"]:
                f = response_logprobs(reference, prompt, response, case["temperature"]).detach()
                term = term + case["kl"] * divergence(case["kl_name"], current, f)
            if case["entropy"]:
                term = term + case["entropy"] * (rows.exp() * rows).sum(-1)
            term = kept * term
            terms.append(term)
    if case["agg"] == "fixed-length":
        loss = torch.cat(terms).sum() / (len(terms) * BUDGET)
    else:
        loss = torch.cat(terms).mean() if case["agg"] == "token-mean" else torch.stack([t.mean() for t in terms]).mean()
    optimizer = torch.optim.AdamW(w.values(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    loss.backward()
    gradients = {name: pack(value.grad) for name, value in w.items()}
    optimizer.step()
    return {**case, "value": loss.item(), "gradients": gradients, "weights": {name: pack(value) for name, value in w.items()}}


def main():
    weights, reference = make_weights(0), make_weights(1000)
    check_against_transformers(weights)
    behaviour = []
    for g, prompt in enumerate(PROMPTS):
        behaviour.append([])
        for i, response in enumerate(RESPONSES[g]):
            noise = torch.tensor([(mix(77 + g, 100 * i + t) % 255 - 127) / 100 for t in range(len(response))])
            behaviour[g].append((response_logprobs(weights, prompt, response, 1.0) + noise).float().double())
    print(json.dumps({
        "config": CONFIG, "lr": LR, "weight_decay": DECAY, "prompts": PROMPTS, "responses": RESPONSES, "rewards": REWARDS, "stale": STALE, "truncated": TRUNCATED,
        "behaviour": [[b.tolist() for b in group] for group in behaviour],
        "cases": [update(case, weights, reference, behaviour) for case in CASES],
    }))


if __name__ == "__main__":
    main()
