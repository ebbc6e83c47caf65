#!/usr/bin/env bash
# april.sh MODEL PROMPTS [options]: what active partial rollouts give on this machine: trained tokens/s of whole runs of pipelines/april.sh (durable buffer,
# scoring, training, publishing) against the synchronous loop at its best slot count. About 30 minutes; --steps 3 --first 2 --max-tokens 256: about 3.
#
#   MODEL              directory or .gguf file          PROMPTS   JSON lines: {"prompt", "label"}, or GSM8K's {"question", "answer"}
#   --steps N          steps of a run (default 16)      --first N   first of those that count (default 5)
#   --groups N         prompts a step (default 4)       --group-size N   rollouts a prompt (default 8)
#   --max-tokens N     longest response (default 1024)  --rounds N  repetitions, each with its own seed (default 1)
#   --arms "…"         of sync, keep, recompute (default all)
#   --sync-slots "…"   slot counts to try for sync, of which the fastest is taken (default: a step's rollouts, half and a quarter of them)
#   --slots N          slots of the other two (default: a step's rollouts)
#   --keep-admission WHICH, --recompute-admission WHICH   theirs (default assigned:2 and assigned:1; more is read again the more is under way)
#   --keep-runs DIR    where the runs' folders stay (default: removed)
#
# The arms train the same rollouts (seed, prompts and uids are the same), in the order of their issue, so that no length is favoured; they differ by the
# weights that sampled them, and the lengths by what that changes: trained_length_ratio_error is one standard error, from the steps' means. One JSON line
# an arm and one a comparison; progress on stderr. "Trained" tokens are the responses of the groups that a step consumed, those without advantage included,
# over the wall clock from the publication of step `first` - 1 to that of the last step: reading again, pauses, training and publishing all count.
#
# The never-idle bound of an arm is what its own times would give if no slot were ever empty, nothing were read twice and nobody waited for anybody:
#   trained tokens / (trained tokens / decode rate with all slots busy + prompt tokens / reading rate + training time + publishing time)
# with the decode rate from the seconds of that arm in which all slots decoded, sampling included; prompts read once a group, as in sync, at the rate of the
# steps that only read; training and publishing as the trainer measured them, since they have all processors. Scoring runs beside generation and counts 0.
. "$(dirname "$0")/lib.sh"
usage() { sed -n '2,/^\. /{/^\. /d;s/^# \{0,1\}//p}' "$0"; }
case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 2 ] || { usage >&2; exit 2; }
model=$1 prompts=$2
shift 2
steps=16 first=5 groups=4 group_size=8 max_tokens=1024 rounds=1 arms="sync keep recompute" sync_slots='' slots='' keep_runs=''
keep_admission=assigned:2 recompute_admission=assigned:1
while [ $# -gt 0 ]; do
  case $1 in
    --steps | --first | --groups | --group-size | --max-tokens | --rounds | --arms | --sync-slots | --slots | --keep-admission | --recompute-admission | --keep-runs)
      [ $# -ge 2 ] || die 2 "$1 needs a value"
      name=${1#--}; printf -v "${name//-/_}" %s "$2"; shift ;;
    *) die 2 "unknown option $1; try --help" ;;
  esac
  shift
done
[ "$first" -ge 2 ] && [ "$first" -le "$steps" ] || die 2 "--first is $first, expected 2 to $steps: the first step only warms up"
for arm in $arms; do case $arm in sync | keep | recompute) ;; *) die 2 "unknown arm $arm; known are sync, keep and recompute" ;; esac; done
[ -r "$prompts" ] || die 1 "cannot read $prompts"
need_programs partial-buffer rollout-gen reward-score grpo-step weight-sync
need=$((groups * group_size))
slots=${slots:-$need} sync_slots=${sync_slots:-$need $((need / 2)) $((need / 4))}
runs=${keep_runs:-$work}
mkdir -p "$runs"
python3 - "$prompts" >"$work/prompts.jsonl" <<'PY' || die 3 "$prompts: not what is wanted"
import json, sys
for i, line in enumerate(open(sys.argv[1])):
    line = json.loads(line)
    if "question" in line:
        line = {"id": str(i), "prompt": line["question"], "label": line["answer"]}
    print(json.dumps(line))
