"""COUNT lines for `partial-buffer add --plain`: different texts of exactly so many tokens.   make_prompt.py MODEL_DIR TOKENS COUNT"""
import itertools
import json
import sys

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
wanted, count = int(sys.argv[2]), int(sys.argv[3])
places = ["sea", "river", "forest", "road", "mountain", "lake", "border", "mill"]
story = "The village of {} lay by the {}, and every morning the boats went out before the sun was up. "
found = 0
for number, place in itertools.product(range(100), places):
    ids = tokenizer.encode(f"{number}. " + story.format("Harbour", place) * (wanted // 10 + 1), add_special_tokens=False).ids[:wanted]
    text = tokenizer.decode(ids)
    if len(tokenizer.encode(text, add_special_tokens=False).ids) != wanted:
        continue  # cut where the tokens join otherwise
    print(json.dumps({"id": f"story{found}", "prompt": text, "label": ""}))
    found += 1
    if found == count:
        sys.exit()
sys.exit(f"only {found} of the texts have exactly {wanted} tokens")
