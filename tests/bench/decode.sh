#!/usr/bin/env bash
# decode.sh PEERS [ROUNDS] [CONTEXT:TOKENS…]: decode tokens/s at batch 1, 8, 32, 64 against llama.cpp in bf16 (default: 3 rounds of 64:64 and 512:64).
#
# Ours: one group of BATCH rollouts of one prompt of CONTEXT tokens, sampled at temperature 1 with log-probabilities recorded. Its time is the difference
# between a run of TOKENS tokens and one of a single token, so that loading and reading the prompt are left out, as they are in the peer's figure.
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
  local tokens
  for tokens in 1 "$2"; do
    partial-buffer add -q --prompts "$work/prompt-$1.jsonl" --plain --model "$model" --purpose eval --group-size "$3" --max-tokens "$tokens" --temperature 1 \
      --seed "$4" --out "$work/queued.stream"
    rm -f "$work/metrics.jsonl"
    rollout-gen -q --model "$model" --in-flight "$3" --in "$work/queued.stream" --out "$work/done.stream" --metrics "$work/metrics.jsonl"
    tail -n 1 "$work/metrics.jsonl" >"$work/last-$tokens.json"
  done
  python3 - "$work/last-1.json" "$work/last-$2.json" <<'PY'
import json, sys
short, long = (json.load(open(path)) for path in sys.argv[1:])
print((long["tokens"] - short["tokens"]) / (long["time_s"] - short["time_s"]))
PY
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
  "$python" "$here/peers/make_prompt.py" "$model" "$context" >"$work/prompt-$context.jsonl"
  for batch in 1 8 32 64; do
    : >"$work/ours" >"$work/theirs"
    for round in $(seq "$rounds"); do
      ours "$context" "$tokens" "$batch" "$round" >>"$work/ours"
      theirs "$context" "$tokens" "$batch" >>"$work/theirs"
    done
    figure decode tokens/s higher "$work/ours" "$work/theirs" batch "$batch" context "$context" tokens "$tokens" peer "llama.cpp bf16"
  done
done
