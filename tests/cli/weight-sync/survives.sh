# kill -9 in the middle of publishing and of fetching, and a full disk: never a part of a version, and the next attempt succeeds.
set -euo pipefail
. "$(dirname "$0")/common.bash"

big_model big 60
weight-sync publish -q --model "$model" --to w --version 1

kill_when() {  # PATH COMMAND...: kills the command as soon as the path exists; true if it was still running
  local path=$1 child status=0
  shift
  "$@" 2>/dev/null &
  child=$!
  for _ in $(seq 2000); do [ -e "$path" ] && break; sleep 0.001; done
  kill -9 $child 2>/dev/null || true
  wait $child 2>/dev/null || status=$?
  [ $status -eq 137 ]
}

caught=0
for _ in 1 2 3 4 5; do
  if kill_when w/v00000002.partial/model.safetensors weight-sync publish -q --model big --to w --version 2; then
    caught=$((caught + 1))
    [ "$(cat w/LATEST)" = 1 ] || [ -e w/v00000002/manifest.json ]
    weight-sync verify -q w
  else
    weight-sync verify -q w
    rm -rf w && weight-sync publish -q --model "$model" --to w --version 1
  fi
done
[ $caught -gt 0 ] || { echo "no publication was caught in the middle"; exit 1; }
weight-sync publish -q --model big --to w --version 2
[ "$(cat w/LATEST)" = 2 ]
[ -z "$(find w -name '*.partial')" ]

weight-sync serve -q --dir w --bind zmq+ipc://socket &
server=$!
trap 'kill -9 $server 2>/dev/null || true' EXIT
caught=0
for _ in 1 2 3 4 5; do
  if kill_when f/v00000002.partial/model.safetensors weight-sync fetch -q --from zmq+ipc://socket --to f; then
    caught=$((caught + 1))
    [ ! -e f/LATEST ] || weight-sync verify -q f
    break
  fi
  rm -rf f
done
[ $caught -gt 0 ] || { echo "no fetch was caught in the middle"; exit 1; }
weight-sync fetch -q --from zmq+ipc://socket --to f
weight-sync verify -q f
diff -r w/v00000002 f/v00000002

# A server killed in the middle of a fetch: exit 6, nothing visible; the same command goes on once it is back.
weight-sync fetch -q --from zmq+ipc://socket --to g --peer-timeout-ms 700 2>err.txt &
fetch=$!
for _ in $(seq 2000); do [ -e g/v00000002.partial/model.safetensors ] && break; sleep 0.001; done
{ kill -9 $server && wait $server; } 2>/dev/null || true
status=0
wait $fetch || status=$?
if [ $status -ne 0 ]; then
  [ $status -eq 6 ] || { echo "expected exit 6, got $status"; cat err.txt; exit 1; }
  [ ! -e g/LATEST ]
fi
weight-sync serve -q --dir w --bind zmq+ipc://socket &
server=$!
weight-sync fetch -q --from zmq+ipc://socket --to g
diff -r w/v00000002 g/v00000002
kill $server
wait $server
trap - EXIT

# A signal is how following ends, wherever it comes: exit 0, and the next run goes on with the copy.
for at in g2/v00000002.partial/model.safetensors g2/v00000002; do
  weight-sync fetch -q --from w --to g2 --follow --poll-ms 5 2>err.txt &
  fetch=$!
  for _ in $(seq 2000); do [ -e $at ] && break; sleep 0.001; done
  kill $fetch
  wait $fetch || { echo "following ended with $? at $at"; cat err.txt; exit 1; }
done
diff -r w/v00000002 g2/v00000002

# A full disk, where a small file system can be mounted: the old version stays the latest, and works.
mkdir full
if mount -t tmpfs -o size=24m tmpfs full 2>/dev/null; then
  trap 'umount full' EXIT
  weight-sync publish -q --model "$model" --to full/w
  fails 1 "No space left" weight-sync publish --model big --to full/w
  fails 1 "No space left" weight-sync fetch --from w --to full/w
  [ "$(cat full/w/LATEST)" = 0 ]
  weight-sync verify -q full/w
  weight-sync publish -q --model "$model" --to full/w
  [ "$(cat full/w/LATEST)" = 1 ]
fi
