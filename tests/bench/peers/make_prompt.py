"""One line for `partial-buffer add --plain`: a text of exactly so many tokens.   make_prompt.py MODEL_DIR TOKENS"""
import json
import sys

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
wanted = int(sys.argv[2])
story = "The village lay by the sea, and every morning the boats went out before the sun was up. "
ids = tokenizer.encode(story * (wanted // 10 + 1), add_special_tokens=False).ids[:wanted]
text = tokenizer.decode(ids)
seen = len(tokenizer.encode(text, add_special_tokens=False).ids)
if seen != wanted:
    sys.exit(f"a text of {wanted} tokens has {seen} when it is read again")
print(json.dumps({"id": "story", "prompt": text, "label": ""}))
