#!/usr/bin/env bash
# After a rewind the run goes another way, and the trainer dies between claim and weights: the claim is trained, although weights of the old course are
# published under its version. Without a rewind they must be the same.
set -euo pipefail
model=$APRIL_SOURCE/tests/data/tiny-model
for ((i = 0; i < 30; ++i)); do echo "{\"prompt\":\"$i\",\"label\":\"$i\"}"; done >prompts.jsonl
partial-buffer init -q -s b --model "$model" --group-size 4 --groups-per-step 3 --in-flight 18 --max-tokens 32 --retain-steps 1000 --seed 1
partial-buffer add -q -s b --prompts prompts.jsonl --epochs 10
weight-sync publish -q --model "$model" --to weights --version 0
generate() {
  partial-buffer take -q -s b --worker w | rollout-gen -q --weights weights --threads 1 --kernels portable --target-groups 3 |
    reward-score -q --scorer regex --pattern '[a-e]' --model "$model" | partial-buffer put -q -s b
}
claim() { until partial-buffer claim -q -s b --checkpoints checkpoints >claim 2>/dev/null; do generate; done; }
train() { grpo-step -q --model "$model" --lr "${1:-1e-3}" --threads 1 --kernels portable --from checkpoints --publish weights; }
digest() { sed -nE 's/^ "digest": "([0-9a-f]*)".*/\1/p' "weights/v0000000$1/manifest.json"; }
for ((step = 0; step < 4; ++step)); do
  claim
  train <claim | partial-buffer commit -q -s b
done
before=$(digest 4)
partial-buffer rewind -q -s b --to checkpoints/step-00000003
group=$(partial-buffer ls -q -s b --groups --json | grep '"state":"ready"' | sed -nE '1s/.*"group_id":"([0-9a-f]*)".*/\1/p')
partial-buffer drop -q -s b --reason test "$group"
claim  # and dies
partial-buffer claim -q -s b --checkpoints checkpoints | train | partial-buffer commit -q -s b
[ "$(digest 4)" != "$before" ] || { echo "the other course has the same weights, so that this test shows nothing"; exit 1; }
weight-sync verify -q weights >/dev/null
partial-buffer audit -q -s b >audit || { cat audit; exit 1; }

# The same without a rewind: published, not committed, and then computed otherwise.
claim
train <claim >steps
status=0
rm -r checkpoints/step-00000005
partial-buffer claim -q -s b --checkpoints checkpoints | train 1e-2 >steps 2>log || status=$?
[ $status -eq 3 ] && grep -q "gave other weights than the first run" log || { echo "exit $status"; cat log; exit 1; }
