#!/usr/bin/env bash
# While a hub serves, writers by path are refused with its address, readers are not; the loop ends by itself after the last step.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
hub=zmq+ipc://hub
fails "no server at\|no answer from" 6 partial-buffer stat -s $hub --peer-timeout-ms 300
make 40
for address in 0.0.0.0:5599 '*:5599' 10.1.2.3:5599 127.evil.example:5599; do
  fails "is not on this machine" 2 partial-buffer serve -s b --bind "zmq+tcp://$address"
done
partial-buffer serve -s b --bind $hub --metrics metrics.jsonl 2>log.serve & server=$!
trap 'kill $server 2>/dev/null || true' EXIT
partial-buffer stat -q -s $hub --json >/dev/null
fails "is served at $hub" 1 partial-buffer take -s b
fails "is served at $hub" 1 partial-buffer serve -s b --bind zmq+ipc://second
mkdir steps
APRIL_HUB=$hub APRIL_WORKER=g generate | partial-buffer put -s $hub 2>log.put & generation=$!
partial-buffer claim -s $hub --follow --steps 5 --checkpoints checkpoints 2>log.claim | train | partial-buffer commit -s $hub 2>log.commit
partial-buffer ls -q -s b >/dev/null
wait $generation
wait $server || { echo "the hub ended with $?"; cat log.serve; exit 1; }
trap - EXIT
grep -q "claimed 5 steps, replayed 0" log.claim || { cat log.claim; exit 1; }
grep -q "read 5, committed 5" log.commit || { cat log.commit; exit 1; }
expect "$(in_state leased)" 0 "leased rollouts"
expect "$(tail -n 1 metrics.jsonl | sed 's/.*"step":\([0-9]*\).*/\1/')" 5 "steps in the metrics"
APRIL_STEPS=5 audit
# The buffer is free again.
partial-buffer take -q -s b --worker w >/dev/null
