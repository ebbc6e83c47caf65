# Two steps of the real model as plain pipes; unfinished rollouts of the first round are resumed in the second, under newer weights.
. "$APRIL_SOURCE/tests/pipeline/common.bash"
addition >addition.jsonl
mkdir run
weight-sync publish -q --model "$APRIL_MODEL" --to run/weights --version 0
partial-buffer init -q -s run/buffer --model "$APRIL_MODEL" --group-size 4 --groups-per-step 4 --in-flight 32 --max-tokens 32 --seed 1
partial-buffer add -q -s run/buffer --prompts addition.jsonl
mkdir run/metrics
"$APRIL_SOURCE/pipelines/round.sh" run "$APRIL_MODEL"
"$APRIL_SOURCE/pipelines/round.sh" run "$APRIL_MODEL"
[ "$(cat run/weights/LATEST)" = 2 ] || fail "two rounds should publish version 2"
every on_policy_differing_tokens run/metrics/grpo-step.jsonl 'x == 0'
partial-buffer stat -s run/buffer --json >stat.json
[ "$(value_of finished_resumes stat.json)" -gt 0 ] || fail "no unfinished rollout of the first round was finished in the second: $(cat stat.json)"
[ "$(value_of rollouts_continued run/metrics/grpo-step.jsonl | tail -n 1)" -gt 0 ] || fail "the second step trained none of them"
[ -n "$(rollout-gen -q --model "$APRIL_MODEL" --prompt "What is 3 + 5?" --max-tokens 4)" ] || fail "the quantised model itself, not published, answers nothing"
