#!/usr/bin/env bash
# Steps on plain pipes: the counts add up, repeats change nothing, claims are given again until they are committed.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 20
partial-buffer take -s b --worker w >taken 2>log
grep -q "^partial-buffer take: took 16 rollouts, of them 0 to resume" log || { cat log; exit 1; }
expect "$(in_state leased)" 16 "leased rollouts"
fails "leased by w (16)" 7 partial-buffer take -s b --worker other
# A quarter of the work, twice: repeats are no-ops.
APRIL_ROUNDS=3 generate <taken >done
partial-buffer put -s b --in done 2>log
grep -Eq "read ([0-9]+), accepted \1, repeated 0, superseded 0, rejected 0, other 0" log || { cat log; exit 1; }
expect "$(in_state leased)" 0 "leased rollouts"
partial-buffer put -s b --in done 2>log
grep -Eq "read ([0-9]+), accepted 0, repeated \1, superseded 0, rejected 0, other 0" log || { cat log; exit 1; }
# Until two groups are whole; what is unfinished goes on where it was.
fails "awaits .* more group" 7 partial-buffer claim -s b
rounds=0
until partial-buffer claim -q -s b >claim 2>/dev/null; do
  ((++rounds < 20)) || { echo "no claim after 20 rounds"; exit 1; }
  partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b
done
partial-buffer claim -s b >again 2>log
grep -q "claimed 0 steps, replayed 1" log || { cat log; exit 1; }
train <claim >steps
partial-buffer commit -q -s b --in steps --out passed
partial-buffer commit -s b --in passed 2>log
grep -q "read 1, committed 0, checkpointed 0, repeated 1, other 0" log || { cat log; exit 1; }
expect "$(number first_uncommitted_step)" 1 "next step"
# A trainer that lost its weights gets the step again, and makes the same of it; also while too little is ready for another step.
rm -r checkpoints
status=0
partial-buffer claim -s b --checkpoints checkpoints --groups 5 >replayed 2>log || status=$?
expect "$status" 7 "exit of a claim that can only replay"
grep -q "claimed 0 steps, replayed 1; 2 groups" log && grep -q "step 1 awaits .* of 5" log || { cat log; exit 1; }
train <replayed | partial-buffer commit -q -s b
audit

# With nothing left to generate, a claim says how to go on.
partial-buffer init -q -s none --model "$model" --max-tokens 64
fails "hint: no prompts are left: partial-buffer add" 7 partial-buffer claim -s none

# An abandoned claim's groups come again; the old trainer is refused.
until partial-buffer claim -q -s b --checkpoints checkpoints >claim 2>/dev/null; do partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b; done
cp -r checkpoints kept
train <claim >old
id=$(partial-buffer stat -s b 2>/dev/null | sed -n 's/^claim *\([0-9a-f]*\) of step.*/\1/p')
partial-buffer abandon -q -s b "$id"
fails "was abandoned" 1 partial-buffer commit -s b --in old
rm -r checkpoints && mv kept checkpoints
partial-buffer claim -q -s b --checkpoints checkpoints | train | partial-buffer commit -q -s b
audit

# A checkpoint that is named after its step's commit is counted as that, and no step twice.
rm -rf b checkpoints
make 20
for step in 0 1 2; do
  until partial-buffer claim -q -s b --checkpoints checkpoints >claim 2>/dev/null; do partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b; done
  APRIL_LATE=1 train <claim | partial-buffer commit -s b 2>log
done
grep -q "read 4, committed 1, checkpointed 1, repeated 2, other 0" log || { cat log; exit 1; }
partial-buffer stat -q -s b | grep >/dev/null "^steps      3 steps committed, 3 of them in a checkpoint" || { partial-buffer stat -s b; exit 1; }
