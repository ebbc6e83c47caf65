#!/usr/bin/env bash
# The resident loop while its hub, generator, sink, trainer's feed and committer are killed with -9 and started again: the run goes on to the same steps.
# APRIL_KILLS=N (default 25), APRIL_SEED=N; generator and trainer are pretended (tests/unit/buffer/pretenders.cc).
set -euo pipefail
kills=${APRIL_KILLS:-25}
RANDOM=${APRIL_SEED:-2}
model=$APRIL_SOURCE/tests/data/tiny-model
hub=zmq+ipc://hub
export APRIL_PRETEND=1 APRIL_STORE=b APRIL_CHECKPOINTS=checkpoints APRIL_DELAY_US=2000
steps=100000

for ((i = 0; i < 30; ++i)); do echo "{\"prompt\":\"$i\",\"label\":\"$i\"}"; done >prompts.jsonl
partial-buffer init -q -s b --model "$model" --group-size 4 --groups-per-step 3 --in-flight 24 --max-tokens 64 --retain-steps 100000 --seed 1
partial-buffer add -q -s b --prompts prompts.jsonl --epochs 1000 --shuffle 3
mkfifo gen claims steps

serve() { exec partial-buffer serve -s b --bind $hub --term-ms 2000 2>>log.serve; }
generate() { APRIL_HUB=$hub APRIL_WORKER=g exec unit_buffer '[.generator]' -o /dev/null 2>>log.generate; }
put() { exec partial-buffer put -s $hub 2>>log.put; }
claim() { exec partial-buffer claim -s $hub --follow --steps $steps --checkpoints checkpoints 2>>log.claim; }
train() { exec unit_buffer '[.trainer]' -o /dev/null 2>>log.train; }
commit() { exec partial-buffer commit -s $hub 2>>log.commit; }
start_server() { serve & server=$!; }
start_generation() { generate >gen & generation=($!); put <gen & generation+=($!); }
start_training() { claim >claims & training=($!); train <claims >steps & training+=($!); commit <steps >/dev/null & training+=($!); }
end() { kill -9 "$@" 2>/dev/null || true; wait "$@" 2>/dev/null || true; }

# Waits until these processes run their programs: one that is killed while it opens its pipe leaves the other end waiting for ever.
up() {
  local pid i
  for pid in "$@"; do
    for ((i = 0; i < 1000; ++i)); do [ "$(cat /proc/$pid/comm 2>/dev/null)" = "$(cat /proc/$$/comm)" ] && sleep 0.01 || break; done
  done
}

start_server; start_generation; start_training
trap 'end $server "${generation[@]}" "${training[@]}"' EXIT
for ((i = 0; i < kills; ++i)); do
  up $server "${generation[@]}" "${training[@]}"
  sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
  case $((RANDOM % 6)) in
    0 | 1) end $server; start_server ;;  # the others wait for it
    2) end "${generation[0]}"; wait "${generation[1]}" 2>/dev/null || true; start_generation ;;
    3) end "${generation[1]}"; wait "${generation[0]}" 2>/dev/null || true; start_generation ;;
    4) end "${training[0]}"; wait "${training[@]}" 2>/dev/null || true; start_training ;;
    5) end "${training[2]}"; end "${training[@]}"; start_training ;;
  esac
done
before=$(partial-buffer stat -q -s b --json | sed 's/.*"first_uncommitted_step":\([0-9]*\).*/\1/')
sleep 1
# A first signal to the hub ends everything in order.
kill -TERM $server
for pid in "${generation[@]}" "${training[@]}" $server; do
  status=0
  wait "$pid" || status=$?
  [ $status -eq 0 ] || [ $status -eq 75 ] || { echo "exit $status of a process that should have drained"; tail -n 3 log.*; exit 1; }
done
trap - EXIT
partial-buffer stat -q -s b --json >stat
grep -q '"leased":0' stat || { echo "rollouts are still leased:"; partial-buffer stat -s b; exit 1; }
APRIL_STEPS=$((before + 1)) unit_buffer '[.auditor]' >audit || { cat audit; exit 1; }
