#!/usr/bin/env bash
# rewind takes buffer and checkpoints back together, and the trainer makes the same of the same groups; drop leaves groups out for good.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 60
step() {
  until partial-buffer claim -q -s b --checkpoints checkpoints >claim 2>/dev/null; do partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b; done
  train <claim | partial-buffer commit -q -s b
}
uids() { partial-buffer ls -q -s b --groups --json | sed -nE 's/.*"group_id":"([0-9a-f]*)".*"state":"(trained|consumed)".*/\1/p' | sort; }
for ((i = 0; i < 8; ++i)); do step; done  # checkpoints step-00000003 and step-00000006
uids >trained
expect "$(number first_unconsumed_step)" 6 "steps in checkpoints"
weights=$(sed -E 's/.*"weights":([0-9]+).*/\1/' checkpoints/step-00000006/manifest.json)
fails "is no whole checkpoint" 2 partial-buffer rewind -s b --to checkpoints
fails "to is missing" 2 partial-buffer rewind -s b
partial-buffer rewind -s b --to checkpoints/step-00000003/ 2>log
grep -q "checkpoint step-00000006 is newer and set aside" log && grep -q "went back to step 3, policy version 3: undid 5 steps, 10 groups with [0-9]* rollouts" log &&
  grep -q "weight-sync publish --supersede --model checkpoints/step-00000003/ --to WEIGHTS --version 3" log || { cat log; exit 1; }
expect "$(number first_uncommitted_step)" 3 "next step"
partial-buffer audit -q -s b >log || { cat log; exit 1; }
APRIL_STEPS=3 audit
# Had it been cut before it came to the checkpoints: claim refuses the newer one, and the same command goes on.
mv checkpoints/step-00000006/manifest.json.rewound checkpoints/step-00000006/manifest.json
fails "contains 6 steps, but this buffer claimed only 3" 1 partial-buffer claim -s b --checkpoints checkpoints
partial-buffer rewind -s b --to checkpoints/step-00000003 2>log
grep -q "undid 0 steps.*set 1 checkpoint aside" log || { cat log; exit 1; }
# The same groups give the same weights again.
for ((i = 3; i < 8; ++i)); do step; done
expect "$(sed -E 's/.*"weights":([0-9]+).*/\1/' checkpoints/step-00000006/manifest.json)" "$weights" "weights of step 6"
uids >again
cmp trained again || { echo "other groups were trained"; exit 1; }
partial-buffer audit -q -s b >log || { cat log; exit 1; }
APRIL_STEPS=8 audit
partial-buffer compact -q -s b
partial-buffer audit -q -s b >log || { cat log; exit 1; }

# Dropped groups: refused once claimed, gone from the queue, kept for a look.
partial-buffer take -q -s b --rollouts 8 --worker w >taken
group=$(partial-buffer ls -q -s b --groups --json | grep '"state":"open"' | sed -nE '1s/.*"group_id":"([0-9a-f]*)".*/\1/p')
fails "reason is missing" 2 partial-buffer drop -s b "$group"
fails "is no group" 2 partial-buffer drop -s b --reason x 12
fails "is not there" 2 partial-buffer drop -s b --reason x 0123456789abcdef
fails "is consumed and cannot be dropped\|is trained and cannot be dropped" 2 partial-buffer drop -s b --reason x "$(head -n 1 trained)"
partial-buffer drop -s b --reason "wrong label" "$group" 2>log
grep -q "dropped 1 group; 0 were dropped before" log || { cat log; exit 1; }
partial-buffer drop -s b --reason "wrong label" "$group" 2>log
grep -q "dropped 0 groups; 1 was dropped before" log || { cat log; exit 1; }
expect "$(number 'wrong label')" 1 "groups dropped for their label"
generate <taken | partial-buffer put -s b 2>log
grep -Eq "superseded [1-9]" log || { cat log; exit 1; }
partial-buffer ls -q -s b --groups --json | grep "$group" | grep -q '"state":"dropped"' || { echo "the dropped group cannot be looked at"; exit 1; }
partial-buffer audit -q -s b >log || { cat log; exit 1; }
# Through a hub.
hub=zmq+ipc://hub
partial-buffer take -q -s b --rollouts 8 --worker w >/dev/null
group=$(partial-buffer ls -q -s b --groups --json | grep '"state":"open"' | sed -nE '1s/.*"group_id":"([0-9a-f]*)".*/\1/p')
partial-buffer serve -q -s b --bind $hub & server=$!
partial-buffer drop -s $hub --reason "wrong label" "$group" 2>log || { cat log; exit 1; }
grep -q "dropped 1 group" log || { cat log; exit 1; }
fails "is served at" 1 partial-buffer rewind -s b --to checkpoints/step-00000003
kill $server
wait $server || expect $? 75 "exit of a hub that was stopped"
expect "$(number 'wrong label')" 2 "groups dropped for their label"
