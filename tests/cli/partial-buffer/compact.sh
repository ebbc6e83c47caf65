#!/usr/bin/env bash
# compact: the same rollouts in fewer bytes, also while a hub serves the buffer.
set -euo pipefail
model=$APRIL_SOURCE/tests/data/tiny-model
for i in $(seq 40); do echo "{\"prompt\": \"$i + 1\", \"label\": \"$((i + 1))\"}"; done >prompts.jsonl
partial-buffer init -q -s b --model "$model" --group-size 2 --groups-per-step 2 --in-flight 16 --max-tokens 24 --seed 1
partial-buffer add -q -s b --prompts prompts.jsonl
for round in 1 2 3; do
  partial-buffer take -q -s b --worker w | rollout-gen -q --model "$model" --target-groups 2 | reward-score -q --scorer exact | partial-buffer put -q -s b
done
# Without what tells the time.
seen() { partial-buffer ls -s b --json | sed -E 's/"changed_s":[^,}]*//'; }
seen >before
bytes=$(du -sb b/journal | cut -f 1)
partial-buffer compact -s b 2>summary
grep -q 'compacted .* to ' summary
partial-buffer compact -q -s b
partial-buffer compact -q -s b
seen | cmp - before
[ "$(du -sb b/journal | cut -f 1)" -lt $((bytes * 3)) ]

partial-buffer serve -q -s b --bind zmq+ipc://hub --term 5s &
hub=$!
for _ in $(seq 100); do partial-buffer stat -s zmq+ipc://hub --peer-timeout 100ms >/dev/null 2>&1 && break; done
partial-buffer compact -q -s b
rollout-gen -q --from zmq+ipc://hub --model "$model" --target-groups 2 | reward-score -q --scorer exact | partial-buffer put -q -s zmq+ipc://hub
partial-buffer compact -q -s b
partial-buffer stat -s zmq+ipc://hub >/dev/null
kill $hub
wait $hub || [ $? -eq 75 ]
seen >after
[ "$(wc -l <after)" -ge "$(wc -l <before)" ]

status=0
partial-buffer compact -s nowhere 2>message || status=$?
[ $status -eq 2 ]
grep -q 'nowhere is no buffer' message
