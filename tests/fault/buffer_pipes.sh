#!/usr/bin/env bash
# Plain pipes, killed with -9 at random moments and run again: nothing is lost, nothing is trained twice, every step is the uninterrupted one.
# APRIL_KILLS=N (default 40), APRIL_SEED=N; the generator and the trainer are pretended (tests/unit/buffer/pretenders.cc).
set -euo pipefail
kills=${APRIL_KILLS:-40} steps=${APRIL_FAULT_STEPS:-9}
RANDOM=${APRIL_SEED:-1}
model=$APRIL_SOURCE/tests/data/tiny-model
generator() { unit_buffer '[.generator]' -o /dev/null; }
trainer() { unit_buffer '[.trainer]' -o /dev/null; }
buffer() { partial-buffer "$@" 2>>log; }
export APRIL_PRETEND=1 APRIL_STORE=b APRIL_CHECKPOINTS=checkpoints APRIL_DELAY_US=3000

for ((i = 0; i < 30; ++i)); do echo "{\"prompt\":\"$i\",\"label\":\"$i\"}"; done >prompts.jsonl
buffer init -s b --model "$model" --group-size 4 --groups-per-step 3 --in-flight 24 --max-tokens 64 --retain-steps 100000 --seed 1
buffer add -s b --prompts prompts.jsonl --epochs 40 --shuffle 3
mkfifo one two

# round COMMAND-A COMMAND-B COMMAND-C: a | b | c with their pids known; waits for all.
stages=()
start() {
  $1 >one & stages=($!)
  $2 <one >two & stages+=($!)
  $3 <two >/dev/null & stages+=($!)
}
finish() {
  local status=0
  for pid in "${stages[@]}"; do wait "$pid" || status=$?; done
  return $status
}
take() { exec partial-buffer take -s b --worker w 2>>log; }
put() { exec partial-buffer put -s b 2>>log; }
claim() { exec partial-buffer claim -s b --checkpoints checkpoints 2>>log; }
commit() { exec partial-buffer commit -s b 2>>log; }
generate() { exec unit_buffer '[.generator]' -o /dev/null 2>>log; }
train() { exec unit_buffer '[.trainer]' -o /dev/null 2>>log; }
# Waits until these processes run their programs: one that is killed while it opens its pipe leaves the other end waiting for ever.
up() {
  local pid i
  for pid in "$@"; do
    for ((i = 0; i < 1000; ++i)); do [ "$(cat /proc/$pid/comm 2>/dev/null)" = "$(cat /proc/$$/comm)" ] && sleep 0.01 || break; done
  done
}
kill_one() {
  local victim=${stages[RANDOM % 3]}
  up "${stages[@]}"
  sleep "0.0$((RANDOM % 90 + 5))"
  kill -9 "$victim" 2>/dev/null || true
}

for ((i = 0; i < kills; ++i)); do
  if ((RANDOM % 2)); then start take generate put; else start claim train commit; fi
  kill_one
  finish 2>/dev/null || true
  # What is left is always a buffer that can be read whole.
  partial-buffer stat -q -s b >/dev/null
  if ((i % 5 == 4)); then unit_buffer '[.auditor]' >audit || { cat audit; exit 1; }; fi
done
# Undisturbed, it goes on to the end.
for ((i = 0; i < 200; ++i)); do
  [ "$(partial-buffer stat -q -s b --json | sed 's/.*"first_uncommitted_step":\([0-9]*\).*/\1/')" -lt "$steps" ] || break
  start take generate put
  finish || { tail -5 log; exit 1; }
  start claim train commit
  finish || [ $? -eq 7 ] || { tail -5 log; exit 1; }
done
APRIL_STEPS=$steps unit_buffer '[.auditor]' >audit || { cat audit; exit 1; }
