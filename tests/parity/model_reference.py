#!/usr/bin/env python3
"""Writes model_reference.json: log-probabilities of fixed continuations by transformers in float32, for tests/unit/model/parity_test.cc.

    python3 tests/parity/model_reference.py MODEL_DIR > tests/parity/model_reference.json

Needs torch and transformers. The reference holds token ids only, so the test needs no tokenizer; `argmax` is the most likely token after each row.
"""
import json
import sys

import torch
import transformers

PAIRS = [
    ("The capital of France is", " Paris, and the capital of Italy is Rome."),
    ("def fibonacci(n):\n", "    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n"),
    ("Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.", " In May she sold 48 / 2 = 24 clips. Altogether 48 + 24 = 72."),
    ("Water boils at", " 100 degrees Celsius at sea level."),
    ("Once upon a time", " there was a small village at the foot of a mountain."),
    ("1, 1, 2, 3, 5, 8, 13,", " 21, 34, 55, 89, 144"),
    ("The opposite of hot is", " cold."),
    ("Q: What is 17 * 23?\nA:", " 391"),
    ("Ein kurzer Satz auf Deutsch:", " Der Hund schläft unter dem Tisch."),
    ("<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n", "Hello! How can I help you today?<|im_end|>"),
    ("SELECT name FROM users WHERE", " age > 18 ORDER BY name;"),
    ("The mitochondria is the", " powerhouse of the cell."),
    ("To be, or not to be,", " that is the question."),
    ("Roses are red,\nViolets are blue,\n", "Sugar is sweet,\nAnd so are you."),
    ("x = [1, 2, 3]\nprint(sum(x))  # prints", " 6"),
    ("In 1969, Neil Armstrong", " became the first person to walk on the Moon."),
    ("zxqv jjkw 0x7f", " !!! ??? ..."),
    ("A", "B"),
    ("List three colours:\n1. Red\n", "2. Green\n3. Blue\n"),
    ("The quick brown fox jumps over the lazy dog. " * 20, "The quick brown fox jumps over the lazy dog."),
]


def main():
    folder = sys.argv[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    cases = []
    for prompt, response in PAIRS:
        prompt_ids = tokenizer(prompt, add_special_tokens=False).input_ids
        response_ids = tokenizer(response, add_special_tokens=False).input_ids
        with torch.no_grad():
            logits = model(torch.tensor([prompt_ids + response_ids])).logits[0, len(prompt_ids) - 1 : -1].float()
        logprobs = torch.log_softmax(logits.double(), -1)
        cases.append({
            "prompt": prompt_ids,
            "response": response_ids,
            "logprobs": [round(logprobs[i, t].item(), 6) for i, t in enumerate(response_ids)],
            "argmax": logits.argmax(-1).tolist(),
            "entropies": [round(e, 6) for e in (-(logprobs.exp() * logprobs).sum(-1)).tolist()],
        })
    config = model.config
    print(json.dumps({"model": {"hidden": config.hidden_size, "layers": config.num_hidden_layers, "vocab": config.vocab_size},
                      "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}, indent=None)[:-1] + ', "cases": [')
    print(",\n".join(json.dumps(case) for case in cases))
    print("]}")


if __name__ == "__main__":
    main()
