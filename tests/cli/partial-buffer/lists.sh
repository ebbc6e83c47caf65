#!/usr/bin/env bash
# ls, grep and export: columns, filters and order; show's history, also of what is forgotten; stat's bars.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
prompts 12 >prompts.jsonl
partial-buffer init -q -s b --model "$model" --group-size 4 --groups-per-step 2 --in-flight 16 --max-tokens 64 --retain-steps 0 --seed 1
partial-buffer add -q -s b --prompts prompts.jsonl
partial-buffer take -q -s b --worker w1 | APRIL_ROUNDS=3 APRIL_VERSION=2 generate | partial-buffer put -q -s b
partial-buffer take -q -s b --worker w2 >held

# Columns in the order that was asked for; the same names in JSON; help without a buffer.
expect "$(partial-buffer ls -q -s b --columns tokens,uid | head -n 1)" "TOKENS  UID" "titles"
expect "$(partial-buffer ls -q -s b --columns uid,worker --json --limit 1 | sed 's/"uid":"[0-9a-f]*"/U/')" '{U,"worker":"w2"}' "JSON of two columns"
partial-buffer ls --columns help | grep -q "^staleness  *versions between" || { echo "no help for columns"; exit 1; }
partial-buffer ls --groups --columns help | grep -q "^scored " || { echo "no help for columns of groups"; exit 1; }

# Every filter against the same question asked in Python.
partial-buffer ls -q -s b --json --columns uid,group_id,index,state,group_state,tokens,staleness,resumes,reward,age_s,worker,versions,prompt_id >all
chosen() {
  local python=$1 status
  shift
  partial-buffer ls -q -s b --json --columns uid "$@" | sort >got
  python3 -c "
import json, sys
for r in map(json.loads, open('all')):
    if $python: print('{\"uid\":\"' + r['uid'] + '\"}')" | sort >wanted
  cmp -s got wanted || { echo "ls $*: $(wc -l <got) rollouts, expected $(wc -l <wanted)"; exit 1; }
  [ -s wanted ] || { echo "$python chooses nothing: no test"; exit 1; }
}
chosen 'True'
chosen 'r["state"] == "leased"' --state leased
chosen 'r["state"] in ("scored", "failed")' --state scored,failed
chosen 'r["tokens"] >= 8' --where 'tokens>=8'
chosen '4 <= r["tokens"] < 12' --where 'length>=4' --where 'tokens<12'
chosen 'r["reward"] == 1' --where reward=1
chosen 'r["reward"] is None' --where reward=
chosen 'r["reward"] is not None' --where 'reward!='
chosen 'r["worker"] == "w2"' --where worker=w2
chosen 'r["worker"] != "w2"' --where worker!=w2
chosen '"a" in r["uid"][:16]' --where uid~a
chosen 'r["prompt_id"] == "q1"' --where prompt_id=q1
chosen 'r["age_s"] < 3600' --where 'age<1h'
chosen 'r["versions"] == "2"' --where versions=2
expect "$(partial-buffer ls -q -s b --json --where 'age>1h' | wc -l)" 0 "old rollouts"
# Order: largest first; those without a value last; the other way round; the first few.
tokens() { partial-buffer ls -q -s b --json --columns tokens "$@" | grep -o '[0-9]*' | tr '\n' ' '; }
expect "$(tokens --sort length)" "$(tokens | tr ' ' '\n' | sed '/^$/d' | sort -rn | tr '\n' ' ')" "order by length"
expect "$(tokens --sort tokens --reverse --limit 3)" "$(tokens | tr ' ' '\n' | sed '/^$/d' | sort -n | head -n 3 | tr '\n' ' ')" "shortest three"
expect "$(partial-buffer ls -q -s b --columns reward --sort reward | tail -n 1 | tr -d ' ')" "-" "last by reward"
expect "$(partial-buffer ls -q -s b --groups --columns group_id --json | wc -l)" \
  "$(partial-buffer ls -q -s b --columns group_id --json | sort -u | wc -l)" "groups"

# grep agrees with export's text, line by line.
partial-buffer export -q -s b >everything.jsonl
python3 - <<'PYTHON'
import json
seen = {json.loads(line)["uid"]: json.loads(line) for line in open("all")}
rows = [json.loads(line) for line in open("everything.jsonl")]
assert [r["uid"] for r in rows] == list(seen)
for r in rows:
    assert len(r["tokens"]) == len(r["logprobs"]) == seen[r["uid"]]["tokens"] and r["state"] == seen[r["uid"]]["state"], r
    assert "What is" in r["prompt"] and (r["text"] or not r["tokens"]), r
