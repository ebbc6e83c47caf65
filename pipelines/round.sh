#!/usr/bin/env bash
# round.sh RUN [SCORER [LR]]: one APRIL step as plain pipes, on a run that pipelines/april.sh began (or `partial-buffer init` and `add`).
#
# Each stage reads one stream and writes one: put `tee file` anywhere between two of them, and the stages after it can be run again from the file.
. "$(dirname "$0")/lib.sh"
case ${1:-} in "" | -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; [ "${1:-}" ] && exit 0 || exit 2 ;; esac
scorer=${2:-gsm8k} lr=${3:-1e-5}
need_programs partial-buffer rollout-gen reward-score grpo-step
cd "$1"

# Unfinished rollouts first, then new prompts: more than the step needs. Ends when enough groups are whole; everything is kept.
partial-buffer take -s buffer --worker round |
  rollout-gen --weights weights --target-groups 8 --metrics metrics/rollout-gen.jsonl |
  reward-score --scorer "$scorer" --model weights/v00000000 |
  partial-buffer put -s buffer

partial-buffer claim -s buffer --checkpoints checkpoints |
  grpo-step --model weights/v00000000 --from checkpoints --publish weights --lr "$lr" --checkpoint-every 1 --metrics metrics/grpo-step.jsonl |
  partial-buffer commit -s buffer
