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
fails "dir is missing" 2 april.sh --model "$model" --prompts questions.jsonl
fails "no run at nothing; to begin one give --model and --prompts" 2 april.sh --dir nothing
fails "no run at nothing; to begin one leave out --resume" 2 april.sh --dir nothing --resume
# What a program would refuse is refused by it, in its own words, before there is a run.
begin=(april.sh --dir nothing --model "$model" --prompts questions.jsonl)
fails "reward-score: error: unknown scorer 'foo'" 2 "${begin[@]}" --scorer foo
fails "reward-score: error: --scorer regex needs --pattern" 2 "${begin[@]}" --scorer regex
fails 'grpo-step: error: --preset: "foo" is not one of' 2 "${begin[@]}" --trainer "--preset foo"
fails "rollout-gen: error: unknown option --kw" 2 "${begin[@]}" --generator "--kw keep"
fails "claim: error: --steps: not a number" 2 "${begin[@]}" --steps many
fails "init: error: --groups-per-step: " 2 "${begin[@]}" --groups 0
fails "over-issue: not a number: twice" 2 "${begin[@]}" --over-issue twice
[ "$(wc -l <stderr)" -eq 1 ] || { cat stderr; exit 1; }
[ ! -e nothing ] || { echo "a run that was not begun left a folder"; exit 1; }

april.sh --dir run --model "$model" --prompts questions.jsonl --groups 2 --group-size 2 --max-tokens 16 --steps 1 --lr 1e-4 --scorer regex --pattern 'a|b=' --overlong 64:4 \
  2>log || { cat log; exit 1; }
grep -q "overlong 64:4 punishes nothing: responses end at --max-tokens 16, and it begins above 60$" log || { cat log; exit 1; }
partial-buffer stat -s run/buffer | grep -q -- '--admission window:3 ' || { partial-buffer stat -s run/buffer; exit 1; }
fails "run/buffer exists" 2 april.sh --dir run --model "$model" --prompts questions.jsonl
fails "begun with --groups 2, which cannot change to 4" 2 april.sh --dir run --resume --groups 4
fails "begun with --over-issue 2, which cannot change to 1" 2 april.sh --dir run --resume --sync
cp run/options options.before
fails 'grpo-step: error: --preset: "foo" is not one of' 2 april.sh --dir run --resume --trainer "--preset foo" --steps 2
! grep "from here on" stderr || exit 1
april.sh --dir run --resume 2>log || { cat log; exit 1; }
expect "$(cat log)" "april: this run has its 1 step already: give --steps above 1" "word of a finished run"
cmp run/options options.before
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
