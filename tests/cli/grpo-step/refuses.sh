# What grpo-step refuses, with the exit code that says why.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
write_claims claims.stream
fails 'corrected twice' 2 train run --model "$model" --in claims.stream --old behaviour --is-correction tis:2
fails 'kl-coef' 2 train run --model "$model" --in claims.stream --kl k3
fails 'mis: not one of none, tis, icepop' 2 train run --model "$model" --in claims.stream --is-correction mis
fails 'no --model' 2 train run --in claims.stream
[ ! -e run/weights/LATEST ] || { echo "a usage error published weights"; exit 1; }

# A NaN in the model: the step is not applied, and the claim is there to look at.
cp -r "$model" nan && chmod -R u+w nan
printf '\377\377\377\377' | dd of=nan/model.safetensors bs=1 seek=$(($(stat -c %s nan/model.safetensors) - 4)) conv=notrunc status=none
fails 'step 0 is not applied: the loss is not a finite number' 1 train nan-run --model nan --in claims.stream --out steps.stream
expect "$(cat nan-run/weights/LATEST)" 0 "version after a loss that is not finite"
rollout-cat --check --in nan-run/checkpoints/failed-claim-claim0.stream 2>/dev/null

# Another tokenizer than the claims'.
cp -r "$model" other && chmod -R u+w other
sed -i 's/"<|im_end|>"/"<|im_stop|>"/g' other/*.json other/*.jinja
fails 'tokenizer' 4 train other-run --model other --in claims.stream --out steps.stream
