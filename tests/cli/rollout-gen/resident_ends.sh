#!/usr/bin/env bash
# A resident generator that is stopped, or whose hub dies, writes what it holds and says which it was.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"
prompts 40 >prompts.jsonl
hub=zmq+ipc://hub
partial-buffer init -q -s buffer --model "$model" --group-size 8 --groups-per-step 40 --in-flight 320 --max-tokens 200 --seed 5
partial-buffer add -q -s buffer --prompts prompts.jsonl
partial-buffer serve -q -s buffer --bind $hub &
server=$!
generate() {  # OUT: in the background, until something was written
  rollout-gen --from $hub --model "$model" --in-flight 8 --progress-every 4 --peer-timeout-ms 1500 >"$1" 2>log &
  pid=$!
  for ((i = 0; i < 1000; ++i)); do [ -e "$1" ] && [ "$(stat -c %s "$1")" -gt 3000 ] && return; sleep 0.005; done
}

generate stopped.bin
kill -USR1 $pid
wait $pid && exit 1 || expect $? 75 "exit after SIGUSR1"
rollout-cat -q --check --in stopped.bin
[ "$(count stopped.bin partial)" -gt 0 ] || { echo "nothing was under way"; cat log; exit 1; }
read=$(sed -n 's/.*: read \([0-9]*\), finished \([0-9]*\), partial \([0-9]*\), queued \([0-9]*\), failed 0, passed 0;.*/\1 - \2 - \3 - \4/p' log)
expect $((read)) 0 "rollouts that the summary leaves out"

generate lost.bin
kill -KILL $server
wait $server 2>/dev/null || true
wait $pid && exit 1 || expect $? 6 "exit after the hub died"
grep -q "hub" log || { cat log; exit 1; }
rollout-cat -q --check --in lost.bin || true
[ "$(count lost.bin partial)" -gt 0 ] || { echo "nothing was handed back"; cat log; exit 1; }
