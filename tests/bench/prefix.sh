#!/usr/bin/env bash
# prefix.sh PEERS [ROUNDS]: what it brings to compute a group's prompt once, forward and backward: the update's seconds with prompts 4 times as long as
# the responses and groups of 8, against a prompt for every rollout; both compute logits on the responses' rows only. Then the error of both gradients
# against f64, tensor by tensor, on 2 groups of recorded rollouts.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
rounds=${2:-3}
need_programs partial-buffer rollout-gen bench_update
model=$peers/model/hf
bench_update prefix "$model" 2 512 128 "$rounds" >"$work/lines"
value_of once_s "$work/lines" >"$work/ours"
value_of each_s "$work/lines" >"$work/theirs"
figure prefix_once s lower "$work/ours" "$work/theirs" prompt_tokens 512 response_tokens 128 group 8 groups 2 peer "itself, a prompt for every rollout"
record_addition "$work/rollouts.stream" 2
for prompt in once each; do bench_update gradients "$model" "$work/rollouts.stream" 2 "$work/$prompt.safetensors" "$prompt"; done
"$python" "$here/peers/gradient_error.py" "$peers" "$work/rollouts.stream" 2 "$work/once.safetensors" "$work/each.safetensors"
