# partial-buffer claim --replay gives a trainer what it needs to compute a recorded step again, and changes neither buffer nor run; also beside a hub.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
contents() { find "$@" -type f -exec sha256sum {} + | sort; }
for ((i = 0; i < 30; ++i)); do echo "{\"prompt\":\"$i\",\"label\":\"$i\"}"; done >prompts.jsonl
partial-buffer init -q -s b --model "$model" --group-size 4 --groups-per-step 3 --in-flight 18 --max-tokens 16 --retain-steps 1 --seed 1
partial-buffer add -q -s b --prompts prompts.jsonl
weight-sync publish -q --model "$model" --to weights --version 0
generate() {
  partial-buffer take -q -s b --worker w | rollout-gen -q --weights weights --threads 1 --kernels portable --target-groups 3 |
    reward-score -q --scorer regex --pattern '[a-e]' --model "$model" | partial-buffer put -q -s b
}
trainer() { grpo-step -q --model "$model" --lr 1e-3 --threads 1 --kernels portable --from checkpoints --publish weights "$@"; }
for ((step = 0; step < 5; ++step)); do
  until partial-buffer claim -q -s b --checkpoints checkpoints >claim 2>/dev/null; do generate; done
  # Its checkpoint every second step: the last step is only published.
  trainer --checkpoint-every 2 --keep 9 <claim | partial-buffer commit -q -s b
done
rm -r checkpoints/step-00000005 checkpoints/step-00000001 checkpoints/step-00000003  # those that each end wrote
contents b checkpoints weights >before
partial-buffer claim -s b --replay 4 --checkpoints checkpoints 2>stderr | trainer --replay 4 >verdict
grep -q '^step 4: equal in every bit: version 5, weights .*; compared with the buffer, weights/v00000005; the optimiser state was not compared: no steps.json has its digest$' verdict || { cat verdict; exit 1; }
grep -q 'claimed 0 steps, replayed 1;' stderr || { cat stderr; exit 1; }
# Without --checkpoints everything that is kept; the trainer passes over what its checkpoint contains.
partial-buffer claim -q -s b --replay 4 | trainer --replay 4 >again
cmp verdict again
cmp before <(contents b checkpoints weights) || { echo "a replay changed something"; exit 1; }

partial-buffer serve -q -s b --bind zmq+ipc://hub 2>/dev/null &
hub=$!
for _ in $(seq 100); do [ -S hub ] && break; sleep 0.05; done
partial-buffer claim -q -s b --replay 4 --checkpoints checkpoints | trainer --replay 4 >again
cmp verdict again
kill $hub
wait $hub 2>/dev/null || true
fails 'step 9 was not claimed yet: this buffer has the claims of steps [0-9]* to 4' 2 partial-buffer claim -s b --replay 9
fails 'the claim of step 0 is no longer kept' 1 partial-buffer claim -s b --replay 0 --checkpoints checkpoints
fails '--groups does not go with --replay' 2 partial-buffer claim -s b --replay 4 --groups 2
fails 'reads the buffer.s directory' 2 partial-buffer claim -s zmq+ipc://hub --replay 4
partial-buffer audit -q -s b >audit || { cat audit; exit 1; }
