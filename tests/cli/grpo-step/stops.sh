# A stop: a stream that ended early, or a signal, means a final checkpoint and exit 75.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/grpo-step/common.bash"
APRIL_CLAIMS_STATUS=stopped write_claims stopped.stream
fails 'trained 17, skipped 18, excluded 1' 75 train run --model "$model" --in stopped.stream --out steps.stream
[ -e run/checkpoints/step-00000004/manifest.json ]

# The program that claims failed: its claims are trained, a checkpoint holds them, and commit learns of it.
APRIL_CLAIMS_STATUS=error write_claims failed.stream
fails 'the program that wrote the input failed' 1 train failed-run --model "$model" --in failed.stream --out failed-steps.stream
[ -e failed-run/checkpoints/step-00000004/manifest.json ]
fails 'ended error' 1 rollout-cat --check failed-steps.stream

# SIGTERM between two claims: the next one is left in the buffer.
write_claims claims.stream
mkfifo pipe
grpo-step --from signalled/checkpoints --publish signalled/weights --model "$model" --out steps.stream <pipe 2>stderr &
trainer=$!
exec 3>pipe
size=$(stat -c %s claims.stream)
head -c $((size * 4 / 10)) claims.stream >&3
for _ in $(seq 200); do [ "$(cat signalled/weights/LATEST 2>/dev/null)" = 1 ] && break; sleep 0.05; done
expect "$(cat signalled/weights/LATEST)" 1 "version before the signal"
kill -TERM $trainer
sleep 0.1
tail -c +$((size * 4 / 10 + 1)) claims.stream >&3 2>/dev/null || true
exec 3>&-
status=0
wait $trainer || status=$?
expect $status 75 "exit after SIGTERM"
[ -e signalled/checkpoints/step-00000001/manifest.json ] || { cat stderr; ls signalled/checkpoints; exit 1; }
