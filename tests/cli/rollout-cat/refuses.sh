# What is wrong with a stream or a command line gets its exit code and a line that says what to do.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/rollout-cat/common.bash"
random_stream whole.stream 50
rollout-cat -q whole.stream >raw.stream
size=$(stat -c %s raw.stream)

fails 2 'only one of' rollout-cat --json --check whole.stream
fails 2 'needs --model' rollout-cat --text whole.stream
fails 2 'named twice' rollout-cat --in whole.stream whole.stream
fails 2 'of no known kind' rollout-cat --in http://x
fails 2 'is a directory' rollout-cat --in .
partial-buffer init -q -s buffer --model "$APRIL_SOURCE/tests/data/tiny-model" --max-tokens 16
fails 2 "00000001.zst is a segment of a buffer's journal" rollout-cat buffer/journal/00000001.zst
fails 2 "stdin is a segment of a buffer's journal" rollout-cat <buffer/journal/00000001.zst
fails 2 'takes a stream, not text' rollout-cat --json --out x whole.stream
fails 1 'cannot open.*nowhere' rollout-cat nowhere
fails 1 'directory of the socket' rollout-cat --in zmq+ipc://nowhere/socket
fails 2 'sources needs a zmq endpoint' rollout-cat --sources 2 whole.stream

for cut in 1 30 100 $((size / 2)) $((size - 1)); do
  head -c "$cut" raw.stream >cut.stream
  fails 3 'ends (within|after)' rollout-cat --check cut.stream
  head -c "$cut" raw.stream >pipe.cut
  fails 3 'stdin ends (within|after)' bash -c 'cat pipe.cut | rollout-cat --check'
done
size=$(stat -c %s whole.stream)
head -c $((size - 50)) whole.stream >cut.stream
fails 3 'ends after record|cut off' rollout-cat --check cut.stream
head -c $((size / 2)) raw.stream >cut.stream
rollout-cat -q --allow-truncated --count cut.stream >counts 2>stderr
grep -q 'no end record' stderr
[ "$(rollout-cat -q --allow-truncated --json cut.stream 2>/dev/null | wc -l)" -gt 3 ]

cat raw.stream raw.stream >twice.stream
fails 3 'follow the end record' rollout-cat --check twice.stream
: >none.stream
fails 3 'is empty' rollout-cat --check none.stream
echo '{"type": "rollout"}' >text.stream
fails 3 'no april stream' rollout-cat --check text.stream
printf '\x83\xa4type\xa6header\xa6format\xacapril-stream\xa7version\x92\x02\x00' >later.stream
fails 4 'version 2.0, this build reads version 1' rollout-cat --check later.stream

fails 1 'No space left' rollout-cat --out /dev/full whole.stream
fails 1 'No space left' bash -c 'rollout-cat whole.stream >/dev/full'
fails 1 'No space left' bash -c 'rollout-cat --json --head 1 whole.stream >/dev/full'
fails 1 'No space left' bash -c 'rollout-cat --count whole.stream >/dev/full'
fails 1 'No space left' bash -c 'rollout-cat --canonical whole.stream >/dev/full'
fails 1 'cannot write into nowhere' rollout-cat --out nowhere/out.stream whole.stream
[ ! -e nowhere ]

# The program that wrote the stream failed: all of it is shown or copied, with the same end.
APRIL_STREAM_STATUS=error random_stream failed.stream 20
fails 1 'the program that wrote the input failed' rollout-cat --out copied.stream failed.stream
grep -q 'read 20 records.*ended error' stderr
cmp <(rollout-cat failed.stream 2>/dev/null) <(rollout-cat copied.stream 2>/dev/null)
fails 1 'the program that wrote the input failed' rollout-cat --check copied.stream

# A reader that has enough: the writer says so and ends with 6, without a crash.
random_stream long.stream 2000
status=0
rollout-cat long.stream 2>stderr | head -c 100 >/dev/null || status=${PIPESTATUS[0]}
[ "$status" -eq 6 ] && grep -q 'closed by its reader' stderr
status=0
rollout-cat --json long.stream 2>stderr | head -n 1 >/dev/null || status=${PIPESTATUS[0]}
[ "$status" -eq 6 ]
