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
CLIP_LOW, CLIP_HIGH, LR, DECAY = 0.2, 0.28, 1e-2, 0.1
PROMPTS = [[3, 9, 27, 17], [5, 25, 29]]
RESPONSES = [[[1, 2, 3, 4], [30, 7], [8, 8, 21, 6, 13]], [[11, 12], [31, 2, 19]]]
REWARDS = [[1, 0, 0.5], [0, 1]]
CASES = [
    {"temperature": 1.0, "correction": 2.0, "kl": 0.05, "agg": "token-mean"},
    {"temperature": 0.7, "correction": None, "kl": 0, "agg": "seq-mean"},
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


def response_logprobs(w, prompt, response, temperature):
    rows = logits(w, prompt + response)[len(prompt) - 1 : -1] / temperature
    return rows.log_softmax(-1)[torch.arange(len(response)), torch.tensor(response)]


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
        rewards = torch.tensor(REWARDS[g], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        for i, response in enumerate(RESPONSES[g]):
            current = response_logprobs(w, prompt, response, case["temperature"])
            ratio = torch.exp(current - current.detach())
            term = -torch.minimum(ratio * advantages[i], ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * advantages[i])
            if case["correction"]:
                term = term * torch.exp(current.detach() - behaviour[g][i]).clamp(max=case["correction"])
            if case["kl"]:
                f = response_logprobs(reference, prompt, response, case["temperature"]).detach()
                term = term + case["kl"] * (torch.exp(f - current) - 1 - (f - current))
            terms.append(term)
    loss = torch.cat(terms).mean() if case["agg"] == "token-mean" else torch.stack([t.mean() for t in terms]).mean()
    optimizer = torch.optim.AdamW(w.values(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    loss.backward()
    gradients = {name: pack(value.grad) for name, value in w.items()}
    optimizer.step()
    return {**case, "loss": loss.item(), "gradients": gradients, "weights": {name: pack(value) for name, value in w.items()}}


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
        "config": {"architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
                   "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "intermediate_size": INTERMEDIATE, "vocab_size": VOCAB, "rms_norm_eps": EPS,
                   "rope_theta": THETA, "tie_word_embeddings": True, "max_position_embeddings": 64},
        "lr": LR, "weight_decay": DECAY, "prompts": PROMPTS, "responses": RESPONSES, "rewards": REWARDS,
        "behaviour": [[b.tolist() for b in group] for group in behaviour],
        "cases": [update(case, weights, reference, behaviour) for case in CASES],
    }))


main()
