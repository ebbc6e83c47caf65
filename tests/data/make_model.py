#!/usr/bin/env python3
"""Writes a random model directory of a given architecture, without any library: python3 tests/data/make_model.py DIR CONFIG_JSON TOKENIZER_JSON [SHARDS]

CONFIG_JSON is text: what config.json has beside the sizes chosen here. The tokenizer is copied, with a template that fits any. Responses mean nothing; the output
row of token 2, which ends a response, is long, so that some end by themselves.
"""
import json
import pathlib
import random
import struct
import sys

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
TEMPLATE = "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"


def shapes(config):
    hidden, inner, vocab, dim = config["hidden_size"], config["intermediate_size"], config["vocab_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    yield "model.embed_tokens.weight", [vocab, hidden]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            yield f"{prefix}self_attn.{name}_proj.weight", [rows, hidden]
            if config["model_type"] == "qwen2":
                yield f"{prefix}self_attn.{name}_proj.bias", [rows]
            if config["model_type"] == "qwen3" and name != "v":
                yield f"{prefix}self_attn.{name}_norm.weight", [dim]
        yield prefix + "self_attn.o_proj.weight", [hidden, q]
        yield prefix + "mlp.gate_proj.weight", [inner, hidden]
        yield prefix + "mlp.up_proj.weight", [inner, hidden]
        yield prefix + "mlp.down_proj.weight", [hidden, inner]
        yield prefix + "input_layernorm.weight", [hidden]
        yield prefix + "post_attention_layernorm.weight", [hidden]
    yield "model.norm.weight", [hidden]
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", [vocab, hidden]


def values(name, shape):
    """bfloat16, as bytes."""
    generator = random.Random(name)
    words = bytearray()
    columns = shape[-1]
    for i in range(shape[0] * (columns if len(shape) == 2 else 1)):
        value = generator.uniform(-0.3, 0.3) + (1 if "norm" in name else 0)
        if name in ("model.embed_tokens.weight", "lm_head.weight") and i // columns == 2:
            value *= 2
        words += struct.pack("<f", value)[2:]
    return bytes(words)


def write(path, tensors):
    header, data = {}, b""
    for name, shape in tensors:
        added = values(name, shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(added)]}
        data += added
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


def main():
    folder, tokenizer = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[3])
    shards = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    config = {"vocab_size": 768, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
              "hidden_act": "silu", "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True, "eos_token_id": 2}
    config.update(json.loads(sys.argv[2]))
    config["architectures"] = [ARCHITECTURES[config["model_type"]]]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    tensors = list(shapes(config))
    names = ["model.safetensors"] if shards == 1 else [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for i, name in enumerate(names):
        write(folder / name, tensors[i::shards])
    if shards > 1:
        index = {"metadata": {}, "weight_map": {tensor[0]: names[i % shards] for i, tensor in enumerate(tensors)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


main()
