#!/usr/bin/env bash
# decode.sh PEERS [ROUNDS] [CONTEXT:TOKENS…]: decode tokens/s at batch 1, 8, 32, 64 against llama.cpp in bf16 (default: 3 rounds of 64:64 and 512:64).
#
# Ours: BATCH rollouts of as many prompts of CONTEXT tokens each, sampled at temperature 1 with log-probabilities recorded; the time is that of the steps
# that read no prompt, with all that the program does between them. The peer decodes as many sequences of the same lengths, and samples nothing.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
rounds=${2:-3}
shapes=("${@:3}")
[ ${#shapes[@]} -gt 0 ] || shapes=(64:64 512:64)
need_programs partial-buffer rollout-gen
need_batched_bench
model=$peers/model/hf

ours() {  # CONTEXT TOKENS BATCH SEED
  queue_prompts "$work/prompts-$1.jsonl" "$3" "$2" "$4"
  # All prompts are read in one step, so that every other step is one of the whole batch.
  generate_metrics --in-flight "$3" --prefill-rows $(($1 * $3))
  per_second decode
}

theirs() { batched_bench 9 "$1" "$2" "$3"; }  # CONTEXT TOKENS BATCH

for shape in "${shapes[@]}"; do
  context=${shape%:*} tokens=${shape#*:}
  "$python" "$here/peers/make_prompt.py" "$model" "$context" 64 >"$work/prompts-$context.jsonl"
  for batch in 1 8 32 64; do
    : >"$work/ours" >"$work/theirs"
    for round in $(seq "$rounds"); do
      ours "$context" "$tokens" "$batch" "$round" >>"$work/ours"
      theirs "$context" "$tokens" "$batch" >>"$work/theirs"
    done
    figure decode tokens/s higher "$work/ours" "$work/theirs" batch "$batch" context "$context" tokens "$tokens" peer "llama.cpp bf16"
  done
done
