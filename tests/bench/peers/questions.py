"""Prompt lines of mixed kinds.   questions.py COUNT"""
import json
import sys

TEXTS = ["What is 3 + 5?", "Name three colours.", "Write a short poem about rain.", "Translate 'good morning' into French.", "Why is the sky blue?",
         "def fibonacci(n):", "List the planets in order.", "What is the capital of Australia?", "Explain gravity to a child.", "Continue: once upon a time",
         "¿Qué hora es?", "日本の首都はどこですか。", "Solve 12 * 12.", "Give me a recipe with eggs.", "Is 97 a prime number?", "SELECT name FROM", "Tell me a joke.",
         "What rhymes with orange?", "Summarise: the cat sat on the mat.", "How many legs has a spider?"]
for i in range(int(sys.argv[1])):
    print(json.dumps({"id": f"q{i}", "prompt": TEXTS[i % len(TEXTS)] * (1 + i // len(TEXTS)), "label": ""}))
