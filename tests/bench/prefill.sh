#!/usr/bin/env bash
# prefill.sh PEERS [ROUNDS] [LENGTH…]: prompt tokens read a second against llama.cpp in bf16 (default: 3 rounds of prompts of 512 and 2048 tokens).
#
# Ours: one prompt, read in one step, at whose end the first token is sampled and its log-probability recorded; all that the program does in that step
# counts. The peer reads as long a prompt, and samples nothing.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
rounds=${2:-3}
lengths=("${@:3}")
[ ${#lengths[@]} -gt 0 ] || lengths=(512 2048)
need_programs partial-buffer rollout-gen
need_batched_bench
model=$peers/model/hf

ours() {  # LENGTH SEED
  queue_prompts "$work/prompts-$1.jsonl" 4 1 "$2"
  generate_metrics --in-flight 1 --prefill-rows "$1"
  per_second prefill
}

theirs() { batched_bench 7 "$1" 1 1; }

for length in "${lengths[@]}"; do
  "$python" "$here/peers/make_prompt.py" "$model" "$length" 4 >"$work/prompts-$length.jsonl"
  : >"$work/ours" >"$work/theirs"
  for round in $(seq "$rounds"); do
    ours "$length" "$round" >>"$work/ours"
    theirs "$length" >>"$work/theirs"
  done
  figure prefill tokens/s higher "$work/ours" "$work/theirs" length "$length" peer "llama.cpp bf16"
done
