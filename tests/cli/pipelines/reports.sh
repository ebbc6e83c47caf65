#!/usr/bin/env bash
# report.sh draws a run that is a few steps old, with the trainer's numbers alone, and one with every curve; all that it reads is documented.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
PATH=$APRIL_SOURCE/pipelines:$PATH
write_claims claims.stream
mkdir -p plain/metrics every/metrics
train plain -q --model "$model" --in claims.stream --out /dev/null --metrics plain/metrics/grpo-step.jsonl
train every -q --model "$model" --in claims.stream --out /dev/null --metrics every/metrics/grpo-step.jsonl --kl k3 --kl-coef 0.01 --optimizer-steps 2
head -n 1 every/metrics/grpo-step.jsonl >first && mkdir -p one/metrics && mv first one/metrics/grpo-step.jsonl
for run in plain every one; do
  report.sh $run >name 2>log || { cat log; exit 1; }
  [ ! -s log ] || { echo "it complains about $run:"; cat log; exit 1; }
  [ -s $run/report.svg ] && [ -s $run/report.png ] && [ -s $run/summary.txt ] || { echo "$run is not drawn"; exit 1; }
done
curves() { grep -o 'from the reference\|from the policies that sampled\|at the lower bound\|1 behind\|of the weights that count\|standard deviation\|MLP\|entropy' $1/report.svg | sort -u | wc -l; }
expect "$(curves plain) $(curves every)" "7 8" "curves that are named"
grep -q '^rollouts  *35 trained in 4 steps' plain/summary.txt || { cat plain/summary.txt; exit 1; }
# Every key that it takes from the trainer's lines.
for key in $(sed -n '/^by_step \$trainer/,/>"\$steps"/p; s/^curves_by_age \([a-z_]*\)$/\1/p' "$APRIL_SOURCE/pipelines/report.sh" | tr -d '\\' | sed 's/by_step \$trainer\( \$(by_age [a-z_]*)\)*//; s/>.*//'); do
  grep -q "^| \`$key\` |" "$APRIL_SOURCE/formats/metrics.md" || { echo "report.sh reads $key, which formats/metrics.md does not have"; exit 1; }
done
