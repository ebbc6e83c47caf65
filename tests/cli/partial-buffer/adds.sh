#!/usr/bin/env bash
# What add takes in can always be taken out again, whatever else is added meanwhile; and it fits the model, in whatever kind of file that is.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 5

# Nested as deep as a record may be, and deeper.
nested() { python3 -c "n = $1; print('{\"id\":\"deep$1\",\"prompt\":\"x\",\"meta\":{\"a\":' + '[' * n + ']' * n + '}}')"; }
nested 20 >deep.jsonl
fails "deep.jsonl:1: .*nested" 3 partial-buffer add -s b --prompts deep.jsonl
nested 14 >edge.jsonl
partial-buffer add -q -s b --prompts edge.jsonl
nested 15 >over.jsonl
fails "over.jsonl:1: " 3 partial-buffer add -s b --prompts over.jsonl
nested 200000 >abyss.jsonl
fails "abyss.jsonl:1: .*nested" 3 partial-buffer add -s b --prompts abyss.jsonl
partial-buffer add -s b --prompts abyss.jsonl --skip-bad 2>log || true
grep -q "skipped: abyss.jsonl:1" log || { cat log; exit 1; }
python3 -c 'print("{\"prompt\":\"x\",\"meta\":{\"a\":[" + "0," * (1 << 20) + "0]}}")' >many.jsonl
fails "many.jsonl:1: " 3 partial-buffer add -s b --prompts many.jsonl
python3 -c 'print("{\"prompt\":\"x\",\"label\":\"" + "y" * (20 << 20) + "\"}")' >large.jsonl
fails "large.jsonl:1: " 3 partial-buffer add -s b --prompts large.jsonl
printf '{"id":"a","prompt":"x"}\n{"id":"a","prompt":"y"}\n' >twice.jsonl
fails 'twice.jsonl:2: prompt id "a" comes twice' 3 partial-buffer add -s b --prompts twice.jsonl
echo '{"prompt": x}' >broken.jsonl
fails "broken.jsonl:1: parse error at line 1, column 12" 3 partial-buffer add -s b --prompts broken.jsonl
partial-buffer take -q -s b --rollouts 1000 --worker w >taken
partial-buffer take -q -s b --rollouts 1000 --worker w >/dev/null

# Two additions of one id at a time, the first of which has journaled its prompt before the second begins: only one becomes whole.
mkfifo lines
partial-buffer add -q -s b --prompts lines 2>log.first & first=$!
exec 3>lines
size=$(stat -c %s b/journal/00000001.zst)
python3 -c '
import random
for i in range(6): print("{\"id\":\"late%d\",\"prompt\":\"x\",\"label\":\"%s\"}" % (i, random.randbytes(1 << 19).hex()))' >&3
for ((i = 0; i < 100; ++i)); do [ "$(stat -c %s b/journal/00000001.zst)" -eq "$size" ] || break; sleep 0.05; done
[ $i -lt 100 ] || { echo "the first addition did not journal its first prompts"; exit 1; }
echo '{"id":"late0","prompt":"earlier after all"}' >second.jsonl
partial-buffer add -q -s b --prompts second.jsonl
exec 3>&-
status=0
wait $first || status=$?
expect $status 3 "exit of the first addition"
grep -q 'prompt id "late0" is in the buffer already' log.first || { cat log.first; exit 1; }
partial-buffer take -q -s b --rollouts 1000 --worker w >taken
grep -q "deep14" taken && ! grep -q "late1" taken || { echo "not the prompts that were added"; exit 1; }

