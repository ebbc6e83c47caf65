"""Makes tokenizer_reference.json: digests of the ids that `tokenizers` gives to the strings of tokenizer_strings.py.

    python tests/parity/tokenizer_reference.py MODEL.gguf > tests/parity/tokenizer_reference.json      (needs tokenizers, transformers and gguf)

For the real model the tokenizer is put together here from the GGUF file's lists and what SmolLM2's own tokenizer.json says about the rest (Digits one by one,
then ByteLevel). For the split expressions and rules of the other families, small tokenizers from tests/unit/text/data, each also with the special tokens taken
as text. One digest covers 100 strings: FNV-1a 64 over each string's number of ids and its ids, as little-endian 32-bit numbers.
"""
import json
import pathlib
import struct
import sys

import gguf
import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizer_strings import string

DATA = pathlib.Path(__file__).resolve().parents[1] / "unit" / "text" / "data"


def digest(encodings):
    value = 0xCBF29CE484222325
    for ids in encodings:
        for byte in struct.pack(f"<{len(ids) + 1}I", len(ids), *ids):
            value = ((value ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return f"{value:016x}"


def digests(tokenizer, count, parse_special=True):
    tokenizer.encode_special_tokens = not parse_special
    ids = [tokenizer.encode(string(i), add_special_tokens=False).ids for i in range(count)]
    return [digest(ids[i:i + 100]) for i in range(0, count, 100)]


def smollm2(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def main():
    reference = {"made_by": "tests/parity/tokenizer_reference.py", "tokenizers": tokenizers.__version__}
    model = smollm2(sys.argv[1])
    reference["smollm2"] = {"parse_special": digests(model, 10000), "plain": digests(model, 10000, parse_special=False)}
    for path in sorted(DATA.glob("*.tokenizer.json")):
        small = Tokenizer.from_file(str(path))
        reference[path.name.split(".")[0]] = {"parse_special": digests(small, 2000), "plain": digests(small, 1000, parse_special=False)}
    json.dump(reference, sys.stdout, indent=0)
    print()


if __name__ == "__main__":
    main()
