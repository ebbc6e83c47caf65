#!/usr/bin/env bash
# The worker of formats/examples feeds a run while its connection loses messages, it and its hub are killed, and groups that it works on are dropped:
# what the journal and the claims hold is what it made, once.
set -euo pipefail
. "$APRIL_SOURCE/tests/cli/partial-buffer/common.bash"
python=/usr/bin/python3
$python -c 'import msgpack, zmq' 2>/dev/null || { echo "$python has no msgpack or no zmq: install python3-msgpack and python3-zmq"; exit 1; }
hub=zmq+ipc://hub
serve() { partial-buffer serve -q -s b --bind $hub --steps 6 --term-ms 5000 2>>log.serve & server=$!; }
programs=()
trap 'kill -9 $server "${programs[@]}" 2>/dev/null || true' EXIT

# Between worker and hub: every ninth request and every seventh answer is lost.
cat >losing.py <<'PYTHON'
import zmq
front, back = zmq.Context.instance().socket(zmq.ROUTER), zmq.Context.instance().socket(zmq.DEALER)
front.bind("ipc://losing")
back.connect("ipc://hub")
poller = zmq.Poller()
poller.register(front, zmq.POLLIN)
poller.register(back, zmq.POLLIN)
worker, requests, answers = None, 0, 0
while True:
    for socket, _ in poller.poll():
        if socket is front:
            worker, request = front.recv_multipart()
            requests += 1
            if requests % 9 != 0:
                back.send(request)
        else:
            answer = back.recv()
            answers += 1
            if answers % 7 != 0:
                front.send_multipart([worker, answer])
PYTHON

make 60
serve
$python losing.py 2>log.losing & programs+=($!)
work() { $python "$APRIL_SOURCE/formats/examples/worker.py" zmq+ipc://losing python 40 2>log.worker & worker=$! programs+=($!); }
work
(partial-buffer claim -s $hub --follow --steps 6 --checkpoints checkpoints | tee claims | APRIL_DELAY_US=50000 train | partial-buffer commit -s $hub) 2>log.steps & steps=$! programs+=($!)
committed() {
  for ((i = 0; i < 1000; ++i)); do
    if [ "$(number first_uncommitted_step)" -ge "$1" ]; then return; fi
    sleep 0.01
  done
  echo "step $1 was not committed"
  tail log.*
  exit 1
}

committed 1
{ kill -9 $worker && wait $worker; } 2>/dev/null || true
work
committed 2
{ kill -9 $server && wait $server; } 2>/dev/null || true
serve
committed 3
for ((i = 0; i < 100; ++i)); do
  kill -STOP $worker
  sleep 0.05  # for what it sent
  mapfile -t leased < <(partial-buffer ls -q -s b --state leased --json | sed -nE 's/.*"group_id":"([0-9a-f]*)".*/\1/p' | sort -u)
  [ ${#leased[@]} -eq 0 ] || break
  kill -CONT $worker
  sleep 0.02
done
partial-buffer drop -q -s $hub --reason test "${leased[@]}"
kill -CONT $worker

wait $worker || { echo "the worker ended with $?"; cat log.worker; exit 1; }
grep -Eq '^python: [1-9][0-9]* rollouts, [1-9][0-9]* lost, [1-9][0-9]* requests sent again$' log.worker || { cat log.worker; exit 1; }
wait $steps || { cat log.steps; exit 1; }
wait $server || { cat log.serve; exit 1; }
[ ! -s log.serve ] || { cat log.serve; exit 1; }
partial-buffer audit -q -s b >audit || { cat audit; exit 1; }
expect "$(in_state leased)" 0 "leased rollouts"
expect "$(number test)" ${#leased[@]} "dropped groups"

partial-buffer export -q -s b --no-text -o rollouts.jsonl
$python - <<'PYTHON'
import json
import struct

import msgpack

STOP = 0


def f32(numbers):
    return [struct.pack("<f", number) for number in numbers]


trained = {}
with open("claims", "rb") as file:
    for record in msgpack.Unpacker(file, max_buffer_size=2**27):
        if record["type"] == "rollout":
            assert record["uid"] not in trained, "claimed twice"
            trained[record["uid"]] = record
assert len(trained) == 6 * 2 * 4, len(trained)
unfinished = versions = resumes = 0
for rollout in map(json.loads, open("rollouts.jsonl")):
    uid = int(rollout["uid"], 16)
    tokens, logprobs, spans, segments = (rollout[key] for key in ("tokens", "logprobs", "weight_versions", "segments"))
    length, stop = len(tokens), uid % 40
    assert tokens == [STOP if i == stop else 1 + (uid + i) % 255 for i in range(length)], uid
    assert f32(logprobs) == f32(-1 / (1 + i % 8) for i in range(length)), uid
    ends = [0] + [span["end"] for span in spans]
    assert ends[-1] == length and [span["start"] for span in spans] == ends[:-1], spans
    assert all(int(span["weights"], 16) == 1000 + span["version"] for span in spans), spans
    assert [segment["start"] for segment in segments] == [sum(s["len"] for s in segments[:i]) for i in range(len(segments))], segments
    assert rollout.get("born_version") == (spans[0]["version"] if spans else None), rollout
    assert len(segments) >= rollout["resumes"] + (length > 0), rollout
    resumes += rollout["resumes"]
    versions = max([versions] + [span["version"] for span in spans])
    finished = length == stop + 1
    assert rollout["state"] == ("scored" if finished else "partial" if length else "queued"), rollout
    assert rollout.get("reward", {}).get("value") == (uid % 2 if finished else None), rollout
    unfinished += 0 < length and not finished
    if (mine := trained.pop(uid, None)) is not None:
        assert rollout["group_state"] in ("trained", "consumed"), rollout
        assert (mine["tokens"], mine["logprobs"]) == (struct.pack(f"<{length}I", *tokens), b"".join(f32(logprobs))) and finished, uid
assert not trained, "claimed, but not in the buffer"
assert unfinished > 0 and versions > 0 and resumes > 0, (unfinished, versions, resumes)
PYTHON