PY

# A signal ends the loop in order; this script then waits for it, and leaves.
child=''
interrupted() { say "stopping"; [ -z "$child" ] || { kill -TERM "$child" 2>/dev/null || true; wait "$child" 2>/dev/null || true; }; exit 130; }
trap interrupted INT TERM
await() { local code=0; wait "$child" || code=$?; child=''; return $code; }

# one_step SLOTS: seconds to generate the first step's rollouts
one_step() {
  rm -f "$work/step.jsonl"
  rollout-gen -q --model "$model" --in "$work/step.stream" --out /dev/null --no-compress --in-flight "$1" --metrics "$work/step.jsonl" &
  child=$!
  await || die 1 "rollout-gen failed"
  tail -n 1 "$work/step.jsonl" >"$work/last.json"
  value_of time_s "$work/last.json"
}
best_slots() { # SEED: sets $best
  local count seconds least=''
  best=$sync_slots
  case $sync_slots in *' '*) ;; *) return ;; esac
  head -n "$groups" "$work/prompts.jsonl" >"$work/step-prompts.jsonl"
  partial-buffer add -q --purpose eval --model "$model" --prompts "$work/step-prompts.jsonl" --group-size "$group_size" --max-tokens "$max_tokens" --seed "$1" \
    --out "$work/step.stream"
  for count in $sync_slots; do
    one_step "$count" >"$work/seconds"
    seconds=$(<"$work/seconds")
    say "sync, $count slots: a step's rollouts in $seconds s"
    if [ -z "$least" ] || awk -v a="$seconds" -v b="$least" 'BEGIN { exit !(a < b) }'; then least=$seconds best=$count; fi
  done
}

# run_arm ARM SEED SLOTS OPTIONS…: a whole run in $runs/ARM-SEED, its figures in $work/ARM.json
run_arm() {
  local arm=$1 seed=$2 dir=$runs/$1-$2 seen=0 now metrics begin=$SECONDS
  say "$arm: $steps steps of $groups x $group_size rollouts, $3 slots"
  rm -rf "$dir"
  "$root/pipelines/april.sh" --dir "$dir" --model "$model" --prompts "$work/prompts.jsonl" --steps "$steps" --groups "$groups" --group-size "$group_size" \
    --max-tokens "$max_tokens" --seed "$seed" --lr 1e-6 --checkpoint-every 1000 --generator "--in-flight $3" "${@:4}" >"$work/log" 2>&1 &
  child=$! metrics=$dir/metrics/grpo-step.jsonl
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    now=$(wc -l 2>/dev/null <"$metrics" || echo 0)
    [ "$now" -gt "$seen" ] || continue
    seen=$now
    tail -n 1 "$metrics" >"$work/last.json"
    say "$arm: step $seen/$steps, $((SECONDS - begin)) s, mean length $(value_of response_mean_tokens "$work/last.json")"
  done
  await || { tail -n 20 "$work/log" >&2; die 1 "the loop failed"; }
  python3 "$here/april_figures.py" "$arm" "$dir" "$first" "$steps" | tee "$work/$arm.json"
  [ -n "$keep_runs" ] || rm -rf "$dir"
}

for seed in $(seq "$rounds"); do
  best_slots "$seed"
  for arm in $arms; do
    case $arm in
      sync) run_arm sync "$seed" "$best" --sync ;;
      keep) run_arm keep "$seed" "$slots" --over-issue 2 --kv keep --admission "$keep_admission" ;;
      recompute) run_arm recompute "$seed" "$slots" --over-issue 2 --kv recompute --admission "$recompute_admission" ;;
    esac
    [ "$arm" = sync ] || [ ! -s "$work/sync.json" ] || python3 "$here/april_figures.py" --bound "$work/$arm.json" "$work/sync.json"
  done
done
