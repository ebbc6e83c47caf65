#!/usr/bin/env bash
# tokens.sh PEERS [COUNT]: token ids of COUNT strings (default 10,000: code, many scripts, emoji, white space, special tokens) against `tokenizers`, and of
# rendered chats against transformers' apply_chat_template; each through `partial-buffer add`, as a user's prompts go.
. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
need_peers "${1:-}"
count=${2:-10000}
need_programs partial-buffer
add() { partial-buffer add -q --model "$peers/model/smollm2.gguf" --purpose eval --group-size 1 --max-prompt-tokens 1000000 --no-compress "$@"; }
PYTHONPATH=$root/tests/parity "$python" "$here/peers/compare_tokens.py" write "$peers" "$count" "$work"
add --plain --prompts "$work/strings.jsonl" --out "$work/strings.stream"
add --prompts "$work/chats.jsonl" --out "$work/chats.stream"
PYTHONPATH=$root/tests/parity "$python" "$here/peers/compare_tokens.py" compare "$peers" "$count" "$work"
printf '{"id":"bad","prompt":"caf\xe9","label":""}\n' >"$work/bad.jsonl"
refused=false
add --plain --prompts "$work/bad.jsonl" --out "$work/bad.stream" 2>/dev/null || refused=true
printf '{"figure": "invalid_utf8_refused", "refused": %s}\n' $refused
