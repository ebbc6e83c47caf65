# A stream of six records: a right answer, a wrong one, an unfinished rollout, one without a label, one scored already, a record of a type of the future.
tokenizer=$APRIL_SOURCE/tests/unit/text/data/smollm.tokenizer.json
write_rollouts() { APRIL_ROLLOUTS=$1 APRIL_ROLLOUTS_STATUS=${2:-ok} unit_reward '[.rollouts]' >/dev/null; }

# fails MESSAGE-PATTERN EXIT COMMAND...: the command must end with that exit code and say so on stderr.
fails() {
  local pattern=$1 expected=$2 status=0
  shift 2
  "$@" 2>stderr || status=$?
  [ $status -eq "$expected" ] || { echo "exit $status instead of $expected: $*"; cat stderr; exit 1; }
  grep -q -- "$pattern" stderr || { echo "no '$pattern' on stderr of $*:"; cat stderr; exit 1; }
}
score() { reward-score --model "$tokenizer" "$@"; }
# rewards STREAM: value, status and scorer of each rollout's reward, a line each.
rewards() {
  rollout-cat --json --in "$1" 2>/dev/null | python3 -c '
import json, sys
for line in sys.stdin:
    record = json.loads(line)
    reward = record.get("reward")
    if record["type"] == "rollout":
        print(record["prompt_id"], reward and ("%g" % reward["value"] if reward["status"] == "ok" else None), reward and reward["status"], reward and reward["scorer"])'
}
expect() { [ "$1" = "$2" ] || { printf '%s is\n%s\nexpected\n%s\n' "$3" "$1" "$2"; exit 1; }; }
