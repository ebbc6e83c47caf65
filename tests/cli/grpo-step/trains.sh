# Trains a stream of claims: versions, checkpoints, step records, metrics, a summary whose counts add up.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
write_claims claims.stream
train run -v --model "$model" --in claims.stream --out steps.stream --metrics metrics.jsonl 2>stderr
grep -q 'step 0: reward [0-9.]*, loss [-0-9.e]*, entropy [0-9.]*, KL [0-9.e+-]*, .*stale [0-9]*%, .*gradient [0-9.e-]*, [0-9]* tokens/s, .* s$' stderr || { cat stderr; exit 1; }
grep -q '"rollouts_missing":3' metrics.jsonl || { cat metrics.jsonl; exit 1; }  # three groups of three of four
grep -q '4 steps, 36 rollouts: trained 17, skipped 18, excluded 1 (reward-error 1); 1 steps without any gradient' stderr || { cat stderr; exit 1; }
expect "$(cat run/weights/LATEST)" 4 "newest version"
expect "$(ls run/checkpoints | grep step- | tr '\n' ' ')" "step-00000003 step-00000004 " checkpoints
[ -e run/checkpoints/step-00000004/manifest.json ]
[ -e run/checkpoints/step-00000004/tokenizer.json ]
expect "$(wc -l <metrics.jsonl)" 4 "lines of metrics"
# Four steps, and those that a checkpoint was written after once more, with its name.
rollout-cat --json --in steps.stream >steps.jsonl
expect "$(grep -c '"type":"step"' steps.jsonl)" 6 "step records"
for step in 3 4; do grep -q "\"checkpoint\":\"step-0000000$step\"" steps.jsonl; done
grep -q 'excluded:reward-error' steps.jsonl
cmp -s <(weights run 2) <(weights run 3) || { echo "a claim without gradient changed the weights"; exit 1; }
! cmp -s <(weights run 1) <(weights run 2) || { echo "a claim with gradient changed nothing"; exit 1; }
# A preset says what it sets; what is given by itself wins, also when it is the default; a printed configuration means the same.
train preset --model "$model" --in claims.stream --out /dev/null --preset april --agg token-mean 2>stderr
grep -q -- '--preset april sets --advantage grpo .* --is-correction none --kl off --optimizer-steps 1$' stderr || { cat stderr; exit 1; }
train plain --model "$model" --in claims.stream --out /dev/null --is-correction none 2>/dev/null
cmp -s <(weights preset 4) <(weights plain 4) || { echo "the preset is not what it says"; exit 1; }
train april --preset april --model "$model" --in claims.stream --out /dev/null 2>/dev/null
grpo-step --preset april --agg token-mean --print-config >options.conf  # the default, and not the preset's
train printed --config options.conf --model "$model" --in claims.stream --out /dev/null 2>stderr
grep -q '^preset="none"' options.conf && ! grep -q -- '--preset' stderr || { cat options.conf stderr; exit 1; }
cmp -s <(weights printed 4) <(weights preset 4) || { echo "the printed configuration means something else"; exit 1; }
! cmp -s <(weights printed 4) <(weights april 4) || { echo "the printed configuration lacks what was given"; exit 1; }
# Behind a schedule's end nothing moves, and somebody says so; another schedule says from what it differs.
train over --model "$model" --in claims.stream --out /dev/null --lr-schedule cosine --total-steps 2 2>stderr
grep -q 'step 3: the learning rate is 0, and the weights stay as they are: --lr-schedule cosine was at its end after 2 optimiser steps' stderr || { cat stderr; exit 1; }
train over --in claims.stream --out /dev/null --lr-schedule cosine --total-steps 9 2>stderr
grep -q 'the optimiser is now lr=0.001 schedule=cosine total-steps=9 .*; until the checkpoint it was lr=0.001 schedule=cosine total-steps=2 ' stderr || { cat stderr; exit 1; }
