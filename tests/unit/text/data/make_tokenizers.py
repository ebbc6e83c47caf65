"""Makes the small tokenizers of this folder, one for each way of splitting text: python tests/unit/text/data/make_tokenizers.py

Needs tokenizers and sentencepiece. They are trained on strings of tests/parity/tokenizer_strings.py. Their added tokens have every flag that there is.
"""
import io
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "parity"))
import sentencepiece  # noqa: E402
from tokenizer_strings import CODE, WORDS, string  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make(name, pre_tokenizer, normalizer=None, added=(), size=700, edit=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    corpus = [string(i) for i in range(10000, 11000)] + [" ".join(WORDS)] * 20 + CODE * 20
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_tokens(list(added))
    if name == "llama3":
        begin = "<|begin_of_text|>"
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.token_to_id(begin))])
    root = json.loads(tokenizer.to_str())
    if edit:
        edit(root)
    (HERE / f"{name}.tokenizer.json").write_text(json.dumps(root, ensure_ascii=False, separators=(",", ":")) + "\n")


def make_sentencepiece(name, normalizer=None, pre_tokenizer=None, added=()):
    """As transformers turns a SentencePiece model into a tokenizer.json: pairs in the order of what they make, byte tokens behind the special ones."""
    text = ["".join(c if 32 <= ord(c) < 0x100 else "" for c in string(i)) for i in range(10000, 11000)]  # other letters are to become bytes
    corpus = [line for line in text if line.strip()]
    corpus += [" ".join(WORDS), "        return x", "    if x:", "the answer  is   the number"] * 20 + [line for code in CODE * 20 for line in code.splitlines()]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_writer=model, model_type="bpe", vocab_size=640, byte_fallback=True, character_coverage=0.998,
                                             split_digits=True, allow_whitespace_only_pieces=True, remove_extra_whitespaces=False, normalization_rule_name="identity",
                                             num_threads=1, minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    plain = {piece for i, piece in enumerate(pieces) if not (processor.is_control(i) or processor.is_unknown(i) or processor.is_byte(i))}
    merges = []
    for piece in (piece for piece in pieces if piece in plain):
        pairs = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in plain and piece[i:] in plain]
        merges += sorted(pairs, key=lambda pair: -len(pair[0]))
    tokenizer = Tokenizer(models.BPE(vocab, merges, fuse_unk=True, byte_fallback=True, unk_token="<unk>"))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([special(text) for text in ("<unk>", "<s>", "</s>")])
    tokenizer.add_tokens(list(added))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", vocab["<s>"])])
    (HERE / f"{name}.tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")


def special(text, **flags):
    return AddedToken(text, special=True, normalized=False, **flags)


def lacks_bytes(root):
    """SmolLM2's vocabulary has no token for some bytes either. The unknown token of this one is fused."""
    merged = set("".join(left + right for left, right in root["model"]["merges"]))
    for control in range(32):  # a control byte's stand-in is U+0100 and following
        if chr(0x100 + control) not in merged:
            del root["model"]["vocab"][chr(0x100 + control)]
    for token in root["added_tokens"]:
        root["model"]["vocab"][token["content"]] = token["id"]
    root["model"].update(unk_token="<|endoftext|>", fuse_unk=True)


make("gpt2", pre_tokenizers.ByteLevel(add_prefix_space=True), added=[
    special("<|endoftext|>"), special("<think>", lstrip=True), special("</think>", rstrip=True), AddedToken("<tool_call>", lstrip=True, rstrip=True, normalized=False),
    AddedToken("the", single_word=True), AddedToken("number", single_word=True, normalized=False), special("<|im_end|>"), AddedToken("<|im_end|><|im_end|>", normalized=False)])
make("smollm", pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), edit=lacks_bytes, added=[
    special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>"), special("<repo_name>")])
make("llama3", split(LLAMA3), edit=lambda root: root["model"].update(ignore_merges=True), added=[
    special("<|begin_of_text|>"), special("<|eot_id|>"), special("<|start_header_id|>"), special("<|end_header_id|>")])
make("qwen2", split(QWEN2), normalizer=normalizers.NFC(), added=[
    special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>"), AddedToken("<tool_call>", normalized=False), AddedToken("A\u030a", normalized=True)])
# SentencePiece's: the two ways of files, and what Metaspace has beside.
make_sentencepiece("llama2", normalizer=normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]),
                   added=[special("<pad>"), special("<|im_end|>"), AddedToken("<think>", normalized=True), AddedToken("</think>", normalized=False, lstrip=True, rstrip=True)])
make_sentencepiece("mistral", pre_tokenizer=pre_tokenizers.Metaspace("\u2581", prepend_scheme="first", split=False),
                   added=[special("[INST]"), special("[/INST]"), special("<|eot_id|>", rstrip=True), special("<|im_start|>"), AddedToken("<think>", normalized=True)])
