#!/usr/bin/env bash
# evaluate.sh: pass@k by counting every choice of k responses, intervals by the t distribution's own table; errors are counted apart; the table says the same.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
PATH=$APRIL_SOURCE/pipelines:$PATH
prompts 6 >questions.jsonl
options=(--model "$model" --prompts questions.jsonl --scorer regex --pattern '[a-d]' --samples 4 --max-tokens 6 --k 2,3)

evaluate.sh "${options[@]}" --json --out out >figures.jsonl 2>stderr || { cat stderr; exit 1; }
for seed in 1 2 3; do rollout-cat -q --json --in out/sampled-$seed.zst; done >sampled.jsonl
rollout-cat -q --json --in out/greedy.zst >greedy.jsonl
python3 - <<'PY'
import collections, itertools, json, statistics
def responses(name):
    return [r for r in map(json.loads, open(name)) if r["type"] == "rollout"]
figures = {f["evaluation"]: f for f in map(json.loads, open("figures.jsonl"))}
sampled = figures["sampled"]
assert (sampled["questions"], sampled["seeds"], sampled["samples"], sampled["judged"], sampled["not_judged"]) == (6, 3, 4, 72, 0), sampled
by_seed = [list(g) for g in (responses("sampled.jsonl")[i:i + 24] for i in (0, 24, 48))]
def close(a, b): assert abs(a - b) < 1e-5, (a, b)
def check(key, of_seeds, digits=1):
    close(sampled[key] / digits, statistics.mean(of_seeds) / digits)
    close(sampled[key + "_margin"] / digits, 4.302653 * statistics.stdev(of_seeds) / 3 ** 0.5 / digits)  # t(0.975, 2)
for k in (1, 2, 3):
    passed = []
    for one in by_seed:
        groups = collections.defaultdict(list)
        for r in one: groups[r["prompt_id"]].append(r["reward"]["value"] >= 1)
        assert len(groups) == 6
        chances = []
        for outcomes in groups.values():
            choices = list(itertools.combinations(outcomes, k))
            chances.append(sum(map(any, choices)) / len(choices))
        passed.append(statistics.mean(chances))
    assert 0 < statistics.mean(passed) < 1, "these answers show nothing"
    check(f"pass_at_{k}", passed)
check("mean_tokens", [statistics.mean(len(r["tokens"]) for r in one) for one in by_seed], 1000)
close(sampled["truncated_share"], sum(r["finish"] == "length" for r in responses("sampled.jsonl")) / 72)
greedy = figures["greedy"]
close(greedy["pass_at_1"], statistics.mean(r["reward"]["value"] for r in responses("greedy.jsonl")))
assert greedy["pass_at_1_margin"] is None and greedy["judged"] == 6, greedy
PY

# The same as a table.
evaluate.sh "${options[@]}" >table
grep -q '^6 questions; sampled: 3 seeds from 1, 4 responses a question each, temperature 1; passed: reward of 1 or more by regex$' table || { cat table; exit 1; }
expect "$(sed -nE 's/^sampled +([0-9.]+) ± ([0-9.]+) .*/\1 \2/p' table)" \
  "$(python3 -c 'import json; f = json.loads(open("figures.jsonl").readline()); print("%.3f %.3f" % (f["pass_at_1"], f["pass_at_1_margin"]))')" "pass@1 in the table"
expect "$(awk '/^sampled|^greedy|pass@1/ { gsub(/±/, "+"); print length }' table | sort -u | wc -l)" 1 "widths of the table's lines"

# What the scorer cannot judge is not wrong: it is left out, and said.
sed -E '1s/,"label":"x"//; 3s/,"label":"x"//' questions.jsonl >unlabelled.jsonl
options=(--model "$model" --prompts unlabelled.jsonl --scorer exact --samples 2 --max-tokens 6 --seeds 1)
evaluate.sh "${options[@]}" --json >figures.jsonl 2>stderr
python3 -c 'import json; f = json.loads(open("figures.jsonl").readline()); assert (f["judged"], f["not_judged"], f["pass_at_1_margin"]) == (8, 4, None), f'
grep -q 'sampled: 2 times a question had fewer than 2 responses that could be judged, and does not count in pass@2' stderr || { cat stderr; exit 1; }
sed -E 's/,"label":"x"//' questions.jsonl >unlabelled.jsonl
fails 'no response was judged: 12 could not be' 1 evaluate.sh "${options[@]}"
fails 'pass@8 needs at least 8 responses a question: add --samples 8' 2 evaluate.sh "${options[@]}" --k 8
fails '--seeds: not a positive whole number: none' 2 evaluate.sh "${options[@]}" --seeds none
fails 'cannot read nope.jsonl' 1 evaluate.sh "${options[@]}" --prompts nope.jsonl
fails '--model and --prompts are needed' 2 evaluate.sh --model "$model"
