#!/usr/bin/env bash
# price.sh PEERS [ROUNDS] [BATCH:CONTEXT…]: what exactness costs: a decode step of the engine, sampling left out, against one of the same engine with
# oneDNN's products at natural row counts and LibTorch's attention, where nothing has to be exact (inexact.cc says in what that one is favoured). Ratios
# above 1: the exact step is the faster one; 0.9 is a price of 10 %.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
rounds=${2:-5}
shapes=("${@:3}")
[ ${#shapes[@]} -gt 0 ] || shapes=(1:64 8:64 32:64 64:64 64:512)
need_programs bench_inexact
model=$peers/model/hf

for shape in "${shapes[@]}"; do
  batch=${shape%:*} context=${shape#*:}
  bench_inexact "$model" "$(nproc)" "$batch" "$context" "$rounds" >"$work/lines"
  value_of exact_s "$work/lines" >"$work/exact"
  value_of inexact_s "$work/lines" >"$work/inexact"
  figure exactness_price s lower "$work/exact" "$work/inexact" batch "$batch" context "$context" peer "oneDNN's products, LibTorch's attention"
done
