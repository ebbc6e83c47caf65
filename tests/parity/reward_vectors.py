"""Writes reward_vectors.json: python tests/parity/reward_vectors.py > tests/parity/reward_vectors.json

The results were observed by running the graders of two repositories with sympy 1.14: THUDM/slime at 624b824a8 (rm_hub/math_utils.py, deepscaler.py,
math_dapo_utils.py) and RLsys-Foundation/APRIL at a72b585. "math" judges the last \\boxed of the whole response; "deepscaler" what follows </think>.
"""
import json
import sys

MATH = [("1/2", r"\frac{1}{2}", 1), ("2/4", "1/2", 0), ("(1, 2)", "(1,2)", 1), ("2^3", "8", 0), ("x+1", "1+x", 1), (r"5 \text{ cm}", "5", 1), ("0.5", r"50\%", 0),
        (r"90^\circ", "90", 1), ("7 3/4", "31/4", 1), ("3 million", "3000000", 0), ("1 or 2", "1,2", 1), ("3.00000001", "3", 1), ("0.50", r"\frac{1}{2}", 1),
        ("1,000", "1000", 1), ("[1,2]", "(1,2)", 0), ("2^{10}", "1024", 0), ("x = 5", "5", 1), (r"50\%", "50", 1), (r"\sqrt{8}", r"2\sqrt{2}", 1), ("A", "a", 1),
        ("1.5e3", "1500", 1), (r"\pi/2", r"\frac{\pi}{2}", 1), ("x^2+2x+1", "(x+1)^2", 1), ("sin(x)^2+cos(x)^2", "1", 0)]
DAPO = [("Answer: $5$", "5", 1, 1), ("Answer: 1,234", "1234", 1, 1), ("Answer: 5", "5.0", -1, 1), ("**Answer:** 5", "5", -1, -1), (r"answer : \boxed{5}", "5", 1, 1),
        ("Answer: 5 cm", "5", 1, 1), (r"Answer: \frac12", r"\frac{1}{2}", 1, "error"), ("Answer: 5.", "5", -1, -1), ("Answer: 5.0", "5", -1, -1),
        ("Answer: 5<|im_end|>", "5", -1, 1), (r"\boxed{5}", "5", -1, -1), ("Answer: 5" + "x" * 300, "5", -1, -1), ("Answer: 5 apples", "5", -1, -1), ("Answer: 05", "5", -1, -1)]

vectors = [{"scorer": "math", "response": f"so the answer is \\boxed{{{answer}}}", "label": label, "value": value} for answer, label, value in MATH]
vectors += [{"scorer": "deepscaler", "response": f"x</think> \\boxed{{{answer}}}", "label": label, "slime": value, "april": value} for answer, label, value in MATH]
vectors += [{"scorer": "math", "response": r"a</think>\boxed{1}</think>\boxed{2}", "label": "2", "value": 1},
            {"scorer": "deepscaler", "response": r"a</think>\boxed{1}</think>\boxed{2}", "label": "2", "slime": 1, "april": 0},
            {"scorer": "deepscaler", "response": r"\boxed{2}", "label": "2", "slime": 0, "april": 0}]
vectors += [{"scorer": "dapo", "response": response, "label": label, "slime": slime, "april": april} for response, label, april, slime in DAPO]
json.dump({"made_by": "tests/parity/reward_vectors.py", "vectors": vectors}, sys.stdout, indent=0)
print()
