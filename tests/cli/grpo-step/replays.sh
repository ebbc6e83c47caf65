# A recorded step computed again from the newest checkpoint before it: every bit as recorded, or which tensor differs first; nothing on disk changes.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
contents() { find "$@" -printf '%p %T@\n' | sort; find "$@" -type f -exec sha256sum {} + | sort; }
replay() { grpo-step --from run/checkpoints --publish run/weights --lr 1e-3 --in claims.stream "$@"; }
write_claims claims.stream
train run -q --model "$model" --in claims.stream --out /dev/null --keep 9
contents run >before

replay --replay 1 --model "$model" >verdict 2>stderr  # the oldest checkpoint is of step 3: from the model
grep -q '^step 1: equal in every bit: version 2, weights .*; compared with run/weights/v00000002, the optimiser state as run/checkpoints/step-00000004/steps.json has it$' verdict || { cat verdict stderr; exit 1; }
replay --replay 2 --model "$model" --metrics metrics.jsonl >verdict
grep -q 'run/weights/v00000003, run/checkpoints/step-00000003 with its optimiser state$' verdict || { cat verdict; exit 1; }
expect "$(wc -l <metrics.jsonl)" 3 "lines of metrics"
replay --replay 3 --micro-batch-tokens 1 --threads 2 >verdict 2>stderr  # from the checkpoint, which is a model
grep -q 'beginning at step 3 from checkpoint run/checkpoints/step-00000003' stderr || { cat stderr; exit 1; }
grep -q '^step 3: equal' verdict

# Another learning rate: the tensor, and how much of it.
fails 'step 3 (claim claim3), computed again, gives weights .*, recorded .*; the first tensor that differs is model.embed_tokens.weight: [0-9]* of [0-9]* elements, the first at [0-9]*: .*, recorded ' 3 \
  replay --replay 3 --lr 2e-3
grep -q 'hint: a replay needs the same build' stderr
cmp before <(contents run) || { echo "a replay changed something"; exit 1; }

# Neither a newer checkpoint that is no longer whole nor one of another course says anything about it.
cp -r run spoilt
truncate -s 40 spoilt/checkpoints/step-00000004/manifest.json
sed -i 's/"weights":"[0-9a-f]*"/"weights":"0000000000000000"/g' spoilt/checkpoints/step-00000003/steps.json
grpo-step --from spoilt/checkpoints --publish spoilt/weights --lr 1e-3 --in claims.stream --replay 1 --model "$model" >verdict 2>stderr
grep -q '^step 1: equal in every bit: .*; the optimiser state was not compared: no steps.json has its digest$' verdict || { cat verdict stderr; exit 1; }

# Weights that do not move, and moments that are others.
train still -q --model "$model" --in claims.stream --out /dev/null --lr 0
fails 'gives the recorded weights, but another optimiser state: first_moment.model.embed_tokens.weight' 3 \
  grpo-step --from still/checkpoints --publish still/weights --in claims.stream --lr 0 --replay 3 --beta1 0.8
fails 'gives the recorded weights, but another optimiser state: its digest is .*, still/checkpoints/step-00000004/steps.json has ' 3 \
  grpo-step --from still/checkpoints --publish still/weights --model "$model" --in claims.stream --lr 0 --replay 1 --beta1 0.8

# A damaged checkpoint is passed over, and left as it is.
cp -r run whole
truncate -s -1 run/checkpoints/step-00000003/optimizer.safetensors
contents run >before
replay --replay 3 --model "$model" >verdict 2>stderr
grep -q 'step-00000003 is damaged and passed over' stderr || { cat stderr; exit 1; }
grep -q '^step 3: equal' verdict
cmp before <(contents run) || { echo "a replay of a damaged checkpoint changed something"; exit 1; }
rm -r run && mv whole run

fails 'no whole checkpoint at or before step 1 in run/checkpoints, and no --model' 2 replay --replay 1
fails 'the claims end before step 4, which is needed to come to step 9' 3 replay --replay 9
fails '--out does not go with --replay' 2 replay --replay 3 --out steps.stream
rm -r run/weights run/checkpoints/step-00000004
fails 'nothing tells what it became' 7 replay --replay 3
