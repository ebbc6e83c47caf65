#!/usr/bin/env bash
# step.sh PEERS [ROUNDS] [STEPS]: seconds a training step of the resident loop (--sync, durable buffer and publishing included) against TRL GRPOTrainer on
# the same task: single-digit addition, 8 prompts x 8 rollouts a step, at most 64 new tokens, lr 1e-5, no KL. Default: 2 rounds of 4 steps each.
#
# Ours runs twice a round: training every group, as the peer does, and skipping groups without advantage, whose gradient is exactly zero.
# The first step of either is left out (it warms caches); TRL runs in the better of two configurations: the whole step in one batch, and batches of 16.
# Fair: both end an answer at <|im_end|>, neither writes a checkpoint; TRL's own step time leaves out its optimiser, ours is from publication to publication.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
rounds=${2:-2} steps=${3:-4}
need_programs partial-buffer rollout-gen reward-score grpo-step weight-sync
addition_prompts "$work/addition.jsonl"

: >"$work/theirs" >"$work/their-tokens" >"$work/skipped"
ways="train skip"
for way in $ways; do : >"$work/ours-$way" >"$work/our-tokens-$way"; done
for round in $(seq "$rounds"); do
  for way in $ways; do
    rm -rf "$work/run"
    "$root/pipelines/april.sh" --dir "$work/run" --model "$peers/model/smollm2.gguf" --prompts "$work/addition.jsonl" --steps "$steps" --sync --seed "$round" \
      --checkpoint-every 1000 --trainer "--zero-advantage $way" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die 1 "the loop failed"; }
    # A step ends when its version is published: the manifests' times give the wall clock of the steps behind the first.
    python3 - "$work/run" "$steps" "$work/ours-$way" "$work/our-tokens-$way" "$work/skipped" <<'PY'
import json, os, sys
run, steps = sys.argv[1], int(sys.argv[2])
times = [os.stat(f"{run}/weights/v{v:08d}/manifest.json").st_mtime for v in range(1, steps + 1) if os.path.exists(f"{run}/weights/v{v:08d}/manifest.json")]
if len(times) < 2:
    sys.exit("fewer than two published steps were kept")
metrics = [json.loads(line) for line in open(f"{run}/metrics/grpo-step.jsonl")]
kept = metrics[-(len(times) - 1):]
print((times[-1] - times[0]) / (len(times) - 1), file=open(sys.argv[3], "a"))
print((times[-1] - times[0]) * 1e3 / sum(m["response_mean_tokens"] * 64 for m in kept), file=open(sys.argv[4], "a"))
if sys.argv[3].endswith("skip"):
    for m in kept:
        print(m["rollouts_skipped"], m["rollouts_trained"] + m["rollouts_skipped"], file=open(sys.argv[5], "a"))
PY
  done
  for batch in 64 16; do
    "$python" "$here/peers/trl_step.py" "$peers" "$steps" "$batch" "$round" 2>/dev/null | grep --line-buffered '^{"peer"' >"$work/trl-$batch.jsonl" || die 1 "TRL failed"
  done
  python3 - "$work/trl-64.jsonl" "$work/trl-16.jsonl" "$work/theirs" "$work/their-tokens" <<'PY'
import json, sys
def mean(path):
    steps = [json.loads(line) for line in open(path)][1:]
    seconds = sum(s["step_s"] for s in steps)
    return seconds / len(steps), seconds * 1e3 / sum(s["response_tokens"] for s in steps)
best = min((mean(path) for path in sys.argv[1:3]), key=lambda pair: pair[1])
print(best[0], file=open(sys.argv[3], "a"))
print(best[1], file=open(sys.argv[4], "a"))
PY
done
for way in $ways; do
  skipped=0
  [ $way = train ] || skipped=$(awk '{ skipped += $1; all += $2 } END { printf "%.3f", skipped / all }' "$work/skipped")  # share of our rollouts
  figure training_step s lower "$work/ours-$way" "$work/theirs" zero_advantage "$way" skipped_share "$skipped" peer "TRL GRPOTrainer"
  figure training_step_per_response_token ms lower "$work/our-tokens-$way" "$work/their-tokens" zero_advantage "$way" skipped_share "$skipped" peer "TRL GRPOTrainer"
done
