# --overlong adds DAPO's soft punishment to the reward of every scorer, shows it as a part, and touches nothing that was not judged.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/reward-score/common.bash"
APRIL_ROLLOUTS=lengths.stream unit_reward '[.lengths]' >/dev/null
# parts STREAM: value, status and parts of each rollout's reward, a line each.
parts() {
  rollout-cat --json --in "$1" 2>/dev/null | python3 -c '
import json, sys
for record in map(json.loads, sys.stdin):
    reward = record.get("reward") or {}
    if record["type"] == "rollout":
        print(record["prompt_id"], reward.get("value"), reward.get("status"), *(f"{name}={part:g}" for name, part in sorted(reward.get("parts", {}).items())))'
}

# p0 to p6 are right, with 100, 12288, 13312, 14336, 16384, 16385 and 20000 tokens; p7 is wrong, with 14336; p8 is right, and sampled 12288 tokens, was given
# 2048 by a tool, and sampled 2048 more; p9 has no label; p10 failed.
fails 'read 11, scored 9 (mean reward 0.3611), passed 1, errors 1;' 0 \
  score --overlong 16384:4096 --max-errors 1 --in lengths.stream --out out.stream
expect "$(parts out.stream)" "p0 1.0 ok gsm8k=1 overlong=0
p1 1.0 ok gsm8k=1 overlong=0
p2 0.75 ok gsm8k=1 overlong=-0.25
p3 0.5 ok gsm8k=1 overlong=-0.5
p4 0.0 ok gsm8k=1 overlong=-1
p5 0.0 ok gsm8k=1 overlong=-1
p6 0.0 ok gsm8k=1 overlong=-1
p7 -0.5 ok gsm8k=0 overlong=-0.5
p8 0.5 ok gsm8k=1 overlong=-0.5
p9 None error
p10 None None" "what --overlong made"

# With another scorer, and twice: each scoring begins anew, and a scored rollout is left alone.
for again in '' --rescore; do
  score -q --overlong 16384:4096 --max-errors 1 $again --in out.stream --out again.stream 2>/dev/null
  expect "$(parts again.stream)" "$(parts out.stream)" "a second scoring ($again)"
done
score -q --overlong 16384:4096 --scorer regex --pattern '^6' --in lengths.stream --out regex.stream
expect "$(parts regex.stream | sed -n '4p;8p')" "p3 -0.5 ok overlong=-0.5 regex=0
p7 0.5 ok overlong=-0.5 regex=1" "what --overlong made with a pattern"

# Off is off: no parts, and the same records.
score -q --max-errors 1 --in lengths.stream --out plain.stream 2>/dev/null
score -q --overlong '' --max-errors 1 --in lengths.stream --out off.stream 2>/dev/null
expect "$(parts plain.stream | sed -n 4p)" "p3 1.0 ok" "without --overlong"
expect "$(rollout-cat --canonical --in off.stream 2>/dev/null | cksum)" "$(rollout-cat --canonical --in plain.stream 2>/dev/null | cksum)" "an empty --overlong"

for wrong in 16384 16384:0 4096:16384 16384:4096:1 16k:4k -1:-1; do
  fails 'hint: for example --overlong 16384:4096' 2 score "--overlong=$wrong" --in lengths.stream --out refused.stream
done
fails 'BUFFER is out of range, expected from 1 to MAX' 2 score --overlong 4096:16384 --in lengths.stream --out refused.stream
[ ! -e refused.stream ] || { echo "a refused run left a stream"; exit 1; }
reward-score --help | grep >/dev/null -- "--overlong MAX:BUFFER" || { echo "--help does not name --overlong"; exit 1; }
