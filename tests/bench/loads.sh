#!/usr/bin/env bash
# loads.sh PEERS: whether others can go on with a checkpoint: its model in transformers, tensor by tensor, with its tokenizer; its adapter in PEFT, merged
# there and here.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
"$python" -c 'import peft' 2>/dev/null || die 2 "$peers/venv has no peft; run $here/peers/setup.sh $peers"
need_programs partial-buffer rollout-gen grpo-step bench_update
model=$peers/model/hf
record_addition "$work/rollouts.stream" 4
bench_update claims "$work/rollouts.stream" 4 1 "$work/claims.stream"
train() {  # NAME OPTIONS…
  grpo-step -q --model "$model" --from "$work/$1" --publish "$work/$1-weights" --lr 1e-3 --in "$work/claims.stream" --out "$work/$1.stream" "${@:2}"
}
train whole
train adapter --lora 8
"$python" "$here/peers/load_checkpoint.py" "$model" "$work/whole/step-00000001" "$work/adapter/step-00000001"
