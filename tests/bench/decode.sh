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
bench=$peers/llama/build/bin/llama-batched-bench
[ -x "$bench" ] || die 2 "$bench is missing; run $here/peers/setup.sh $peers"
model=$peers/model/hf

ours() {  # CONTEXT TOKENS BATCH SEED
  head -n "$3" "$work/prompts-$1.jsonl" >"$work/prompts.jsonl"
  partial-buffer add -q --prompts "$work/prompts.jsonl" --plain --model "$model" --purpose eval --group-size 1 --max-tokens "$2" --temperature 1 \
    --seed "$4" --out "$work/queued.stream"
  rm -f "$work/metrics.jsonl"
  # All prompts are read in one step, so that every other step is one of the whole batch.
  rollout-gen -q --model "$model" --in-flight "$3" --prefill-rows $(($1 * $3)) --in "$work/queued.stream" --out "$work/done.stream" \
    --metrics "$work/metrics.jsonl"
  tail -n 1 "$work/metrics.jsonl" >"$work/last.json"
  awk -v tokens="$(value_of decode_tokens "$work/last.json")" -v seconds="$(value_of decode_s "$work/last.json")" 'BEGIN { print tokens / seconds }'
}

theirs() {  # CONTEXT TOKENS BATCH: the better of flash attention on and off
  local flash
  for flash in on off; do
    "$bench" -m "$peers/model/bf16.gguf" -c $((($1 + $2) * $3 + 256)) -b 2048 -ub 512 -fa $flash -npp "$1" -ntg "$2" -npl "$3" -t "$(nproc)" 2>/dev/null |
      awk -F'|' '/^\| +[0-9]/ { gsub(/ /, ""); print $9 }'
  done | sort -g | tail -n 1
}

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
