#!/usr/bin/env bash
# A disk that takes no more, while a version or a checkpoint is written: the error names the file, what was whole before stays so, and the same command, once
# there is room, ends with the same weights as a run that never met it.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
write_claims claims.stream
train whole -q --model "$model" --in claims.stream --out /dev/null
goes_on() {  # RUN
  train "$1" -q --model "$model" --in claims.stream --out /dev/null
  cmp <(weights whole 4) <(weights "$1" 4)
}
# Seen as a limit on the size of a file: 100 KiB stop the first version, 300 KiB the optimiser's state.
for kib in 100 300; do
  (
    trap '' XFSZ
    ulimit -f $kib
    fails "cannot write run-$kib/.*: File too large" 1 train run-$kib --model "$model" --in claims.stream --out /dev/null --metrics run-$kib.metrics
    [ $kib = 100 ] && exit 0
    # The step whose checkpoint failed was trained and published: it is told and counted like the two before.
    expect "$(wc -l <run-300.metrics)" 3 "lines of metrics"
    grep -q '3 steps, ' stderr || { cat stderr; exit 1; }
  )
  goes_on run-$kib
done
# And as a full file system, where a small one can be mounted: in the middle of versions and of a checkpoint.
mkdir full
if mount -t tmpfs -o size=100k tmpfs full 2>/dev/null; then
  trap 'umount full' EXIT
  for kib in 300 700 900 1000 2000; do
    rm -rf full/run
    mount -o remount,size=${kib}k full
    fails "cannot write full/run/.*: No space left on device" 1 train full/run --model "$model" --in claims.stream --out /dev/null
    mount -o remount,size=50m full
    goes_on full/run
  done
fi
