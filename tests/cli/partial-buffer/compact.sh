#!/usr/bin/env bash
# compact: the same rollouts in fewer bytes, on plain pipes and beside a hub that goes on; replaced files stay for one compaction.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
fails "nowhere is no buffer" 2 partial-buffer compact -s nowhere
# What a user sees, without what tells the time.
seen() { partial-buffer ls -q -s b --json | sed -E 's/"(changed|age)_s":[^,}]*//g'; }
size() { cat b/journal/* | wc -c; }
make 40
for _ in 1 2 3 4; do partial-buffer take -q -s b --worker w | generate | partial-buffer put -q -s b; done
partial-buffer take -q -s b --worker w >taken  # leased rollouts stay leased
seen >before
bytes=$(size)
partial-buffer compact -s b 2>log
grep -Eq "compacted .* to .*, deleted 0 B" log || { cat log; exit 1; }
[ "$(size)" -gt "$bytes" ] || { echo "a replaced segment is gone at once"; exit 1; }
partial-buffer compact -q -s b
partial-buffer compact -q -s b
seen | cmp before - || { echo "compaction changed what the buffer holds"; exit 1; }
[ "$(size)" -lt $((bytes * 3)) ] || { echo "three compactions left $(size) bytes of $bytes"; exit 1; }
generate <taken | partial-buffer put -q -s b

hub=zmq+ipc://hub
partial-buffer serve -q -s b --bind $hub & server=$!
trap 'kill $server 2>/dev/null || true' EXIT
APRIL_HUB=$hub APRIL_WORKER=g generate | partial-buffer put -q -s $hub & generation=$!
partial-buffer claim -q -s $hub --follow --steps 5 --checkpoints checkpoints | train | partial-buffer commit -q -s $hub & training=$!
compactions=0
while kill -0 $training 2>/dev/null; do
  partial-buffer compact -q -s b
  ((++compactions))
done
wait $training
wait $generation
wait $server || { echo "the hub ended with $?"; exit 1; }
trap - EXIT
[ $compactions -gt 1 ] || { echo "only $compactions compactions beside the hub"; exit 1; }
APRIL_STEPS=5 audit
