# Prompts for the tiny model, and how to look at what came out. Sourced by the scripts beside it.
model=$APRIL_SOURCE/tests/data/tiny-model

# prompts COUNT: that many lines
prompts() { for ((i = 0; i < $1; ++i)); do echo "{\"prompt\":\"What is $((i % 8 + 2)) + $((i / 8 + 2))?\",\"label\":\"x\"}"; done; }
# work COUNT GROUP_SIZE MAX_TOKENS [OPTIONS...]: a stream of queued rollouts
work() { prompts "$1" | partial-buffer add -q --purpose eval --prompts - --model "$model" --group-size "$2" --max-tokens "$3" --seed 5 --out - "${@:4}"; }

# fails MESSAGE-PATTERN EXIT COMMAND...: the command must end with that exit code and say so on stderr.
fails() {
  local pattern=$1 expected=$2 status=0
  shift 2
  "$@" >/dev/null 2>stderr || status=$?
  [ $status -eq "$expected" ] || { echo "exit $status instead of $expected: $*"; cat stderr; exit 1; }
  grep -q -- "$pattern" stderr || { echo "no '$pattern' on stderr of $*:"; cat stderr; exit 1; }
}
expect() { [ "$1" = "$2" ] || { echo "$3: '$1', expected '$2'"; exit 1; }; }

# content FILE...: one line a finished rollout, what must not depend on how it was made
content() {
  for file in "$@"; do rollout-cat -q --json --in "$file"; done | python3 -c '
import json, sys
lines = []
for line in sys.stdin:
    record = json.loads(line)
    if record["type"] == "rollout" and record["status"] == "complete":
        lines.append(json.dumps([record[k] for k in ("uid", "finish", "tokens", "logprobs")]))
print("\n".join(sorted(lines)))'
}
# has FILE PATTERN: whether some record says so
has() { rollout-cat -q --json --in "$1" >has.json && grep -q -- "$2" has.json; }
# count FILE STATUS
count() { rollout-cat -q --json --in "$1" | grep '"type":"rollout"' | grep -c "\"status\":\"$2\"" || true; }
