#!/usr/bin/env bash
# exactness.sh [MODEL] [STEPS]: on policy, the log-probability recorded at sampling against the trainer's forward over the same tokens, in every bit.
# Runs the resident loop with --sync (every token is of the newest weights) and adds up what grpo-step counted.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
model=${1:-$("$root/pipelines/get-model.sh" "$root/build/model")} steps=${2:-3}
for a in 2 3 4 5 6 7 8 9; do printf '{"id":"%s","prompt":"What is %s + 4?","label":"%s"}\n' $a $a $((a + 4)); done >"$work/prompts.jsonl"
"$root/pipelines/april.sh" --dir "$work/run" --model "$model" --prompts "$work/prompts.jsonl" --steps "$steps" --sync >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; die 1 "the loop failed"; }
python3 - "$work/run/metrics/grpo-step.jsonl" <<'PY'
import json, sys
steps = [json.loads(line) for line in open(sys.argv[1])]
print(json.dumps({"figure": "recorded_against_recomputed_logprobs", "unit": "nats", "steps": len(steps), "tokens": sum(s["on_policy_tokens"] for s in steps),
                  "differing_tokens": sum(s["on_policy_differing_tokens"] for s in steps), "largest_difference": max(s["on_policy_largest_difference_nats"] for s in steps)}))
PY
