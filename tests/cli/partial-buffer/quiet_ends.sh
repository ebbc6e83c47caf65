#!/usr/bin/env bash
# Who looks no further than the first lines hears nothing more: exit 6 without a message. A stream that nobody reads to its end stays an error.
# A stream is more than the megabyte that its pipe holds: what fits into a pipe may be written before its reader has gone.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 500
partial-buffer take -q -s b --rollouts 2000 --worker w | generate | partial-buffer put -q -s b
# quiet COMMAND...: its reader ends after one line
quiet() {
  local status=0
  "$@" 2>stderr | head -n 1 >/dev/null || status=${PIPESTATUS[0]}
  [ $status -eq 6 ] || { echo "exit $status with a reader that ended early: $*"; cat stderr; exit 1; }
  [ ! -s stderr ] || { echo "a message of $*:"; cat stderr; exit 1; }
}
quiet partial-buffer ls -s b
quiet partial-buffer ls -s b --json --sort tokens
quiet partial-buffer grep -s b . --prompts
quiet partial-buffer export -s b
partial-buffer export -q -s b --stream --out all.stream
quiet rollout-cat --json all.stream
quiet rollout-cat --text --model "$model" all.stream
for stream in "partial-buffer export -s b --stream" "rollout-cat all.stream"; do
  status=0
  $stream 2>stderr | head -c 100 >/dev/null || status=${PIPESTATUS[0]}
  [ $status -eq 6 ] && grep -q "error: .*closed by its reader" stderr || { echo "exit $status of: $stream"; cat stderr; exit 1; }
done
