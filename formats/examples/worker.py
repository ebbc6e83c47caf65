#!/usr/bin/env python3
"""A generator in Python for the buffer's hub, to start from: buffer.md, "Hub". Needs the packages pyzmq and msgpack. A model belongs into `generate`.

    partial-buffer serve -s run/buffer --bind zmq+ipc://run/hub &
    worker.py zmq+ipc://run/hub NAME [ANSWER_MS]
"""
import secrets
import struct
import sys
import time

import msgpack
import zmq

SLOTS, CHUNK, STOP_TOKEN = 16, 4, 0  # rollouts at once; tokens between two signs of progress
GIVE_UP_S = 60


class Hub:
    def __init__(self, address, worker, answer_ms):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = self.socket.sndtimeo = 1000
        self.socket.connect(address.removeprefix("zmq+"))  # and again, by itself, when the connection is lost
        self.answer_ms, self.seq, self.repeats = answer_ms, 0, 0
        self.client = {"session": secrets.randbits(64), "worker": worker, "role": "generate", "incarnation": secrets.randbits(64)}

    def ask(self, op, **arguments):
        self.seq += 1
        request = msgpack.packb({"op": op, **self.client, "seq": self.seq, **arguments})
        self.socket.send(request)
        deadline = time.monotonic() + GIVE_UP_S
        while time.monotonic() < deadline:
            if not self.socket.poll(self.answer_ms):  # lost, or the hub was started anew: the same request does nothing twice
                self.repeats += 1
                self.socket.send(request)
                continue
            answer = msgpack.unpackb(self.socket.recv())
            if answer["seq"] == self.seq:  # else to one that was sent twice
                if "error" in answer:
                    raise RuntimeError("the hub: {message}; {hint}".format(**answer["error"]))
                return answer
        raise TimeoutError(f"the hub did not answer {op} for {GIVE_UP_S} s")


def generate(rollout, version, is_first):
    """A few tokens more, `is_first` if none came under this lease. `rollout` gets them; what is returned tells of them alone."""
    start, stop = len(rollout["tokens"]) // 4, rollout["uid"] % 40
    end = min(start + CHUNK, stop + 1, rollout["max_tokens"])
    tokens = [STOP_TOKEN if i == stop else 1 + (rollout["uid"] + i) % 255 for i in range(start, end)]
    logprobs = [-1 / (1 + i % 8) for i in range(start, end)]  # in the full softmax, at the rollout's temperature
    span = {"version": version, "weights": 1000 + version, "start": start, "end": end}  # `weights`: the digest of what was loaded
    segment = {"start": start, "len": end - start, "kind": "generated", "engine": "python", "kv": "recomputed" if start else "fresh",
               "temperature": rollout["sampling"]["temperature"]}
    new = {"tokens": struct.pack(f"<{end - start}I", *tokens), "logprobs": struct.pack(f"<{end - start}f", *logprobs)}
    for key, more in new.items():
        rollout[key] += more
    if not is_first and rollout["weight_versions"][-1]["version"] == version:  # what was not interrupted is one span and one segment
        rollout["weight_versions"][-1]["end"] = end
        rollout["segments"][-1]["len"] += end - start
    else:
        rollout["weight_versions"].append(dict(span))
        rollout["segments"].append(dict(segment))
    rollout["resumes"] += is_first and start > 0
    rollout.setdefault("born_version", version)
    rollout["status"] = "partial"
    if end in (stop + 1, rollout["max_tokens"]):  # without a reward, as most generators have it, reward-score would be next
        rollout.update(status="complete", finish="stop" if end == stop + 1 else "length",
                       reward={"value": float(rollout["uid"] % 2), "status": "ok", "scorer": "python"})
    return {"type": "progress", "uid": rollout["uid"], "lease": rollout["lease"], "start": start, **new, "weight_versions": [span], "segments": [segment]}


def main(address, worker, answer_ms="2000"):
    hub = Hub(address, worker, int(answer_ms))
    hub.ask("hello")
    held, begun, request, version, lost = {}, set(), 0, 0, 0  # held: uid -> rollout; begun: those that got tokens under this lease
    while True:
        request += 1
        answer = hub.ask("lease", request=request, want=SLOTS - len(held), held=list(held), version=version)
        for uid in answer["lost"]:
            lost += held.pop(uid, None) is not None
        for rollout in map(msgpack.unpackb, answer["rollouts"]):
            held[rollout["uid"]] = rollout
            begun.discard(rollout["uid"])
        if answer["demand"] == "drain":
            break
        version = max(version, answer["min_version"] or 0)  # here newer weights would be loaded
        records = []
        if answer["demand"] == "go":
            for uid, rollout in list(held.items()):
                progress = generate(rollout, version, uid not in begun)
                begun.add(uid)
                records.append(progress if rollout["status"] == "partial" else held.pop(uid))
        if not records:
            time.sleep(answer["poll_ms"] / 1000)
        elif (put := hub.ask("put", records=[msgpack.packb(record) for record in records]))["rejected"]:
            raise RuntimeError(f"rejected: {put['first_reject']}")
    hub.ask("put", records=[msgpack.packb(rollout) for rollout in held.values()])  # unfinished ones, for others to go on with
    hub.ask("put_end", leases=[hub.client["session"]], whole=True)
    hub.ask("bye")
    print(f"{worker}: {len(begun)} rollouts, {lost} lost, {hub.repeats} requests sent again", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
