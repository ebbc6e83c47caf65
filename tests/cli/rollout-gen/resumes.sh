#!/usr/bin/env bash
# Rounds that end early hand everything back; whatever the interruptions, each rollout becomes what it would have been.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-gen/common.bash"

work 24 4 60 >work.bin
rollout-gen -q --model "$model" --in work.bin --out whole.zst
content whole.zst >whole

# A round of 3 groups: what is finished beyond them is kept, the rest goes on later.
rollout-gen --model "$model" --in work.bin --out round.zst --target-groups 3 2>log
finished=$(count round.zst complete) partial=$(count round.zst partial)
[ "$finished" -ge 12 ] && [ "$partial" -gt 0 ] && [ $((finished + partial)) -eq 96 ] || { cat log; exit 1; }
rollout-gen --model "$model" --in round.zst --out rest.zst 2>log
grep -q "read 96, finished $partial, partial 0, queued 0, failed 0, passed $finished;" log || { cat log; exit 1; }
content rest.zst | cmp -s whole - || { echo "interrupted and resumed differs from uninterrupted"; exit 1; }
has rest.zst '"kv":"recomputed".*"resumes":1' || { echo "no resumed segment"; exit 1; }

# --drain-when: the path exists already, so nothing is generated and nothing is lost.
touch now
rollout-gen --model "$model" --in work.bin --out drained.zst --drain-when now 2>log
grep -q "read 96, finished 0, partial 0, queued 96, failed 0, passed 0; 0 tokens" log || { cat log; exit 1; }

# A signal: everything is written, exit 75, and the stream says that it was stopped.
work 40 8 200 >long.bin
status=0
rollout-gen --model "$model" --in long.bin --out stopped.bin --no-compress --in-flight 4 2>log &
pid=$!
for ((i = 0; i < 200; ++i)); do [ -s stopped.bin.tmp ] && [ "$(stat -c %s stopped.bin.tmp)" -gt 2000 ] && break; sleep 0.02; done
kill -TERM $pid
wait $pid || status=$?
expect $status 75 "exit after SIGTERM"
finished=$(count stopped.bin complete) partial=$(count stopped.bin partial) queued=$(count stopped.bin queued)
expect $((finished + partial + queued)) 320 "rollouts after SIGTERM"
[ "$queued" -gt 0 ] || { echo "nothing was left to do when the signal came"; cat log; exit 1; }
rollout-gen -q --model "$model" --in stopped.bin --out stopped-rest.zst && exit 1 || expect $? 75 "exit on a stopped input"
rollout-gen -q --model "$model" --in long.bin --out long.zst
content long.zst >whole
content stopped-rest.zst | cmp -s whole - || { echo "stopped and resumed differs from uninterrupted"; exit 1; }

# A closed pipe: exit 6.
rollout-gen -q --model "$model" --in long.bin 2>log | head -c 1000 >/dev/null || expect "${PIPESTATUS[0]}" 6 "exit with a closed pipe"
grep -q "closed" log || { cat log; exit 1; }
