# Steps of the real model in the resident loop, stopped by Ctrl-C and resumed: nothing is lost or trained twice, every on-policy token agrees in every bit.
. "$APRIL_SOURCE/tests/pipeline/common.bash"
addition >addition.jsonl
april=("$APRIL_SOURCE/pipelines/april.sh" --dir run --model "$APRIL_MODEL" --prompts addition.jsonl --groups 4 --group-size 4 --max-tokens 32 --checkpoint-every 2)

# Prompts that are refused leave nothing behind that the corrected command would trip over.
printf '{"prompt":"cut' >cut.jsonl
status=0
"${april[@]}" --steps 1 --prompts cut.jsonl || status=$?
[ $status -eq 3 ] || fail "prompts that are cut off should end with exit 3, got $status"
"${april[@]}" --steps 1
[ "$(cat run/weights/LATEST)" = 1 ] || fail "one step should publish version 1, LATEST is $(cat run/weights/LATEST)"

# Ctrl-C (SIGINT to the whole process group), then what Slurm and systemd do (SIGTERM to the script alone), each once another step was trained.
trained() { wc -l <run/metrics/grpo-step.jsonl; }
for how in INT TERM; do
  before=$(trained)
  set -m
  "${april[@]}" --steps 30 --resume &
  loop=$!
  set +m
  for _ in $(seq 600); do [ "$(trained)" -gt "$before" ] && break; sleep 0.2; done
  begin=$SECONDS
  if [ $how = INT ]; then kill -INT -- -$loop; else kill -TERM $loop; fi
  status=0
  wait $loop || status=$?
  [ $status -eq 75 ] || fail "SIG$how should end the loop with exit 75, got $status"
  [ $((SECONDS - begin)) -lt 60 ] || fail "SIG$how took $((SECONDS - begin)) s"
done
steps=$(($(value_of step run/metrics/grpo-step.jsonl | sort -n | tail -n 1) + 2))
"${april[@]}" --steps $steps --resume
[ "$(cat run/weights/LATEST)" = $steps ] || fail "$steps steps should publish version $steps, LATEST is $(cat run/weights/LATEST)"

[ "$(value_of step run/metrics/grpo-step.jsonl | sort -n | uniq | wc -l)" = $steps ] || fail "every step should be trained: $(value_of step run/metrics/grpo-step.jsonl | tr '\n' ' ')"
every on_policy_differing_tokens run/metrics/grpo-step.jsonl 'x == 0'
[ "$(value_of on_policy_tokens run/metrics/grpo-step.jsonl | awk '{ sum += $1 } END { print (sum > 0) }')" = 1 ] || fail "no token was trained on policy"
partial-buffer stat -s run/buffer --json | grep >/dev/null "\"trained\":{\"groups\":$((4 * steps)),\"rollouts\":$((16 * steps))," || fail "the buffer should have $((4 * steps)) trained groups: $(partial-buffer stat -s run/buffer --json)"

# The run's report, and what the trained model answers.
"$APRIL_SOURCE/pipelines/report.sh" run >/dev/null
[ -s run/report.svg ] && [ -s run/report.png ] || fail "report.sh drew nothing"
grep -q "$((16 * steps)) trained in $steps steps" run/summary.txt || fail "the summary should count $((16 * steps)) rollouts: $(cat run/summary.txt)"
head -n 6 addition.jsonl >few.jsonl
"$APRIL_SOURCE/pipelines/evaluate.sh" --model "run/weights/v$(printf %08d $steps)" --prompts few.jsonl --samples 2 --seeds 1 --max-tokens 24 --json --out answers >answers.jsonl
correct=$(rollout-cat -q --json --in answers/sampled-1.zst | grep -c '"reward":{"value":1.0,"status":"ok"' || true)
[ "$(value_of pass_at_1 answers.jsonl | head -n 1)" = "$(awk -v correct="$correct" 'BEGIN { print sprintf("%.6f", correct / 12) + 0 }')" ] ||
  fail "$correct of 12 answers have reward 1, evaluate.sh says $(cat answers.jsonl)"
