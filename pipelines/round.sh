#!/usr/bin/env bash
# round.sh RUN MODEL [SCORER [LR]]: one APRIL step as plain pipes, on a run that pipelines/april.sh began (or `partial-buffer init` and `add`).
#
# Each stage reads one stream and writes one: put `tee file` anywhere between two of them, and the stages after it can be run again from the file.
. "$(dirname "$0")/lib.sh"
case ${2:-} in "") sed -n '2,4s/^# \{0,1\}//p' "$0"; case ${1:-} in -h | --help) exit 0 ;; *) exit 2 ;; esac ;; esac
model=$(realpath "$2") scorer=${3:-gsm8k} lr=${4:-1e-5}
need_programs partial-buffer rollout-gen reward-score grpo-step
cd "$1"
mkdir -p metrics
wanted=$(partial-buffer stat -s buffer --json | value_of wanted -)  # groups that the step needs beside the surplus of earlier rounds

# Unfinished rollouts first, then new prompts: more than the step needs. Ends when enough groups are whole; everything is kept.
if [ "$wanted" -gt 0 ]; then
  partial-buffer take -s buffer --worker round |
    rollout-gen --weights weights --target-groups "$wanted" --metrics metrics/rollout-gen.jsonl |
    reward-score --scorer "$scorer" --model "$model" |
    partial-buffer put -s buffer
fi

partial-buffer claim -s buffer --checkpoints checkpoints |
  grpo-step --model "$model" --from checkpoints --publish weights --lr "$lr" --checkpoint-every 1 --metrics metrics/grpo-step.jsonl |
  partial-buffer commit -s buffer
