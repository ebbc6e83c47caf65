# Cut short, the steps so far are saved; started again, the claims that are in the checkpoint are not trained twice, and the weights are those of one run.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
write_claims claims.stream
train whole --model "$model" --in claims.stream --out steps.stream 2>/dev/null

head -c $(($(stat -c %s claims.stream) * 6 / 10)) claims.stream >cut.stream
fails 'starts at step 0 from model' 3 train cut --model "$model" --in cut.stream --out steps.stream
[ -e cut/checkpoints/step-00000002/manifest.json ] || { ls cut/checkpoints; exit 1; }

train cut --in claims.stream --out again.stream 2>stderr  # needs no --model: the checkpoint is a model
grep -q 'starts at step 2 from checkpoint' stderr
grep -q '2 steps were in the checkpoint already' stderr
for version in 3 4; do cmp <(weights whole $version) <(weights cut $version); done
# What an earlier checkpoint said of a step, the newest one says, too.
for run in whole cut; do grep -o '"optimizer_digest":"[0-9a-f]*"' $run/checkpoints/step-00000004/steps.json >$run.digests; done
expect "$(wc -l <whole.digests)" 4 "digests"
cmp whole.digests cut.digests

# So with another method, whose schedule, old and reference policies have to be there again.
method=(--lr 3e-3 --warmup-steps 12 --optimizer-steps 2 --kl k3 --kl-coef 0.01 --weight-decay 0.1 --max-grad-norm 0.05)
train kl-whole -q --model "$model" --in claims.stream --out steps.stream "${method[@]}"
fails 'cut.stream ends after' 3 train kl-cut --model "$model" --in cut.stream --out steps.stream "${method[@]}"
train kl-cut -q --model "$model" --in claims.stream --out again.stream "${method[@]}"
cmp <(weights kl-whole 4) <(weights kl-cut 4)
! cmp -s <(weights whole 4) <(weights kl-whole 4)

# A checkpoint that was cut short is set aside, and a later start knows that it was.
truncate -s -1 cut/checkpoints/step-00000004/optimizer.safetensors
for message in 'is damaged and set aside' 'was set aside as damaged'; do
  fails "step-00000004 $message" 3 train cut --in cut.stream --out again.stream
done
train cut --in claims.stream --out again.stream 2>stderr
grep -q 'starts at step 3 from checkpoint' stderr || { cat stderr; exit 1; }
cmp <(weights whole 4) <(weights cut 4)
