#!/usr/bin/env bash
# The ablations in small: tables, plots and RESULTS.md are made; the figures are the same every time, and say what they must.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
run=$APRIL_SOURCE/pipelines/ablations/run.sh

"$run" --quick --only schedules --only over-issue --out out 2>log || { cat log; exit 1; }
for file in RESULTS.md results/runs.jsonl results/schedules.tsv results/over-issue.tsv results/schedules.svg results/over-issue.svg; do
  [ -s "out/$file" ] || { echo "no $file"; cat log; exit 1; }
done
! grep -q "nan" out/RESULTS.md || { echo "RESULTS.md lacks numbers:"; grep nan out/RESULTS.md; exit 1; }
python3 - <<'PY'
import json
runs = [json.loads(line) for line in open("out/results/runs.jsonl")]
schedules = [r for r in runs if r["table"] == "schedules"]
sync = max((r for r in schedules if r["schedule"] == "sync"), key=lambda r: r["trained_tokens_per_s"])
assert sync["stale_share"] == sync["staleness_max"] == 0 and sync["idle_share"] > 0.1, sync
for r in runs:
    assert r["trained_rollouts"] == r["steps"] * r["groups"] * r["group_size"], r
    if r["schedule"] == "top-up" and r["admission"] == "first-finished":
        assert r["idle_share"] < 0.01, r
    if r["admission"].startswith("assigned:"):
        assert r["staleness_max"] <= int(r["admission"].split(":")[1]), r
top_up = [r for r in schedules if r["schedule"] == "top-up" and r["admission"] == "first-finished"]
assert all(r["trained_tokens_per_s"] > sync["trained_tokens_per_s"] and r["stale_share"] > 0 for r in top_up), top_up
wave = [r for r in runs if r["schedule"] == "wave"]
assert all(0 < r["staleness_max"] for r in wave if r["over_issue"] >= 2)
PY
# Nothing depends on the machine or the moment.
"$run" --quick --only schedules --jobs 1 --out again 2>log
grep '"table":"schedules"' out/results/runs.jsonl | cmp -s - again/results/runs.jsonl || { echo "the same simulations give other figures"; exit 1; }

# Constant lengths without a prompt: a step's time is what the profile says; nobody idles, whatever the schedule.
cat >flat.json <<'JSON'
{"format": "april-simulation-profile", "version": 1, "name": "flat", "source": "this test",
 "decode": {"step_ms": 10, "row_ms": 0, "context_us": 0}, "prefill": {"token_ms": 0}, "lengths": {"distribution": "list", "tokens": [50]}}
JSON
for schedule in sync wave top-up; do
  april-simulate -q --profile flat.json --schedule $schedule --groups 4 --group-size 2 --steps 6 --warm-up 2 --train-token-us 100 | python3 -c '
import json, sys
r = json.load(sys.stdin)
# 8 rollouts of 50 tokens a step; 16 at once under over-issue, which is two steps of work in the time of one.
assert abs(r["generating_s"] - (2.0 if r["schedule"] == "sync" else 1.0)) < 0.011, r
assert abs(r["training_s"] - 4 * 400 * 100e-6) < 1e-6 and r["idle_share"] == 0 and r["trained_length_mean"] == 50, r
' || exit 1
done
fails "no table is called" 2 "$run" --only abacus
fails "no such admission" 2 april-simulate --admission abacus
fails "is for --schedule top-up" 2 april-simulate --schedule sync --admission window:64
fails "a step would wait for groups" 2 april-simulate --admission window:5
fails "leaves no step that counts" 2 april-simulate --steps 2 --warm-up 2
fails "is no distribution of lengths" 2 april-simulate --lengths normal:5
