#!/usr/bin/env bash
# A first signal to a sink, as Ctrl-C sends it: it says that it reads on, and what is kept; the records that come after it are kept too.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 6
trap 'kill $sink 2>/dev/null || true' EXIT
# told FILE: waits for the line
told() {
  for ((i = 0; i < 100; ++i)); do grep -q "stopping: all that was read is $2" "$1" && return 0 || sleep 0.05; done
  echo "no word of stopping in $1:"
  cat "$1"
  exit 1
}
# handles PID: waits until a first SIGTERM (bit 14) no longer kills it
handles() { until (($((0x$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status"))) >> 14 & 1)); do sleep 0.02; done; }
mkfifo records steps
partial-buffer take -q -s b --worker w | APRIL_ROUNDS=40 generate >done
partial-buffer put -s b --in records 2>log.put & sink=$!
exec 3>records
head -c 2000 done >&3
handles $sink
kill -TERM $sink
told log.put put
tail -c +2001 done >&3
exec 3>&-
wait $sink || { echo "put ended with $?"; cat log.put; exit 1; }
expect "$(in_state leased)" 0 "leased rollouts"
partial-buffer claim -q -s b | train >trained
partial-buffer commit -s b --in steps 2>log.commit & sink=$!
exec 3>steps
head -c -20 trained >&3
handles $sink
kill -TERM $sink
told log.commit committed
tail -c 20 trained >&3
exec 3>&-
wait $sink || { echo "commit ended with $?"; cat log.commit; exit 1; }
grep -q "committed 1" log.commit || { cat log.commit; exit 1; }
# A source that dies: what arrived is kept, and what to type for the rest.
partial-buffer take -q -s b --worker w2 --rollouts 8 | generate >done
head -c $(($(stat -c %s done) / 2)) done >cut
fails "hint: what arrived is kept; partial-buffer take --worker NAME.*partial-buffer stat shows it" 3 partial-buffer put -s b --in cut
