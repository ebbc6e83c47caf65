# An adapter in place of the matrices: the first version is the model, a run that was cut short goes on to the same bits, and its checkpoints are models.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
write_claims claims.stream
lora() { local dir=$1; shift; train "$dir" --lora 2 --lora-targets q,v,down "$@"; }

lora run --model "$model" --in claims.stream --out steps.stream 2>/dev/null
train full --model "$model" --in claims.stream --out steps.stream 2>/dev/null
cmp <(weights run 0) <(weights full 0)
! cmp -s <(weights run 4) <(weights run 0) || { echo "the adapter changed nothing"; exit 1; }

head -c $(($(stat -c %s claims.stream) * 6 / 10)) claims.stream >cut.stream
fails 'starts at step 0 from model' 3 lora cut --model "$model" --in cut.stream --out steps.stream
lora cut --in claims.stream --out again.stream 2>stderr  # the checkpoint knows its base
grep -q 'starts at step 2 from checkpoint' stderr
for version in 3 4; do cmp <(weights run $version) <(weights cut $version); done

checkpoint=run/checkpoints/step-00000004
[ -s $checkpoint/adapter/adapter_model.safetensors ]
grep -q '"r": 2' $checkpoint/adapter/adapter_config.json
train next -q --model $checkpoint --in claims.stream --out steps.stream 2>/dev/null
cmp <(weights run 4) <(weights next 0)

fails 'was trained with --lora 2 --lora-alpha 32 --lora-targets q,v,down, and this run has no --lora' 2 train run --in claims.stream
grep -q 'hint: go on with .*; to change it, begin a new run (another buffer, .*) with --model run/checkpoints/step-00000004$' stderr || { cat stderr; exit 1; }
fails '--lora-alpha 16 without --lora' 2 train alone --model "$model" --in claims.stream --lora-alpha 16
fails 'shorter side' 2 train wide --model "$model" --in claims.stream --lora 4096
fails "not one of q, k, v" 2 train wrong --model "$model" --in claims.stream --lora 2 --lora-targets q_proj
