# What grpo-step refuses, with the exit code that says why.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
write_claims claims.stream
fails 'corrected twice' 2 train run --model "$model" --in claims.stream --old behaviour --is-correction tis:2
fails 'kl-coef' 2 train run --model "$model" --in claims.stream --kl-coef 0.1
fails 'mis: not one of none, tis, icepop' 2 train run --model "$model" --in claims.stream --is-correction mis
fails 'tis:x' 2 grpo-step --print-config --is-correction tis:x
fails '--total-steps' 2 grpo-step --print-config --lr-schedule cosine
fails 'without --lora' 2 grpo-step --print-config --lora-alpha 8
fails 'no --model' 2 train run --in claims.stream
[ ! -e run/weights/LATEST ] || { echo "a usage error published weights"; exit 1; }

# A NaN in the model: the step is not applied, and the claim is there to look at.
cp -r "$model" nan && chmod -R u+w nan
printf '\377\377\377\377' | dd of=nan/model.safetensors bs=1 seek=$(($(stat -c %s nan/model.safetensors) - 4)) conv=notrunc status=none
fails 'step 0 is not applied: the loss is not a finite number' 1 train nan-run --model nan --in claims.stream --out steps.stream
expect "$(cat nan-run/weights/LATEST)" 0 "version after a loss that is not finite"
rollout-cat --check --in nan-run/checkpoints/failed-claim-claim0.stream 2>/dev/null
grep -q 'hint: the weights on disk are those before this step. `rollout-cat --json nan-run/checkpoints/failed-claim-claim0.stream`' stderr || { cat stderr; exit 1; }
expect "$(ls nan-run/checkpoints | grep -c step- || true)" 0 "checkpoints after a loss that is not finite"

# A claim whose content is wrong: what, on which record, and the way out; the step before it is saved.
spoilt() {  # WHAT MESSAGE
  APRIL_CLAIMS_SPOIL=$1 write_claims "$1.stream"
  fails "$2" 3 train "$1" --model "$model" --in "$1.stream" --out steps.stream
  grep -q 'hint: the claim is still in the buffer, and nothing of it was trained' stderr || { cat stderr; exit 1; }
  expect "$(cat "$1/weights/LATEST") $(ls "$1/checkpoints" | grep step-)" "1 step-00000001" "what is left after $1"
}
spoilt missing-member 'claim claim1 of step 1, group 000000000000000b announces 3 members and has 2'
spoilt foreign-member 'group 000000000000000b contains rollout 0000000000002ee1 of group 000000000000000c'
spoilt twice 'group 000000000000000b contains rollout 0000000000002af9 twice'
spoilt no-logprobs 'record 17 of no-logprobs.stream: rollout 0000000000002af9: key "logprobs": 0 values for 6 response tokens'
APRIL_CLAIMS_SPOIL=long write_claims long.stream
fails 'claim claim1 of step 1: rollout 0000000000002af9 .*: token 999 is outside the model.s vocabulary of 320' 3 \
  train long --model "$model" --in long.stream --out steps.stream
grep -q 'hint: `partial-buffer show -s DIR 0000000000002af9` shows it' stderr || { cat stderr; exit 1; }

# Rollouts that could not be judged leave their groups, counted by reason; a step that has none left moves nothing, and says so.
APRIL_CLAIMS_SPOIL=no-rewards write_claims unjudged.stream
train unjudged --model "$model" --in unjudged.stream --out steps.stream 2>stderr
grep -q 'step 1: rollouts left out of their groups: 9 (reward-timeout 9)$' stderr || { cat stderr; exit 1; }
grep -q 'step 1: no gradient in the whole claim; the weights and the optimiser stay as they are' stderr
grep -q 'trained 11, skipped 15, excluded 10 (reward-error 1, reward-timeout 9); 2 steps without any gradient' stderr || { cat stderr; exit 1; }
cmp <(weights unjudged 1) <(weights unjudged 2)

# Another tokenizer than the claims'.
cp -r "$model" other && chmod -R u+w other
sed -i 's/"<|im_end|>"/"<|im_stop|>"/g' other/*.json other/*.jinja
fails 'tokenizer' 4 train other-run --model other --in claims.stream --out steps.stream
