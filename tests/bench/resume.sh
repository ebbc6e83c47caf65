#!/usr/bin/env bash
# resume.sh PEERS [TOKENS [ROUNDS]]: how long a rollout that was interrupted after so many tokens (default 1000) waits for its next one, which needs the keys
# and values of all before it again. `theirs` is what reading a prompt of that length takes: the least that is possible.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
tokens=${2:-1000} rounds=${3:-3}
need_programs partial-buffer rollout-gen
model=$peers/model/hf
"$python" "$here/peers/make_prompt.py" "$model" 64 1 >"$work/prompts-short.jsonl"
"$python" "$here/peers/make_prompt.py" "$model" $((64 + tokens)) 1 >"$work/prompts-long.jsonl"
one_token() { # seconds of the step that reads everything and makes one token
  generate_metrics --in-flight 1 --prefill-rows $((64 + tokens)) --round-tokens 1
  value_of prefill_s "$work/last.json"
}

: >"$work/ours" >"$work/theirs"
for round in $(seq "$rounds"); do
  # Another seed where the response ended before.
  for ((seed = round; ; seed += rounds)); do
    queue_prompts "$work/prompts-short.jsonl" 1 $((2 * tokens)) "$seed"
    generate_metrics --in-flight 1 --round-tokens "$tokens"
    [ "$(value_of tokens "$work/last.json")" = "$tokens" ] && [ "$(value_of finished "$work/last.json")" = 0 ] && break
  done
  mv "$work/done.stream" "$work/queued.stream"
  one_token >>"$work/ours"
  queue_prompts "$work/prompts-long.jsonl" 1 2 1
  one_token >>"$work/theirs"
done
figure resume s lower "$work/ours" "$work/theirs" tokens "$tokens" peer "a prompt of that length"
