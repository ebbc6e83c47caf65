# A resident pipeline must not wait for a later record: each one is passed on while the input stays open.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/reward-score/common.bash"
write_rollouts in.stream
mkfifo input
score -q --max-errors 1 <input 2>/dev/null >output &
pid=$!
size=$(stat -c %s in.stream)
exec 9>input
head -c $((size - 20)) in.stream >&9  # all but the last bytes of the end record
for _ in $(seq 50); do
  [ "$(stat -c %s output)" -gt $((size / 2)) ] && break
  sleep 0.1
done
[ "$(stat -c %s output)" -gt $((size / 2)) ] || { echo "only $(stat -c %s output) bytes passed within 5 s"; exit 1; }
kill -0 $pid
tail -c 20 in.stream >&9
exec 9>&-
wait $pid
expect "$(rewards output | wc -l)" 5 "the number of rollouts"
