#!/usr/bin/env bash
# What the pipelines refuse, and which options a run goes on with.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
PATH=$APRIL_SOURCE/pipelines:$PATH
prompts 4 >questions.jsonl

fails "nope is no run: it has no buffer" 2 round.sh nope "$model"
fails "a run's folder and a model are needed, not: nope" 2 round.sh nope
fails "no run at nope: the folder that april.sh was given" 2 report.sh nope
fails "metrics/grpo-step.jsonl is missing" 1 report.sh .
fails "unknown option --patern" 2 round.sh nope "$model" --patern x
fails "cannot read .*/nope.jsonl" 1 april.sh --dir run --model "$model" --prompts nope.jsonl
fails "prompts is needed" 2 april.sh --dir run --model "$model"
fails "--dir RUN --model MODEL" 2 april.sh --dir nothing
[ ! -e nothing ] || { echo "a run that was not begun left a folder"; exit 1; }

april.sh --dir run --model "$model" --prompts questions.jsonl --groups 2 --group-size 2 --max-tokens 16 --steps 1 --lr 1e-4 --scorer regex --pattern 'a|b=' --overlong 64:4 \
  2>log || { cat log; exit 1; }
fails "run/buffer exists" 2 april.sh --dir run --model "$model" --prompts questions.jsonl
fails "begun with --groups 2, which cannot change to 4" 2 april.sh --dir run --resume --groups 4
fails "begun with --over-issue 2, which cannot change to 1" 2 april.sh --dir run --resume --sync
expect "$(cat run/weights/LATEST)" 1 "version after one step"
april.sh --dir run --resume --prompts questions.jsonl --steps 2 2>log || { cat log; exit 1; }
grep -q "^april: from here on --steps 2 instead of 1$" log || { cat log; exit 1; }
expect "$(grep -c "from here on" log)" 1 "changed options"
expect "$(cat run/weights/LATEST)" 2 "version after two steps"
expect "$(grep -E '^(lr|pattern|overlong|groups|steps)=' run/options | tr '\n' ' ')" "groups=2 pattern=a|b= overlong=64:4 steps=2 lr=1e-4 " "options of the run"

round.sh run "$model" --scorer regex --pattern 'c|d' --overlong 64:4 2>log || { cat log; exit 1; }
expect "$(cat run/weights/LATEST)" 3 "version after a round"
expect "$(partial-buffer export -q -s run/buffer --state scored | awk '!/"overlong":/ { bare++ } END { print (NR >= 12), bare + 0 }')" "1 0" \
  "whether three steps of rollouts are there, and how many rewards have no part for their length"
