#!/usr/bin/env bash
# price.sh PEERS [ROUNDS] [BATCH:CONTEXT…]: what exactness costs: the network's part of a decode step, everything in it, against only the products and
# the attention of one in LibTorch (oneDNN at natural row counts), where nothing has to be exact. Ratios above 1: the exact step is the faster one.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
rounds=${2:-3}
shapes=("${@:3}")
[ ${#shapes[@]} -gt 0 ] || shapes=(1:64 8:64 32:64 64:64 64:512)
need_programs bench_model
model=$peers/model/hf

for shape in "${shapes[@]}"; do
  batch=${shape%:*} context=${shape#*:}
  : >"$work/ours" >"$work/theirs"
  for round in $(seq "$rounds"); do
    bench_model "$model" "$(nproc)" "decode batch $batch context $context" >"$work/lines"
    grep tokens_per_s "$work/lines" >"$work/last.json"
    awk -v rate="$(value_of tokens_per_s "$work/last.json")" -v batch="$batch" 'BEGIN { print batch / rate }' >>"$work/ours"
    "$python" "$here/peers/inexact_step.py" "$model" "$(nproc)" "$shape" >"$work/last.json"
    value_of step_s "$work/last.json" >>"$work/theirs"
  done
  figure exactness_price s lower "$work/ours" "$work/theirs" batch "$batch" context "$context" peer "LibTorch's products and attention alone"
done
