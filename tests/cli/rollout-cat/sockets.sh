# The same stream through a pipe, files and sockets is equal; a vanished peer is exit 6 within its limit.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-cat/common.bash"
random_stream in.stream 500
rollout-cat -q --canonical in.stream >canonical
rollout-cat -q in.stream | rollout-cat -q | rollout-cat -q --canonical | cmp - canonical

socket=zmq+ipc://socket
port=$((20000 + $$ % 20000))
for pair in "$socket @$socket" "@$socket $socket" "zmq+tcp://127.0.0.1:$port @zmq+tcp://127.0.0.1:$port" "zmq+tcp://localhost:$port @zmq+tcp://localhost:$port"; do
  set -- $pair
  rollout-cat -q --out "$1" in.stream &
  rollout-cat -q --in "$2" --out received.stream
  wait $!
  rollout-cat -q --canonical received.stream | cmp - canonical
done

# Two writers into one reader.
rollout-cat -q --out $socket in.stream &
first=$!
rollout-cat -q --out $socket in.stream &
second=$!
rollout-cat -q --sources 2 --in @$socket --count --json | python3 -c 'import json, sys; assert sum(json.load(sys.stdin).values()) == 1000'
wait $first $second

# A killed writer, a killed reader, nobody at all.
APRIL_STREAM=$socket APRIL_STREAM_RECORDS=1000 APRIL_STREAM_PAUSE_MS=20 unit_record '[.stream]' >/dev/null &
writer=$!
rollout-cat --peer-timeout-ms 1000 --in @$socket --out x.stream 2>stderr &
reader=$!
await x.stream.tmp
sleep 0.3
{ kill -9 $writer; wait $writer; } 2>/dev/null || true
status=0
wait $reader || status=$?
[ $status -eq 6 ] || { echo "exit $status after a killed writer"; cat stderr; exit 1; }
grep -q 'silent' stderr
[ ! -e x.stream ]

rollout-cat -q --in @$socket --out y.stream 2>/dev/null &
reader=$!
APRIL_STREAM_TIMEOUT_MS=1000 random_stream $socket 200 10 2>/dev/null &
writer=$!
await y.stream.tmp
{ kill -9 $reader; wait $reader; } 2>/dev/null || true
status=0
wait $writer || status=$?
[ $status -ne 0 ] || { echo "the writer did not notice that its reader was killed"; exit 1; }

fails 6 'no reader at' rollout-cat --peer-timeout-ms 300 --out $socket in.stream
fails 6 '0 of 1 writers' rollout-cat --peer-timeout-ms 300 --in $socket
