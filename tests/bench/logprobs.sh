#!/usr/bin/env bash
# logprobs.sh PEERS: recorded log-probabilities of 20 prompts (f32 compute) against transformers in f32 on the same tokens, and the likeliest token at every
# position of greedy responses.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
need_programs partial-buffer rollout-gen
"$python" "$here/peers/questions.py" 20 >"$work/prompts.jsonl"
for temperature in 1 0; do
  partial-buffer add -q --prompts "$work/prompts.jsonl" --model "$peers/model/hf" --purpose eval --group-size 1 --max-tokens 48 --temperature $temperature --seed 3 --no-compress \
    --out "$work/queued.stream"
  rollout-gen -q --model "$peers/model/hf" --precision f32 --in "$work/queued.stream" --no-compress --out "$work/done-$temperature.stream"
done
"$python" "$here/peers/compare_logprobs.py" "$peers/model/hf" "$work/done-1.stream" "$work/done-0.stream"
