#!/usr/bin/env bash
# learning.sh MODEL OUT [--task addition|words] [--steps N] [--seeds "1 2 3"] [--groups N] [--arms "…"] [--busy]: what a model learns with the
# synchronous loop and with active partial rollouts, uncorrected and corrected: accuracy of every tenth policy, by step and by time. OUT gets TASK.jsonl
# (a run a line, with every step), TASK.md (a table) and TASK.svg (a picture), the last two after every seed. A run that is in TASK.jsonl is not run
# again. Default: 60 steps, 3 seeds, 8 questions a step with 8 rollouts each. --busy: other work runs beside, so the times of these runs count
# nowhere. Accuracy: the share of 8 sampled answers a question that are right, by pipelines/evaluate.sh when the run has ended.
#
# Arms: sync; april-none, april-tis (2) and april-icepop (0.5,5): twice as many rollouts under way as a step needs, continued under newer weights, groups
# trained in the order in which they finish; april-tis-window: only those among the oldest, as april.sh has it by default.
# Tasks, 64 questions each: sums of two digits; stories of one step ("Anna has 3 apples and buys 4 more. How many …"), which the model can begin to learn.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
need_programs partial-buffer rollout-gen reward-score grpo-step weight-sync
command -v gnuplot >/dev/null || die 1 "gnuplot is missing"
exec python3 "$here/learning.py" "$root" "$@"
