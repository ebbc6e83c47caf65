#!/usr/bin/env python3
"""Writes architecture_reference.json: what transformers computes with a small random model of each architecture, in float32.

    python3 tests/parity/architecture_reference.py > tests/parity/architecture_reference.json      (needs torch and transformers)

tests/unit/model/architecture_test.cc makes the same models from the same formula, so that no weights are committed: element i of a tensor is a function of its
name and of i, on bfloat16's grid. Rotations that are scaled have 32 original positions, and the sequences are three times as long.
"""
import json

import numpy
import torch
import transformers

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
PROMPT, RESPONSES, TEMPERATURE = 40, (56, 9), 0.8


def mix(x):
    x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return x ^ (x >> numpy.uint64(31))


def bits(name, count):
    """64 bits for each index: splitmix64 from the name's FNV-1a."""
    start = 0xCBF29CE484222325
    for byte in name.encode():
        start = ((start ^ byte) * 0x100000001B3) & MASK
    with numpy.errstate(over="ignore"):
        return mix(numpy.uint64(start) + numpy.arange(count, dtype=numpy.uint64) * numpy.uint64(GOLDEN))


def units(name, count):
    """In [-1, 1), eight bits each."""
    return (bits(name, count) >> numpy.uint64(56)).astype(numpy.float64) / 128 - 1


def tokens(name, count, vocab):
    return (bits(name, count) % numpy.uint64(vocab)).astype(numpy.int64).tolist()


def weights(name, shape):
    u = units(name, int(numpy.prod(shape)))
    if "norm" in name:
        values = 1 + numpy.floor(u * 32) / 128
    elif name.endswith("bias"):
        values = u
    else:
        values = u / 4
    return torch.tensor(values.reshape(shape), dtype=torch.float32)


def gradients_of(tensor, name):
    """Its norm and its products with two vectors of signs: enough to tell a wrong gradient, and three numbers instead of thousands."""
    flat = tensor.detach().double().flatten()
    signs = [torch.tensor(numpy.where(bits(f"{name}.signs{i}", flat.numel()) >> numpy.uint64(63), -1.0, 1.0)) for i in (0, 1)]
    return [float("%.7g" % value) for value in (flat.norm(), flat @ signs[0], flat @ signs[1])]


COMMON = {"vocab_size": 131, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "hidden_act": "silu", "max_position_embeddings": 128, "attention_dropout": 0.0}
LLAMA = {**COMMON, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False}
QWEN2 = {**COMMON, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": 64, "max_window_layers": 2}
QWEN3 = {**COMMON, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "attention_bias": False, "use_sliding_window": False, "sliding_window": None}
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}

# Names say what each one has that the others have not. As config.json files of both generations spell it.
MODELS = {
    "llama-tied": {**LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 10000.0, "tie_word_embeddings": True},
    "llama-untied-every-head-its-own-keys-wide-heads": {**LLAMA, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "rope_theta": 500000.0, "tie_word_embeddings": False},
    "llama3-rope-8-heads-of-1": {**LLAMA, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 16, "rope_theta": 10000.0, "rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": True},
    "llama3-rope-new-spelling": {**LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": {"rope_theta": 500.0, **LLAMA3_ROPE}, "tie_word_embeddings": False},
    "llama-yarn": {**LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 10000.0, "tie_word_embeddings": True,
                   "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
    "qwen2-tied-7-heads-of-1": {**QWEN2, "hidden_size": 112, "num_attention_heads": 7, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen2-untied-yarn": {**QWEN2, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
                          "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 0.5, "beta_slow": 0.05, "attention_factor": 1.3}},
    "qwen3-tied-wide-heads": {**QWEN3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True},
    "qwen3-untied-yarn": {**QWEN3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": False,
                          "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
}


def reference(name, config):
    made = transformers.AutoConfig.for_model(**{key: value for key, value in config.items() if key != "architectures"})
    model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.float32, attn_implementation="eager").eval()
    assert type(model).__name__ == config["architectures"][0]
    with torch.no_grad():
        for parameter, tensor in model.named_parameters():
            tensor.copy_(weights(parameter, tensor.shape))
    vocab = config["vocab_size"]
    prompt = tokens(name + ".prompt", PROMPT, vocab)
    logprobs, entropies = [], []
    for i, length in enumerate(RESPONSES):
        response = tokens(f"{name}.response{i}", length, vocab)
        logits = model(torch.tensor([prompt + response])).logits[0, PROMPT - 1:-1]
        rows = torch.log_softmax(logits.double() / TEMPERATURE, -1)
        logprobs.append(rows[torch.arange(length), torch.tensor(response)])
        entropies.append(-(rows.exp() * rows).sum(-1))
    logprobs, entropies = torch.cat(logprobs), torch.cat(entropies)
    loss = (logprobs * torch.tensor(units(name + ".loss", len(logprobs)))).sum() + (entropies * torch.tensor(units(name + ".entropy-loss", len(entropies)))).sum()
    loss.backward()
    return {"name": name, "config": config, "logprobs": [round(v, 6) for v in logprobs.tolist()], "entropies": [round(v, 6) for v in entropies.tolist()],
            "gradients": {parameter: gradients_of(tensor.grad, parameter) for parameter, tensor in model.named_parameters()}}


def main():
    torch.manual_seed(0)
    print(json.dumps({"made_by": "tests/parity/architecture_reference.py", "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__})[:-1] + ', "models": [')
    print(",\n".join(json.dumps(reference(name, config)) for name, config in MODELS.items()))
    print("]}")


if __name__ == "__main__":
    main()
