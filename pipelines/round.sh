#!/usr/bin/env bash
# round.sh RUN MODEL [options]: one APRIL step as plain pipes, on a run that pipelines/april.sh began (or `partial-buffer init` and `add`).
#
#   --scorer NAME      how responses are judged (reward-score --list; default gsm8k)
#   --pattern REGEX    of --scorer regex
#   --overlong MAX:BUFFER  punishes long responses softly (reward-score --help; default: off)
#   --lr X             learning rate (default 1e-5)
#   --order ORDER      which unfinished rollouts go on first (default partials-first)
# Each stage reads one stream and writes one: put `tee file` anywhere between two of them, and the stages after it can be run again from the file.
. "$(dirname "$0")/lib.sh"
usage() { sed -n '2,/^\. /{/^\. /d;s/^# \{0,1\}//p}' "$0"; }

scorer=gsm8k pattern='' overlong='' lr=1e-5 order=partials-first names=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --scorer | --pattern | --overlong | --lr | --order) [ $# -ge 2 ] || die 2 "$1 needs a value"; printf -v "${1#--}" %s "$2"; shift ;;
    -*) die 2 "unknown option $1; try --help" ;;
    *) names+=("$1") ;;
  esac
  shift
done
[ ${#names[@]} -eq 2 ] || { usage >&2; die 2 "a run's folder and a model are needed, not: ${names[*]:-nothing}"; }
run=${names[0]} model=${names[1]}
[ -e "$run/buffer" ] || die 2 "$run is no run: it has no buffer; pipelines/april.sh begins one"
[ -e "$model" ] || die 2 "no model at $model"
model=$(realpath "$model")
need_programs partial-buffer rollout-gen reward-score grpo-step
cd "$run"
mkdir -p metrics
# Unfinished rollouts first, then new prompts: more than the step needs. Ends when enough groups are whole; everything is kept. A group looks whole to the
# generator when all of it that was taken is finished; if some of it had stayed in the buffer, a further turn takes that.
for _ in 1 2 3 4; do
  wanted=$(partial-buffer stat -s buffer --json | value_of wanted -)  # groups that the step needs beside the surplus of earlier rounds
  [ "$wanted" -gt 0 ] || break
  partial-buffer take -s buffer --worker round --order "$order" |
    rollout-gen --weights weights --target-groups "$wanted" --metrics metrics/rollout-gen.jsonl |
    reward-score --scorer "$scorer" ${pattern:+--pattern "$pattern"} ${overlong:+--overlong "$overlong"} --model "$model" |
    partial-buffer put -s buffer
done

partial-buffer claim -s buffer --checkpoints checkpoints |
  grpo-step --model "$model" --from checkpoints --publish weights --lr "$lr" --checkpoint-every 1 --metrics metrics/grpo-step.jsonl |
  partial-buffer commit -s buffer
