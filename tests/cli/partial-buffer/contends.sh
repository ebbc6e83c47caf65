#!/usr/bin/env bash
# Many writers by path at once: each rollout is given to one of them, and nothing is lost.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 60
for worker in 1 2 3 4 5 6; do
  (for round in 1 2 3; do partial-buffer take -q -s b --rollouts 9 --worker "w$worker" | APRIL_ROUNDS=20 generate | partial-buffer put -q -s b; done) &
  workers[worker]=$!
done
for worker in "${workers[@]}"; do wait "$worker"; done
partial-buffer stat -q -s b --json >stat
grep -q '"leased":0' stat && grep -q '"superseded":{"records":0' stat || { cat stat; exit 1; }
[ "$(partial-buffer ls -q -s b --json | wc -l)" -ge $((6 * 3 * 9)) ] || { echo "too few rollouts were issued"; exit 1; }
audit
