#!/usr/bin/env bash
# Around the hub: leases, progress, pause, drain. Killed with -9 and started again, each rollout becomes what it would have been.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
weight-sync publish -q --model "$model" --to weights --version 0
prompts 40 >prompts.jsonl
hub=zmq+ipc://hub
begin() {  # DIRECTORY
  mkdir "$1"
  cd "$1"
  partial-buffer init -q -s buffer --model "$model" --run r --group-size 4 --groups-per-step 40 --in-flight 160 --max-tokens 200 --seed 5
  partial-buffer add -q -s buffer --prompts ../prompts.jsonl
  partial-buffer serve -q -s buffer --bind $hub &
  server=$!
}
generate="rollout-gen --from $hub --worker g --weights ../weights --in-flight 8 --progress-every 4"
sink() { reward-score -q --scorer exact --model "$model" | partial-buffer put -q -s $hub; }
scored() { partial-buffer stat -s buffer --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["rollouts"]["scored"])'; }
end() {  # everything is scored: the hub pauses the generator; then the hub is told to stop, and everyone ends in order
  for ((i = 0; i < 150; ++i)); do [ "$(scored)" -eq 160 ] && break; sleep 0.05; done
  expect "$(scored)" 160 "scored rollouts"
  kill -TERM $server
  wait $server || expect $? 75 "the hub"
  wait $chain || expect $? 75 "generator, scorer and sink"
  partial-buffer claim -q -s buffer --groups 40 --out claim.bin
  content claim.bin >content
  expect "$(wc -l <content)" 160 "claimed rollouts"
  cd ..
}

begin smooth
$generate 2>log | sink &
chain=$!
end

begin killed
($generate 2>log & echo $! >pid; { wait $!; } 2>/dev/null) | tee stream | sink 2>sink.log &
chain=$!
for ((i = 0; i < 2000; ++i)); do [ "$(stat -c %s stream 2>/dev/null || echo 0)" -gt 8000 ] && break; sleep 0.005; done
kill -KILL "$(cat pid)"
wait $chain 2>/dev/null && { echo "nobody noticed that the generator was killed"; exit 1; } || true
[ "$(scored)" -lt 160 ] || { echo "killed too late"; exit 1; }
$generate 2>log | sink &
chain=$!
end
grep -q "finished" killed/log
has killed/claim.bin '"resumes":1' || { echo "nothing was resumed"; exit 1; }
cmp -s smooth/content killed/content || { echo "killed and resumed differs from undisturbed"; exit 1; }
