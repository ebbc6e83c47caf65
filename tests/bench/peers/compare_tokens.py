"""Writes strings and chats as prompt lines, then compares the ids that they were given.   compare_tokens.py write|compare PEERS COUNT FOLDER

The reference tokenizer is put together by tests/parity/tokenizer_reference.py: what transformers makes of a GGUF file lacks the split of digits.
"""
import json
import sys

from tokenizer_strings import string
mode, peers, count, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
strings = [text for text in (string(i) for i in range(count)) if text]
chats = []
for i in range(0, min(count, 2000), 5):
    messages = [{"role": "user", "content": string(i)}]
    if i % 2:
        messages.insert(0, {"role": "system", "content": string(i + 1)})
    if i % 3 == 0:
        messages += [{"role": "assistant", "content": string(i + 2)}, {"role": "user", "content": string(i + 3)}]
    chats.append(messages)

if mode == "write":
    with open(folder + "/strings.jsonl", "w") as out:
        for i, text in enumerate(strings):
            print(json.dumps({"id": str(i), "prompt": text, "label": ""}), file=out)
    with open(folder + "/chats.jsonl", "w") as out:
        for i, messages in enumerate(chats):
            print(json.dumps({"id": str(i), "messages": messages, "label": ""}), file=out)
    sys.exit()

import msgpack
import numpy
from tokenizer_reference import smollm2
from transformers import AutoTokenizer


def seen(name):
    records = msgpack.Unpacker(open(f"{folder}/{name}.stream", "rb"), max_buffer_size=0)
    return {int(r["prompt_id"]): numpy.frombuffer(r["prompt_tokens"], "<u4").tolist() for r in records if r["type"] == "rollout"}


def report(figure, expected, ids):
    wrong = [i for i, wanted in enumerate(expected) if ids.get(i) != wanted]
    line = {"figure": figure, "compared": len(expected), "equal": len(expected) - len(wrong)}
    if wrong:
        line["first_different"] = wrong[0]
    print(json.dumps(line), flush=True)


tokenizer = smollm2(peers + "/model/smollm2.gguf")
report("token_ids_against_tokenizers", [tokenizer.encode(text, add_special_tokens=False).ids for text in strings], seen("strings"))
chat_tokenizer = AutoTokenizer.from_pretrained(peers + "/model/hf")
rendered = [chat_tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) for messages in chats]
report("chats_against_apply_chat_template", [tokenizer.encode(text, add_special_tokens=False).ids for text in rendered], seen("chats"))
