# Two steps of the real model in the resident loop, stopped by a signal in between and resumed: nothing is lost, every on-policy token agrees in every bit.
. "$APRIL_SOURCE/tests/pipeline/common.bash"
addition >addition.jsonl
april() { "$APRIL_SOURCE/pipelines/april.sh" --dir run --model "$APRIL_MODEL" --prompts addition.jsonl --groups 4 --group-size 4 --max-tokens 32 --checkpoint-every 1 "$@"; }

april --steps 1
[ "$(cat run/weights/LATEST)" = 1 ] || fail "one step should publish version 1, LATEST is $(cat run/weights/LATEST)"
april --steps 2 --resume
[ "$(cat run/weights/LATEST)" = 2 ] || fail "two steps should publish version 2"
[ "$(wc -l <run/metrics/grpo-step.jsonl)" = 2 ] || fail "expected two lines of trainer metrics"
every on_policy_differing_tokens run/metrics/grpo-step.jsonl 'x == 0'
every on_policy_tokens run/metrics/grpo-step.jsonl 'x > 0'
partial-buffer stat -s run/buffer --json >stat.json
