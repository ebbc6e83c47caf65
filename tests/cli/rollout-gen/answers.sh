#!/usr/bin/env bash
# --prompt: text on stdout, and nothing else; the same seed gives the same answer.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
rollout-gen --model "$model" --prompt "What is 3 + 5?" --max-tokens 30 --seed 4 >one 2>log
[ -s one ] && [ ! -s log ] || { cat log; exit 1; }
rollout-gen --model "$model" --prompt "What is 3 + 5?" --max-tokens 30 --seed 4 >two
cmp one two
rollout-gen --model "$model" --prompt "What is 3 + 5?" --max-tokens 30 --seed 6 >three
! cmp -s one three || { echo "another seed gives the same answer"; exit 1; }
python3 -c 'open("one", encoding="utf-8").read()'

# Whatever the model writes, nothing of it moves a terminal's cursor; a file gets it as it is.
odd=(--model "$model" --prompt hi --max-tokens 200 --temperature 100)
rollout-gen "${odd[@]}" --seed 1 >odd
LC_ALL=C grep -q $'[\x01-\x08\x0e-\x1f\x7f]' odd
if command -v script >/dev/null; then
  script -qec "rollout-gen ${odd[*]} --seed 1" /dev/null </dev/null | tr -d '\r' >terminal
  ! LC_ALL=C grep -q $'[\x01-\x08\x0e-\x1f\x7f]' terminal || { echo "control characters reached the terminal"; exit 1; }
fi
