# Complete rollouts get rewards, everything else passes as it is, and the summary adds up.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/reward-score/common.bash"
write_rollouts in.stream

fails 'read 6, scored 2 (mean reward 0.5), passed 3, errors 1;' 5 score --in in.stream --out out.stream --metrics metrics.jsonl
grep -q 'prompt p3: the prompt has no label' stderr
expect "$(rewards out.stream)" "p0 1 ok gsm8k
p1 0 ok gsm8k
p2 None None None
p3 None error gsm8k
p4 0.25 ok earlier" "what gsm8k made"
expect "$(rollout-cat --count --in out.stream 2>/dev/null)" "$(rollout-cat --count --in in.stream 2>/dev/null)" "the number of records"
rollout-cat --json --in out.stream 2>/dev/null | grep >/dev/null '"x_note"'
rollout-cat --json --in out.stream 2>/dev/null | grep >/dev/null '"later"'
python3 - <<'PY'
import json
lines = [json.loads(line) for line in open("metrics.jsonl")]
assert len(lines) == 1 and lines[0]["scored"] == 2 and lines[0]["errors"] == 1 and lines[0]["mean_reward"] == 0.5 and lines[0]["truncated_share"] == 0.5, lines
PY

fails 'scored 3 (mean reward 0.6667), passed 2, errors 1;' 0 score --rescore --max-errors 1 --in in.stream --out again.stream
score -q --max-errors 1 --scorer math <in.stream 2>/dev/null >math.stream
expect "$(rewards math.stream | sed -n 1,2p)" "p0 0 ok math
p1 1 ok math" "what math made"
score -q --scorer regex --pattern '^\d' <in.stream 2>/dev/null | cat >regex.stream
expect "$(rewards regex.stream | sed -n 1,2p)" "p0 1 ok regex
p1 0 ok regex" "what a pattern without a capture made"

# Scoring what is scored already changes nothing but the provenance.
fails 'scored 0, passed 6, errors 0;' 0 score --in out.stream --out twice.stream
expect "$(rollout-cat --canonical --in twice.stream 2>/dev/null | cksum)" "$(rollout-cat --canonical --in out.stream 2>/dev/null | cksum)" "a second pass"

# A file may have any name; what streams say of it is UTF-8 all the same.
cp in.stream $'caf\xe9.stream'
score -q --max-errors 1 --in $'caf\xe9.stream' --out $'th\xe9.stream' 2>/dev/null
rollout-cat --json --head 0 --in $'th\xe9.stream' 2>/dev/null | iconv -f UTF-8 -t UTF-8 >header.json
grep >/dev/null $'caf\xef\xbf\xbd.stream' header.json
