#!/usr/bin/env bash
# buffer.sh [ROUNDS]: the buffer's appending against `zstd -3 -T1` and a sync of the same bytes, bytes on disk per token, opening a million rollouts
# (BENCH_ROLLOUTS) with and without the index, the hub's operations a second with 64 workers (for BENCH_SECONDS), and the hub's memory meanwhile: after
# a tenth of the time, half of it, and all.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
rounds=${1:-5} rollouts=${BENCH_ROLLOUTS:-1000000} seconds=${BENCH_SECONDS:-20}
need_programs partial-buffer bench_buffer bench_hub
cd "$work"
cp -r "$root/tests/data/tiny-model" model # with room for long responses
sed -i 's/\("max_position_embeddings": *\)[0-9]*/\18192/' model/config.json
model=$work/model
# buffer DIR GROUP-SIZE PROMPTS [INIT OPTIONS...]
buffer() {
  rm -rf "$1"
  seq "$3" | awk '{ printf "{\"prompt\": \"q %d\", \"label\": \"1\"}\n", $1 }' >prompts.jsonl
  partial-buffer init -q -s "$1" --model "$model" --group-size "$2" --seed 1 "${@:4}"
  partial-buffer add -q -s "$1" --prompts prompts.jsonl
}
open_rounds() { local round; for round in $(seq "$rounds"); do bench_buffer open many; done; }
timed() { local begin; begin=$(now); "$@"; echo "$(now) $begin" | awk '{ printf "%.4f\n", $1 - $2 }'; }
packed() { zstd -q -f -3 -T1 "$1" -o packed.zst && sync packed.zst; }

groups=20
: >ours >theirs
for round in $(seq "$rounds"); do
  buffer b 64 $groups --max-tokens 2048
  bench_buffer stream b $groups 2000 done.stream records
  timed partial-buffer put -q -s b --in done.stream >>ours
  timed packed records >>theirs
done
figure buffer_append s lower ours theirs bytes "$(stat -c %s records)" groups $groups peer "zstd -3 -T1 and sync"
tokens=$((groups * 64 * 2000))
for what in "buffer $(cat b/journal/* | wc -c)" "raw $(stat -c %s records)" "zstd-3 $(stat -c %s packed.zst)" "zstd-19 $(zstd -q -19 -T1 -c records | wc -c)"; do
  echo "$what $tokens" | awk '{ printf "{\"figure\": \"bytes_a_token\", \"of\": \"%s\", \"bytes\": %.3f}\n", $1, $2 / $3 }'
done

buffer many 8 $((rollouts / 8)) --max-tokens 1024 --in-flight $((rollouts * 2))
bench_buffer fill many $((rollouts / 8)) 200
rm -f many/index
echo '{"with": "no index"}'
open_rounds
partial-buffer take -q -s many --rollouts 1 --out /dev/null # a writer makes the index
[ -e many/index ] || die 1 "no index was written"
echo '{"with": "the index"}'
open_rounds
rm -rf many

seq 2000 | awk '{ printf "{\"prompt\": \"q %d\", \"label\": \"1\"}\n", $1 }' >prompts.jsonl
for durability in batch:10 sync; do
  partial-buffer init -q -s hub.$durability --model "$model" --group-size 8 --groups-per-step 256 --run-ahead 1 \
    --in-flight 100000 --max-tokens 64 --retain-steps 0
  partial-buffer add -q -s hub.$durability --prompts prompts.jsonl --epochs 100000
  partial-buffer serve -q -s hub.$durability --bind zmq+ipc://socket --durability $durability --term-ms 5000 &
  server=$!
  sleep 1
  bench_hub zmq+ipc://socket "$seconds" 64 $server &
  load=$!
  resident() { ps -o rss= -p $server; }
  sleep $((seconds / 10))
  tenth=$(resident)
  sleep $((seconds * 2 / 5))
  half=$(resident)
  wait $load
  echo "{\"figure\": \"hub_resident_kB\", \"durability\": \"$durability\", \"tenth\": $tenth, \"half\": $half, \"end\": $(resident)}"
  kill $server
  wait $server || true
done
