# What each view prints, and the summary.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-cat/common.bash"
stream=$golden/every-type.stream

expect "$(rollout-cat -q --count "$stream")" "control 1
group 1
metrics 1
progress 1
prompt 1
rollout 4
step 1
weights 1"
expect "$(rollout-cat -q --count --json <"$stream")" '{"control":1,"group":1,"metrics":1,"progress":1,"prompt":1,"rollout":4,"step":1,"weights":1}'
expect "$(rollout-cat -q --json --head 2 "$stream" | wc -l)" 3
expect "$(rollout-cat --check "$stream" 2>&1 >/dev/null | sed 's/;.*//')" "rollout-cat: read 11 records, 3.8 kB, ended ok"
expect "$(rollout-cat --check "$stream" 2>/dev/null)" ""
expect "$(rollout-cat --head 3 "$stream" 2>/dev/null | rollout-cat --count 2>/dev/null)" "control 1
group 1
prompt 1"

# A line a record, also into a pipe or a file.
rollout-cat -q --lines "$stream" >lines
expect "$(wc -l <lines)" 11
grep -q '^rollout a1b2c3d4e5f60718  addition-2-3 2/4  complete (stop)  5+5 tokens, versions 12:0-2 13:4-5, resumed 1x, reward 1, advantage -0.5$' lines
expect "$(rollout-cat -q --lines --head 2 "$stream" | wc -l)" 2
fails 2 'only one of --lines' rollout-cat --lines --json "$stream"
fails 2 'takes a stream, not text' rollout-cat --lines --out x "$stream"
partial-buffer init -q -s buffer --model "$APRIL_SOURCE/tests/data/tiny-model" --max-tokens 16
echo '{"prompt":"x"}' | partial-buffer add -q -s buffer --prompts - 2>/dev/null
partial-buffer take -q -s buffer --worker w | rollout-cat -q --lines >lines
grep -qE '^control take  \{"lease":"[0-9a-f]{16}","rollouts":[0-9]+,' lines || { cat lines; exit 1; }

# As text: every rollout with its prompt and response; a stream that another tokenizer made is refused.
tokenizer=$APRIL_SOURCE/tests/unit/text/data/smollm.tokenizer.json
random_stream in.stream 40
rollouts=$(rollout-cat -q --count in.stream | sed -n 's/^rollout //p')
rollout-cat -q --text --model "$tokenizer" in.stream >text
expect "$(grep -c '^  response: ' text)" "$rollouts"
fails 4 'the stream was made with 0123456789abcdef' rollout-cat --text --model "$tokenizer" "$stream"

# The terminal gets a line a record.
if command -v script >/dev/null; then
  expect "$(script -qec "rollout-cat -q $stream" /dev/null </dev/null | wc -l)" 11
  script -qec "rollout-cat -q $stream" /dev/null </dev/null >terminal
  grep -q 'rollout a1b2c3d4e5f60718  addition-2-3 2/4  complete (stop)  5+5 tokens, versions 12:0-2 13:4-5, resumed 1x, reward 1, advantage -0.5' terminal
  # Nothing that a model or a file wrote moves its cursor, and the file's bytes stay where stdout is a file.
  APRIL_STREAM_PROMPT=$'evil\e[2J' random_stream evil.stream 1
  script -qec "rollout-cat -q evil.stream" /dev/null </dev/null >terminal
  grep -q $'evil\xef\xbf\xbd\[2J' terminal
  ! grep -q $'\e' terminal
  # A long run shows how far it is.
  script -qec "rollout-cat --in slow --out slow.copy" /dev/null </dev/null >terminal &
  mkfifo slow 2>/dev/null || true
  random_stream slow 8 100
  wait $!
  grep -q 'rollout-cat: read [0-9]* records*, .*/s' terminal
fi