words = [r["text"] for r in rows if r["text"]]
open("letter", "w").write(next(c for c in words[0] if c.isalnum()))
PYTHON
letter=$(cat letter)
partial-buffer grep -q -s b "$letter" --json >found
python3 - "$letter" <<'PYTHON'
import json, sys
wanted = sum(sys.argv[1] in line for r in map(json.loads, open("everything.jsonl")) for line in r["text"].split("\n"))
found = [json.loads(line) for line in open("found")]
assert len(found) == wanted > 0 and all(sys.argv[1] in f["text"] and f["match"] == sys.argv[1] for f in found), (len(found), wanted)
PYTHON
expect "$(partial-buffer grep -q -s b "$letter" --count)" "$(wc -l <found)" "lines counted"
partial-buffer grep -q -s b "^.*WHAT is 1.*" --prompts --ignore-case | grep -q "^[0-9a-f]\{16\}:prompt:2:.*What is 1" || { echo "no prompt is found"; exit 1; }
! partial-buffer grep -q -s b "WHAT is" --prompts >none || { echo "found in another case"; exit 1; }
status=0
partial-buffer grep -s b "no such text anywhere" >none 2>log || status=$?
expect "$status $(cat none)" "1 " "exit and output when nothing matches"
! grep -q error log || { cat log; exit 1; }
expect "$(partial-buffer grep -q -s b . --state failed --count 2>/dev/null || true)" \
  "$(python3 -c '
import json
print(sum(line != "" for r in map(json.loads, open("everything.jsonl")) if r["state"] == "failed" for line in r["text"].split("\n")))')" "lines of failed rollouts"

# export: filters, a file, small output.
partial-buffer export -s b --state scored --no-tokens --out scored.jsonl 2>log
expect "$(wc -l <scored.jsonl)" "$(in_state scored)" "rollouts in the file"
grep -q "exported $(in_state scored) rollouts" log || { cat log; exit 1; }
! grep -q '"logprobs"' scored.jsonl && grep -q '"num_tokens"' scored.jsonl || { echo "--no-tokens has no effect"; exit 1; }
partial-buffer export -q -s b --no-text --model /nowhere --where tokens=0 2>/dev/null && { echo "--model was taken with --no-text"; exit 1; }
partial-buffer export -q -s b --no-text | python3 -c 'import json, sys; assert all("text" not in json.loads(line) for line in sys.stdin)'

# A rollout's whole life; then it is forgotten, and still told.
partial-buffer put -q -s b --in <(generate <held)
until partial-buffer claim -q -s b >claim 2>/dev/null; do partial-buffer take -q -s b --worker w1 | APRIL_VERSION=3 generate | partial-buffer put -q -s b; done
uid=$(partial-buffer ls -q -s b --json --where group_state=claimed --where state=scored --sort resumes --limit 1 | sed 's/.*"uid":"\([0-9a-f]*\)".*/\1/')
group=$(partial-buffer ls -q -s b --json --where uid=$uid | sed 's/.*"group_id":"\([0-9a-f]*\)".*/\1/')
staleness() { partial-buffer ls -q -s b --json --columns staleness --where uid=$uid; }
at_claim=$(staleness)
train <claim >steps
partial-buffer commit -q -s b --in steps
expect "$(staleness)" "$at_claim" "staleness of a trained rollout: that of its claim"
partial-buffer show -q -s b "$group" >shown
grep -q "^state      trained" shown && expect "$(grep -c '^member' shown)" 4 "members shown" && grep -q "claimed for step 0" shown || { cat shown; exit 1; }
partial-buffer show -q -s b "$uid" >kept
for round in 1 2; do
  until partial-buffer claim -q -s b >claim 2>/dev/null; do partial-buffer take -q -s b --worker w1 | generate | partial-buffer put -q -s b; done
  APRIL_CHECKPOINTS=checkpoints train <claim | partial-buffer commit -q -s b
done
expect "$(partial-buffer ls -q -s b --where uid=$uid --json | wc -l)" 0 "a forgotten rollout in the list"
partial-buffer show -q -s b "$uid" >forgotten
for file in kept forgotten; do
  for event in "opened: prompt number" "leased to w1 (lease" "put: scored" "claimed for step 0" "trained: step 0 made policy version 1"; do
    grep -q "$event" $file || { echo "the history lacks: $event"; cat $file; exit 1; }
  done
done
grep -q "^state      forgotten" forgotten && grep -q "consumed: checkpoint" forgotten || { cat forgotten; exit 1; }
expect "$(sed -n '/^--- response/,$p' forgotten)" "$(sed -n '/^--- response/,$p' kept)" "the forgotten response"
partial-buffer show -q -s b "$uid" --json | python3 -c '
import json, sys
history = json.load(sys.stdin)["history"]
assert len(history) > 4 and all(a["ns"] <= b["ns"] for a, b in zip(history, history[1:])), history'
partial-buffer stat -q -s b >stat
grep -q "^lengths .*sampled .*trained" stat && grep -q "#.*%.*#.*%" stat && grep -q "^waste " stat && grep -q "^age " stat || { cat stat; exit 1; }
partial-buffer audit -q -s b >/dev/null
