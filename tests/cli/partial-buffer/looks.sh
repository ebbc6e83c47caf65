#!/usr/bin/env bash
# ls, show, stat and help: what they print, and that stdout has nothing else.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
make 6
partial-buffer take -q -s b --worker w | APRIL_ROUNDS=3 APRIL_VERSION=2 generate | partial-buffer put -q -s b
partial-buffer take -q -s b --worker w | APRIL_ROUNDS=2 APRIL_VERSION=3 generate | partial-buffer put -q -s b
partial-buffer ls -q -s b >list
expect "$(tail -n +2 list | wc -l)" "$(partial-buffer ls -q -s b --json | wc -l)" "rollouts listed"
partial-buffer ls -q -s b --groups >groups
grep -q "PROMPT NO" groups && grep -q "open\|ready" groups || { echo "no group is listed"; cat groups; exit 1; }
uid=$(partial-buffer ls -q -s b --json | python3 -c '
import json, sys
print(next(r["uid"] for r in map(json.loads, sys.stdin) if r["oldest_version"] == 2 and r["newest_version"] == 3))')
partial-buffer show -q -s b "${uid:0:8}" --color always >shown
grep -q "^uid        $uid" shown && grep -q "^version    2 made tokens 0 to" shown && grep -q "^version    3 made tokens" shown || { cat shown; exit 1; }
[ "$(grep -c $'\x1b\[3[0-9]m' shown)" -gt 0 ] || { echo "no colour"; exit 1; }
! partial-buffer show -q -s b "$uid" | grep >/dev/null $'\x1b\[3' || { echo "colour without a terminal"; exit 1; }
partial-buffer show -q -s b "$uid" --json | python3 -c 'import json, sys; json.load(sys.stdin)'
grep -q "^[0-9-]* [0-9:]*[.][0-9]*Z  leased to w" shown || { echo "times without their zone"; cat shown; exit 1; }
fails "no rollout or group of this journal begins with" 2 partial-buffer show -s b zzzz
partial-buffer stat -q -s b --json | python3 -c '
import json, sys
stat = json.load(sys.stdin)
assert sum(v for k, v in stat["rollouts"].items() if k != "ungraded") == 4 * (stat["groups"]["open"] + stat["groups"]["ready"]), stat
assert stat["sampled"]["rollouts"] == sum(c["rollouts"] for c in stat["sampled"]["classes"]), stat'
partial-buffer stat -q -s b >stat
grep -q "^staleness" stat || { echo "stat lacks the staleness"; cat stat; exit 1; }
grep -q "^settings   --group-size 4 --groups-per-step 2 --in-flight 16 --max-tokens 64 .*--retain-steps 1000" stat &&
  grep -q "^ *--admission first-finished --max-staleness -1 --max-resumes -1 --filter none" stat && grep -q "model $model" stat &&
  grep -q "^steps      0 steps committed, 0 of them in a checkpoint; the next claim is step 0;" stat || { cat stat; exit 1; }
expect "$(partial-buffer stat -q -s b --json | python3 -c 'import json, sys; c = json.load(sys.stdin)["config"]; print(c["group_size"], c["admission"], len(c["tokenizer"]))')" \
  "4 first-finished 16" "settings in JSON"
resumed=$(partial-buffer ls -q -s b --json | grep -c '"resumes":1') again=$(number finished_resumes)
[ "$again" -gt 0 ] && grep -q "^resumed    1 $resumed  (times taken up again → rollouts not trained yet.* $again times in all finished rollouts" stat || { cat stat; exit 1; }
for command in init add take put claim commit abandon serve compact ls show stat grep export audit verify repair; do
  partial-buffer $command --help >help
  grep -q -- "--help" help || { echo "$command has no help"; exit 1; }
  partial-buffer help $command | cmp -s - help || { echo "help $command differs from $command --help"; exit 1; }
done

# Whatever prompts and models write cannot move the terminal.
printf '{"id":"bad\\u001b[2Jid","prompt":"x","label":"bad\\u001b]0;label\\u0007"}\n' >bad.jsonl
partial-buffer add -q -s b --prompts bad.jsonl
partial-buffer take -q -s b --rollouts 1000 --worker $'w\e[2J' >/dev/null
uid=$(partial-buffer ls -q -s b --json | tail -n 1 | sed 's/.*"uid":"\([0-9a-f]*\)".*/\1/')
for look in "show $uid" ls stat; do
  partial-buffer $look -q -s b >shown
  ! grep -q $'[\e\a]' shown || { echo "a control character in $look:"; cat -v shown; exit 1; }
done
fails "in the buffer already" 3 partial-buffer add -s b --prompts bad.jsonl
! grep -q $'[\e\a]' stderr || { echo "a control character in a message:"; cat -v stderr; exit 1; }
partial-buffer show -q -s b "$uid" | grep >/dev/null "^label      bad.*label" || { echo "not the prompt that was meant"; exit 1; }

# One line of metrics with the summary's counts; progress on a terminal.
partial-buffer take -q -s b --worker $'w\e[2J' --metrics take.jsonl | generate | partial-buffer put -s b --metrics put.jsonl 2>log.put
python3 - "$(cat log.put)" <<'PYTHON'
import json, re, sys
counts = json.loads(open("put.jsonl").read())
said = {name: int(number) for name, number in re.findall(r"(\w+) (\d+)[,;]", sys.argv[1])}
assert said and all(counts[name] == number for name, number in said.items()), (counts, said)
json.loads(open("take.jsonl").read())["rollouts"]
PYTHON
mkfifo lines
(for ((i = 0; i < 4; ++i)); do echo "{\"id\":\"slow$i\",\"prompt\":\"x\"}"; sleep 0.3; done >lines) &
python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' partial-buffer add -s b --prompts lines >terminal </dev/null
grep -q "[123] prompts, skipped 0" terminal || { echo "no progress on a terminal:"; cat -v terminal; exit 1; }
