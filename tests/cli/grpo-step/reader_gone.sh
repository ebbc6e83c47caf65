#!/usr/bin/env bash
# The program behind it dies while it waits for the next claim, which comes only after that one's commit: it ends, with the steps before in a checkpoint.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
write_claims claims.stream
mkfifo claims steps
exec 3<>claims  # keeps it open: no end of the stream comes
zstdcat -f claims.stream | head -c -5 >&3 &
train run -q --model "$model" <claims >steps 3<&- 2>stderr &
trainer=$!
sleep 30 <steps 3<&- &
reader=$!
for _ in $(seq 200); do [ "$(cat run/weights/LATEST 2>/dev/null)" = 4 ] && break; sleep 0.05; done
expect "$(cat run/weights/LATEST)" 4 "version that the claims make"
sleep 0.2
kill -9 $reader
wait $reader 2>/dev/null || true
begin=$SECONDS status=0
wait $trainer || status=$?
[ $((SECONDS - begin)) -lt 5 ] || { echo "it waited on for $((SECONDS - begin)) s"; exit 1; }
expect $status 6 "exit status"
grep -q 'stdout was closed by its reader' stderr || { echo "it does not say why:"; cat stderr; exit 1; }
[ -e run/checkpoints/step-00000004/manifest.json ] || { echo "the steps that it had made are in no checkpoint"; exit 1; }