# Prompts without a label and keys that nobody reads: one line each, and the prompts are taken all the same.
cat >slips.jsonl <<'LINES'
{"id":"whole","prompt":"x","label":"1","meta":{"level":3}}
{"id":"slip","prompt":"x","lable":"2","source":"book"}
{"id":"empty","prompt":"x","label":"","lable":"2"}
{"id":"talk","messages":[{"role":"user","content":"x","name":"Ada"}],"label":0}
LINES
partial-buffer add -s b --prompts slips.jsonl 2>log
grep -q 'add: warning: slips.jsonl:2: unknown key "lable" is not kept; known are prompt, messages, label, id, and meta' log &&
  grep -q 'warning: unknown key "lable": 1 more like this' log && grep -q 'slips.jsonl:2: unknown key "source"' log &&
  grep -q 'add: warning: 2 of 4 prompts have no label, the first: slips.jsonl:2, prompt id "slip"; .*--pattern' log &&
  grep -q 'added 4 prompts' log && expect "$(grep -c warning log)" 4 "warnings" || { cat log; exit 1; }

# A message may have whatever its template looks at, but needs its text.
cat >tools.jsonl <<'LINES'
{"id":"tools","messages":[{"role":"user","content":"3+5?"},{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"add","arguments":{"a":3,"b":5}}}]},{"role":"tool","name":"add","content":"8"}],"label":"8"}
LINES
partial-buffer add -q -s b --prompts tools.jsonl
echo '{"messages":[{"role":"assistant","name":"x"}]}' >silent.jsonl
fails 'a message without "content" as text' 3 partial-buffer add -s b --prompts silent.jsonl

# What would have no effect is refused.
fails "in has no effect beside" 2 partial-buffer add -s b --prompts second.jsonl --in taken
fails "has no effect with -s" 2 partial-buffer add -s b --prompts second.jsonl --run other
fails "has no effect with -s" 2 partial-buffer add -s b --prompts second.jsonl --temperature 0.5
fails "has no effect with -s" 2 partial-buffer add -s b --prompts second.jsonl --out x
fails "skip-bad has no effect without --prompts" 2 partial-buffer add -s b --in taken --skip-bad
fails "plain has no effect without --prompts" 2 partial-buffer add -s b --in taken --plain
fails "model has no effect without --prompts" 2 partial-buffer add -s b --in taken --model "$model"
fails "epochs has no effect without -s" 2 partial-buffer add --purpose eval --prompts second.jsonl --model "$model" --epochs 2
fails "take-over has no effect without -s" 2 partial-buffer add --purpose eval --prompts second.jsonl --model "$model" --take-over

# The model's context is known from a directory and from a GGUF file.
python3 - "$model" <<'PYTHON'
import json, struct, sys
tokenizer = json.load(open(sys.argv[1] + "/tokenizer.json", encoding="utf-8"))
vocabulary = {**tokenizer["model"]["vocab"], **{t["content"]: t["id"] for t in tokenizer["added_tokens"]}}
special = {t["content"] for t in tokenizer["added_tokens"]}
tokens = sorted(vocabulary, key=vocabulary.get)
merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
text = lambda s: struct.pack("<Q", len(s.encode())) + s.encode()
one = lambda key, value: text(key) + struct.pack("<I", 8) + text(value)
texts = lambda key, values: text(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))
items = [one("general.architecture", "llama"), text("llama.context_length") + struct.pack("<II", 4, 256),
         one("tokenizer.ggml.model", "gpt2"), one("tokenizer.ggml.pre", "gpt-2"), texts("tokenizer.ggml.tokens", tokens),
         text("tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, len(tokens)) + b"".join(struct.pack("<i", 3 if t in special else 1) for t in tokens),
         texts("tokenizer.ggml.merges", merges)]
data = b"GGUF" + struct.pack("<IQQ", 3, 0, len(items)) + b"".join(items)
open("tiny.gguf", "wb").write(data + bytes(-len(data) % 32))
PYTHON
for each in "$model" tiny.gguf; do
  fails "context has 256 tokens" 2 partial-buffer init -s c --model "$each" --max-tokens 300
  grep -q "hint: at most 256 less the tokens of the longest prompt" stderr || { cat stderr; exit 1; }
  fails "exceed the model's context of 256" 2 partial-buffer init -s c --model "$each" --max-tokens 200 --max-prompt-tokens 100
done
