# A model becomes versions; they can be listed, verified and fetched, and equal weights have one name.
set -euo pipefail
. "$(dirname "$0")/common.bash"

fails 7 "no version yet" weight-sync fetch --from "$(mkdir -p empty && echo empty)" --to x
weight-sync publish -q --model "$model" --to w
weight-sync publish -q --model "$model" --to w
weight-sync publish -q --model w/v00000001 --to w --version 7 --durable
[ "$(cat w/LATEST)" = 7 ]
[ "$(weight-sync list w | grep -c .)" = 3 ]
[ "$(weight-sync list w | grep -o '"weights":"[0-9a-f]*"' | sort -u | wc -l)" = 1 ]
weight-sync list w | grep '"version":7' | grep >/dev/null '"latest":true'
[ -s w/v00000000/config.json ] && [ -s w/v00000000/tokenizer.json ] && [ -s w/v00000000/manifest.json ]
weight-sync verify -q w

# Fetched by directory, and by socket while the store is served: equal files.
weight-sync fetch -q --from w --to by-directory
weight-sync serve -q --dir w --bind zmq+ipc://socket &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
weight-sync fetch -q --from zmq+ipc://socket --to by-socket --peer-timeout-ms 10000
weight-sync fetch -q --from zmq+ipc://socket --to by-socket --peer-timeout-ms 10000 --version 0
diff -r w/v00000007 by-directory/v00000007
diff -r w/v00000007 by-socket/v00000007
diff -r w/v00000000 by-socket/v00000000
[ "$(cat by-socket/LATEST)" = 7 ]
fails 1 "no version 3" weight-sync fetch --from zmq+ipc://socket --to by-socket --version 3 --peer-timeout-ms 10000

# A follower takes each new version and ends in order.
weight-sync fetch --from zmq+ipc://socket --to follower --follow --poll-ms 5 --peer-timeout-ms 10000 2>follower.txt &
follower=$!
wait_for() { for _ in $(seq 200); do [ "$(cat follower/LATEST 2>/dev/null || true)" = "$1" ] && return 0; sleep 0.02; done; echo "no version $1 arrived"; cat follower.txt; exit 1; }
wait_for 7
weight-sync publish -q --model "$model" --to w
wait_for 8
kill $follower
wait $follower
grep -q "fetched 2 versions" follower.txt
kill $server
wait $server
trap - EXIT
fails 6 "no server" weight-sync fetch --from zmq+ipc://socket --to x --peer-timeout-ms 100

# Old versions make room; the one that LATEST names stays.
weight-sync publish -q --model "$model" --to w --keep 1
[ "$(weight-sync list w | grep -c .)" = 1 ] && [ "$(cat w/LATEST)" = 9 ]
