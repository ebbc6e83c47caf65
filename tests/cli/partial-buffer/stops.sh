#!/usr/bin/env bash
# A first signal in the midst of a training step that takes longer than the hub's grace and its clients' terms: everything waits for the step, which is
# committed, and ends with 75.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
hub=zmq+ipc://hub
mkfifo rollouts claims steps
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
for whom in hub everyone; do
  rm -rf b checkpoints
  make 40
  partial-buffer serve -s b --bind $hub --term-ms 700 --grace-ms 300 2>log.serve & server=$!
  APRIL_HUB=$hub APRIL_WORKER=g exec unit_buffer '[.generator]' -o /dev/null >rollouts & generator=$!
  partial-buffer put -s $hub <rollouts 2>log.put & sink=$!
  partial-buffer claim -s $hub --follow --steps 1000 --checkpoints checkpoints >claims 2>log.claim & feed=$!
  APRIL_DELAY_US=2500000 unit_buffer '[.trainer]' -o /dev/null <claims >steps & trainer=$!
  partial-buffer commit -s $hub <steps 2>log.commit & committer=$!
  pids=($server $generator $sink $feed $trainer $committer)
  for ((i = 0; i < 100; ++i)); do partial-buffer stat -q -s b --json | grep -F '"uncommitted":[{' >/dev/null && break || sleep 0.05; done
  if [ $whom = hub ]; then kill -USR1 $server; else kill -TERM $server $generator $sink $feed $committer; fi
  for name in server sink feed committer; do
    status=0
    wait "${!name}" || status=$?
    # To the sink the end of a generator that drained because it was asked to is a whole end.
    [ $status -eq 75 ] || [ $name$whom$status = sinkhub0 ] || { echo "$name ended with $status after a signal to $whom"; tail -n 3 log.*; exit 1; }
  done
  wait $generator $trainer
  expect "$(number first_uncommitted_step)" 1 "committed steps"
  expect "$(in_state leased)" 0 "leased rollouts"
  APRIL_STEPS=1 audit
done
trap - EXIT
