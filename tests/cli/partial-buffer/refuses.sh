#!/usr/bin/env bash
# Bad input: one clear line, the right exit code, nothing lost.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
fails "hint: make one with: partial-buffer init -s nowhere" 2 partial-buffer stat -s nowhere
for command in add take put claim commit ls stat "show 12" "grep x" export audit verify repair "abandon 12" "serve --bind zmq+ipc://hub"; do
  fails "which buffer? -s DIR" 2 partial-buffer $command </dev/null
done
fails "model is missing" 2 partial-buffer init -s b
fails "temperature 0 is for evaluation" 2 partial-buffer init -s b --model "$model" --temperature 0
fails "unknown command" 2 partial-buffer dance
fails "did you mean stat" 2 partial-buffer sta
fails "^partial-buffer take: error: unknown option --wroker" 2 partial-buffer take --wroker w
make 20
mkdir -p run/metrics && cp -r b run/buffer
fails "hint: did you mean -s run/buffer" 2 partial-buffer stat -s run
size() { cat b/journal/* | wc -c; }
before=$(size)
fails "cannot write into nowhere" 1 partial-buffer take -s b -o nowhere/taken
fails "cannot write into nowhere" 1 partial-buffer claim -s b -o nowhere/claim
fails "it is a directory" 2 partial-buffer export -s b -o run
expect "$(size)" "$before" "bytes of the journal after commands that could not write"
[ ! -e run.tmp ] || { echo "export left a file"; exit 1; }
fails "is not empty" 2 partial-buffer init -s b --model "$model" --max-tokens 16
fails "follow needs a hub" 2 partial-buffer claim -s b --follow
fails "max-wait-ms belongs to --follow" 2 partial-buffer claim -s b --max-wait-ms 500
fails "steps belongs to --follow" 2 partial-buffer claim -s b --steps 5
fails "there is no state \"queued\"" 2 partial-buffer ls -s b --groups --state queued
fails "there is no state \"read\"" 2 partial-buffer ls -s b --state read
fails "there is no column \"length_s\"" 2 partial-buffer ls -s b --columns uid,length_s
fails "hint: one of uid, group_id" 2 partial-buffer ls -s b --sort nothing
fails "state is never \"scord\"" 2 partial-buffer ls -s b --where state=scord
grep -q "hint: one of queued, leased, partial, complete, scored, failed" stderr || { cat stderr; exit 1; }
fails "state is never \"scored\"" 2 partial-buffer ls -s b --groups --where state!=scored
fails "finish is never" 2 partial-buffer ls -s b --where finish=end
fails "no comparison" 2 partial-buffer ls -s b --where tokens
fails "\"many\" is no number" 2 partial-buffer ls -s b --where "tokens>many"
fails "worker is text" 2 partial-buffer export -s b --where "worker>a"
fails "tokens is a number" 2 partial-buffer grep -s b x --where "tokens~1"
fails "missing closing parenthesis" 2 partial-buffer grep -s b "("
fails "context has no effect with --count" 2 partial-buffer grep -s b x --count --context 1
fails "no rollout or group of this journal begins with 0xyz" 2 partial-buffer show -s b 0xyz
fails "model has no effect with --json" 2 partial-buffer show -s b 00 --json --model x
fails "there is no column \"toknes\"" 2 partial-buffer ls -s b --where "toknes > 1"
partial-buffer ls -q -s b --state 'queued, leased' --where 'tokens >= 0' --columns 'uid, tokens' --sort ' tokens' >/dev/null
fails "exclude each other" 2 partial-buffer take -s b --groups 1 --rollouts 1

# Prompts: file and line are named, all of the file is refused; --skip-bad counts instead.
cat >bad.jsonl <<'LINES'
{"id":"ok1","prompt":"fine"}
{"id":"cut","prompt":"x"
{"id":"both","prompt":"x","messages":[]}
{"id":"ok1","prompt":"twice"}
{"id":"role","messages":[{"role":"user"}]}
{"id":"ok2","messages":[{"role":"user","content":"hello"}],"label":7,"meta":{"level":3}}
LINES
printf '{"id":"bytes","prompt":"\xff"}\n' >>bad.jsonl
before=$(number queued)
fails "bad.jsonl:2" 3 partial-buffer add -s b --prompts bad.jsonl
expect "$(number queued)" "$before" "groups in the queue"
partial-buffer add -s b --prompts bad.jsonl --skip-bad 2>log
grep -q "added 2 prompts, 2 groups of 4 rollouts; skipped 5" log || { cat log; exit 1; }
echo "{\"prompt\":\"$(printf 'long %.0s' {1..200})\"}" >long.jsonl
fails "long.jsonl:1: the prompt has [0-9]* tokens, more than the 50" 3 partial-buffer add -s b --prompts long.jsonl --max-prompt-tokens 50
fails "is in the buffer already" 3 partial-buffer add -s b --prompts prompts.jsonl
fails "cannot open" 1 partial-buffer add -s b --prompts missing.jsonl
: >empty.jsonl
fails "no prompt that can be used" 3 partial-buffer add -s b --prompts empty.jsonl
for id in '""' null '[1]' true; do
  echo "{\"prompt\":\"x\",\"id\":$id}" >id.jsonl
  fails "id.jsonl:1: \"id\" is .*, which is no id" 3 partial-buffer add -s b --prompts id.jsonl
  grep -q "hint: an id is a text or a number" stderr || { cat stderr; exit 1; }
done
cp -r "$model" other
python3 -c '
import json
tokenizer = json.load(open("other/tokenizer.json", encoding="utf-8"))
tokenizer["model"]["merges"].pop()
json.dump(tokenizer, open("other/tokenizer.json", "w", encoding="utf-8"))'
fails "another tokenizer" 4 partial-buffer add -s b --prompts prompts.jsonl --model other
fails "other has the tokenizer .*, the run was made with" 4 partial-buffer grep -s b x --model other

# Evaluation streams are written without a buffer, and refused by put.
partial-buffer add -q --purpose eval --prompts prompts.jsonl --model "$model" --group-size 2 --max-tokens 16 --out eval.bin
fails "purpose \"eval\"" 2 partial-buffer put -s b --in eval.bin

# A cut stream: everything that arrived is kept, and it is an error.
partial-buffer take -q -s b --worker w | generate >done
head -c $(($(stat -c %s done) * 2 / 3)) done >cut
fails "no end record\|ends within" 3 partial-buffer put -s b --in cut
accepted=$(sed -nE 's/.*read ([0-9]+), accepted ([0-9]+).*/\2/p' stderr)
[ "$accepted" -gt 0 ] || { echo "nothing of the cut stream was kept"; cat stderr; exit 1; }
[ "$(in_state leased)" -gt 0 ] || { echo "a cut stream closed its lease set"; exit 1; }
partial-buffer put -s b --in done 2>log
grep -q "repeated $accepted," log || { cat log; exit 1; }
expect "$(in_state leased)" 0 "leased rollouts"
# Late: the same worker took the rollouts back meanwhile.
partial-buffer take -q -s b --worker w | generate >late
partial-buffer take -q -s b --worker w >/dev/null
partial-buffer put -s b --in late 2>log
grep -Eq "accepted 0, repeated [0-9]+, superseded [1-9]" log || { cat log; exit 1; }

# A disk that takes no more, seen as a limit on the file's size.
size=$(($(stat -c %s b/journal/00000001.zst) / 1024 + 1))
partial-buffer take -q -s b --worker w | generate >more
(
  trap '' XFSZ
  ulimit -f $size
  fails "cannot write b/journal/00000001.zst" 1 partial-buffer put -s b --in more
)
grep -q "hint: nothing that was acknowledged is lost" stderr || { cat stderr; exit 1; }
partial-buffer put -q -s b --in more
audit

# Damage is named, a torn tail is not damage.
cp -r b torn
truncate -s -5 torn/journal/00000001.zst
partial-buffer stat -s torn 2>/dev/null | grep >/dev/null "unfinished transaction" || { echo "a torn tail is not told"; exit 1; }
cp -r b damaged
printf '\xff' | dd of=damaged/journal/00000001.zst bs=1 seek=300 conv=notrunc status=none
fails "damaged/journal/00000001.zst at offset [0-9]*: damaged" 3 partial-buffer stat -s damaged
cp -r b newer
sed -i 's/"min_reader":1/"min_reader":9/' newer/manifest.json
fails "needs a reader of version 9" 4 partial-buffer stat -s newer
