#!/usr/bin/env bash
# A trainer that is still busy after its last step, longer than the hub waits for silent clients: its committer is heard, and everything ends in order.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
hub=zmq+ipc://hub
# Passes everything on but the end record, which comes 3 s later.
busy_at_the_end() {
  python3 -c '
import os, time
held = b""
while data := os.read(0, 65536):
    held += data
    end = held.find(b"\xa4type\xa3end")
    if end < 0: end = len(held)
    os.write(1, held[:end])
    held = held[end:]
time.sleep(3)
os.write(1, held)'
}
make 20
partial-buffer serve -s b --bind $hub --term-ms 1000 2>log.serve & server=$!
trap 'kill $server 2>/dev/null || true' EXIT
# A claim that waits for rollouts hears that its trainer is gone.
{ status=0; timeout 20 partial-buffer claim -s $hub --follow --checkpoints checkpoints 2>log.claim || status=$?; echo $status >claim.status; } | head -c 1 >/dev/null
expect "$(cat claim.status)" 6 "exit of a claim whose reader is gone"
grep -q "the program that reads the claims is gone" log.claim || { cat log.claim; exit 1; }
# One that nothing can come for does not wait.
partial-buffer init -q -s none --model "$model" --max-tokens 64
partial-buffer serve -s none --bind zmq+ipc://none.hub --term-ms 1000 2>log.none & none=$!
fails "hint: no prompts are left: partial-buffer add" 7 timeout 20 partial-buffer claim -s zmq+ipc://none.hub --follow --steps 1
kill $none
wait $none || expect $? 75 "exit of a hub that was stopped"
mkdir steps
APRIL_HUB=$hub APRIL_WORKER=g generate | partial-buffer put -s $hub 2>log.put &
partial-buffer claim -s $hub --follow --steps 2 --checkpoints checkpoints 2>log.claim | train | busy_at_the_end | partial-buffer commit -s $hub 2>log.commit
grep -q "read 2, committed 2" log.commit && ! grep -q "gone" log.commit || { cat log.commit; exit 1; }
wait $server || { echo "the hub ended with $?"; cat log.serve; exit 1; }
trap - EXIT
