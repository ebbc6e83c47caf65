#!/usr/bin/env bash
# Admission, staleness, resumes, order and filter on the command line: each run goes on to its steps, and audit agrees.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
fails "none of first-finished, assigned:K, window:W" 2 partial-buffer init -s x --model "$model" --max-tokens 64 --admission newest
fails "hint: the window has at least .* groups: 8" 2 partial-buffer init -s x --model "$model" --max-tokens 64 --admission window:7
fails "max-staleness is 0" 2 partial-buffer init -s x --model "$model" --max-tokens 64 --admission assigned:1 --max-staleness 0
fails "order" 2 partial-buffer take -s x --order newest
[ ! -e x ] || { echo "a refused init left something"; exit 1; }

# round VERSION [OPTIONS]: what is asked for, generated for a while under that version
round() { partial-buffer take -q -s b --worker w "${@:2}" | APRIL_VERSION=$1 APRIL_ROUNDS=4 generate | partial-buffer put -q -s b; }
# steps COUNT [OPTIONS of take]: rounds and steps in turn
steps() {
  local step rounds
  for ((step = 0; step < $1; ++step)); do
    rounds=0
    until partial-buffer claim -q -s b --checkpoints checkpoints >claim 2>log; do
      ((++rounds < 40)) || { echo "no claim of step $step after $rounds rounds"; cat log; exit 1; }
      round "$step" "${@:2}"
    done
    train <claim | partial-buffer commit -q -s b
  done
  partial-buffer audit -q -s b >log || { cat log; exit 1; }
  audit
}
again() { rm -rf b checkpoints && make "$@"; }

# Assigned: step n trains groups 2n and 2n + 1 of those that the queue has; the claim names the one that it awaits.
make 40 --in-flight 24 --admission assigned:2 --min-members 1
round 0 --order random
partial-buffer claim -s b >claim 2>log || grep -q "more group.* of 2: group [0-9a-f]* (. of 4 members ended, 0 leased)" log || { cat log; exit 1; }
steps 6
partial-buffer ls -q -s b --groups --json | python3 -c '
import json, sys
groups = [json.loads(line) for line in sys.stdin]
states = [group["state"] for group in groups]
gone = [i for i, group in enumerate(groups) if group["state"] == "open" and group["ended"] == 4]
trained = [i for i, state in enumerate(states) if state in ("trained", "consumed")]
assert trained == [i for i in range(12 + len(gone)) if i not in gone][:12], (trained, gone)'

again 40 --admission window:4 --max-resumes 2
steps 6 --order oldest
again 40 --max-staleness 1 --in-flight 16
steps 6 --order longest
partial-buffer stat -q -s b --json | python3 -c '
import json, sys
stat = json.load(sys.stdin)
assert all(int(versions) <= 1 for versions in stat["trained"]["staleness_versions"]), stat["trained"]
assert set(stat["dropped_groups"]) <= {"stale"}, stat'

# Dynamic sampling, synchronous, on plain pipes: groups of equal rewards are replaced, and what awaits says how many there are.
again 60 --in-flight 8 --filter nonzero-std --group-size 2
steps 8
dropped=$(partial-buffer stat -q -s b --json | sed -nE 's/.*"zero-std":([0-9]+).*/\1/p')
[ "${dropped:-0}" -gt 0 ] || { echo "no group of equal rewards was dropped"; exit 1; }
expect "$(partial-buffer ls -q -s b --groups --json | grep -c '"state":"dropped"')" "$dropped" "dropped groups that are kept"
fails "equal rewards ($dropped dropped before)" 7 partial-buffer claim -s b --checkpoints checkpoints --groups 50

# The same through a hub, where the claim asks for the filter; generators get the order of serve.
again 60 --group-size 2
hub=zmq+ipc://hub
partial-buffer serve -q -s b --bind $hub --order shortest 2>log.serve & server=$!
trap 'kill $server 2>/dev/null || true' EXIT
mkdir -p checkpoints
APRIL_HUB=$hub APRIL_WORKER=g generate | partial-buffer put -q -s $hub &
partial-buffer claim -q -s $hub --follow --steps 6 --checkpoints checkpoints --filter nonzero-std | train | partial-buffer commit -q -s $hub
wait $server || { cat log.serve; exit 1; }
trap - EXIT
grep -q zero-std <(partial-buffer stat -q -s b --json) || { echo "the hub dropped no group of equal rewards"; exit 1; }
partial-buffer audit -q -s b >log || { cat log; exit 1; }
APRIL_STEPS=6 audit
