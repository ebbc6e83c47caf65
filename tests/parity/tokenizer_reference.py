"""Makes tokenizer_reference.json: digests of the ids that `tokenizers` gives to the strings of tokenizer_strings.py.

    python tests/parity/tokenizer_reference.py MODEL.gguf > tests/parity/tokenizer_reference.json      (needs tokenizers, transformers and gguf)

For the real model the tokenizer is put together here from the GGUF file's lists and what SmolLM2's own tokenizer.json says about the rest (Digits one by one,
then ByteLevel). For the split expressions and rules of the other families, small tokenizers from tests/unit/text/data, each also with the special tokens taken
as text. One digest covers 100 strings: FNV-1a 64 over each string's number of ids and its ids, as little-endian 32-bit numbers.

SentencePiece's decoders do more than concatenate bytes, so that their texts are compared, too: those of the strings' ids, and of ids that no text has, without
the bytes that only some neighbours make valid. FNV-1a 64 over each text's number of bytes and its bytes.
"""
import json
import pathlib
import struct
import sys

import gguf
import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizer_strings import Random, string

DATA = pathlib.Path(__file__).resolve().parents[1] / "unit" / "text" / "data"


def fnv(parts):
    value = 0xCBF29CE484222325
    for part in parts:
        for byte in part:
            value = ((value ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return f"{value:016x}"


def digest(encodings):
    return fnv(struct.pack(f"<{len(ids) + 1}I", len(ids), *ids) for ids in encodings)


def digests(tokenizer, count, parse_special=True):
    tokenizer.encode_special_tokens = not parse_special
    ids = [tokenizer.encode(string(i), add_special_tokens=False).ids for i in range(count)]
    return [digest(ids[i:i + 100]) for i in range(0, count, 100)]


def decoded(tokenizer, count, skip_special):
    """Digests of texts: of the strings' ids, and of random ones."""
    size = tokenizer.get_vocab_size()
    high = {tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(0x80, 0x100)}
    lists = [tokenizer.encode(string(i), add_special_tokens=i % 2 == 0).ids for i in range(count)]
    for i in range(count):
        random = Random(1_000_000 + i)
        lists.append([token for token in (random.below(size) for _ in range(1 + random.below(12))) if token not in high])
    texts = [tokenizer.decode(ids, skip_special_tokens=skip_special).encode() for ids in lists]
    return [fnv(struct.pack("<I", len(text)) + text for text in texts[i:i + 100]) for i in range(0, len(texts), 100)]


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
        if small.token_to_id("<0x00>") is not None:
            small.encode_special_tokens = False
            reference[path.name.split(".")[0]].update(decoded=decoded(small, 1000, False), decoded_without_special=decoded(small, 1000, True))
    json.dump(reference, sys.stdout, indent=0)
    print()


if __name__ == "__main__":
    main()
