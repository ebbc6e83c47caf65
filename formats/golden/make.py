#!/usr/bin/env python3
"""Makes the streams of formats/golden/v1 with nothing of april's own code, so that the format is tested against a second writer.

Needs the packages msgpack, xxhash and zstandard. Every stream has a JSON twin, one line a record as `rollout-cat --json` shows it.
Files that exist are never changed: later builds must read them for ever. A new file may be added; --check compares those that exist.
"""
import json
import pathlib
import struct
import sys

import msgpack
import xxhash
import zstandard

OUT = pathlib.Path(__file__).parent / "v1"


class Writer:
    """A stream as formats/stream.md describes it: header, records, marks, end."""

    def __init__(self, header):
        self.header = {"type": "header", "format": "april-stream", "version": [1, 0], **header}
        self.digest = xxhash.xxh3_64()
        self.bytes = b""
        self.shown = []
        self.records = -1  # the header counts in the digest, not as a record
        self.add(self.header)

    def add(self, record):
        packed = msgpack.packb(record)
        self.digest.update(packed)
        self.bytes += packed
        self.shown.append(record)
        self.records += 1

    def mark(self):
        self.bytes += msgpack.packb({"type": "mark", "records": self.records, "digest": self.digest.intdigest()})

    def end(self, status="ok"):
        self.bytes += msgpack.packb({"type": "end", "records": self.records, "digest": self.digest.intdigest(), "status": status})

    def save(self, name, frame_bytes=None):
        """Raw, or as zstd with a frame closed every `frame_bytes`."""
        data = self.bytes
        if frame_bytes:
            compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
            data = b"".join(compressor.compress(data[i : i + frame_bytes]) for i in range(0, len(data), frame_bytes))
        twin = "".join(json.dumps(show(record)) + "\n" for record in self.shown).encode()
        for path, contents in ((OUT / name, data), (OUT / (name.removesuffix(".zst") + ".json"), twin)):
            if path.exists() and "--check" in sys.argv:
                assert path.read_bytes() == contents, f"{path} is not what this script makes"
            elif not path.exists():
                path.write_bytes(contents)


IDS = {"uid", "group_id", "weights", "tokenizer", "template"}
F32 = {"logprobs", "sampled_logprobs"}


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


def f32(*values):
    return struct.pack(f"<{len(values)}f", *values)


def show(value, key="", parent=""):
    """What rollout-cat --json shows: ids in hexadecimal, known arrays as lists."""
    if isinstance(value, bytes):
        if key in F32:
            return list(struct.unpack(f"<{len(value) // 4}f", value))  # the values chosen below have the same shortest decimal in both widths
        if key in {"tokens", "prompt_tokens", "stop_tokens"}:
            return list(struct.unpack(f"<{len(value) // 4}I", value))
        return {"hex": value.hex()}
    if isinstance(value, dict):
        if value.get("type") == "hologram":  # a type that no table knows is shown as it is
            return {k: {"hex": v.hex()} if isinstance(v, bytes) else v for k, v in value.items()}
        if "dtype" in value:
            letter, size = {"u8": ("B", 1), "f32": ("f", 4)}[value["dtype"]]
            return {**value, "data": list(struct.unpack(f"<{len(value['data']) // size}{letter}", value["data"]))}
        return {k: (v if key == "meta" and not isinstance(v, bytes) else show(v, k, key)) for k, v in value.items()}
    if key == "outcomes":
        return {f"{uid:016x}": outcome for uid, outcome in value}
    if isinstance(value, list):
        return [show(v, "", key) for v in value]
    if isinstance(value, int) and not isinstance(value, bool) and (key in IDS or (key == "id" and parent == "lease")):
        return f"{value:016x}"
    return value


HEADER = {
    "run": "golden",
    "purpose": "train",
    "policy_version": 12,
    "tokenizer": 0x0123456789ABCDEF,
    "template": 0xFEDCBA9876543210,
    "provenance": [{"tool": "make.py", "version": "1", "argv": ["make.py"]}],
}
SAMPLING = {"temperature": 1.0, "top_p": 0.9375, "stop_tokens": u32(2, 0), "stop_strings": ["\n\n"]}
# Values that both binary32 and short decimals name exactly.
LOGPROBS = (-0.5, -1.25, -0.0625, -3.0, -0.75)


def segment(start, length, **more):
    return {"start": start, "len": length, "kind": "generated", "engine": "local", "kernels": "portable", "kv": "fresh", "temperature": 1.0, "top_p": 0.9375, "wall_ms": 12.5, **more}


def rollout(**more):
    return {
        "type": "rollout",
        "uid": 0xA1B2C3D4E5F60718,
        "run": "golden",
        "prompt_id": "addition-2-3",
        "group_id": 0x1122334455667788,
        "epoch": 0,
        "index": 1,
        "attempt": 0,
        "group_size": 4,
        "prompt_tokens": u32(1, 4093, 17, 65535, 2),
        "tokens": b"",
        "logprobs": b"",
        "weight_versions": [],
        "segments": [],
        "status": "queued",
        "seed": 7,
        "max_tokens": 64,
        "sampling": SAMPLING,
        "resumes": 0,
        **more,
    }


def partial(**more):
    """Five tokens under two weight versions, with two tokens of tool output between."""
    return rollout(
        tokens=u32(10, 11, 12, 49151, 13),
        logprobs=f32(LOGPROBS[0], LOGPROBS[1], 0, 0, LOGPROBS[4]),
        sampled_logprobs=f32(-0.375, -1.0, 0, 0, -0.5),
        per_token={"loss_mask": {"dtype": "u8", "start": 0, "data": bytes([1, 1, 0, 0, 1])}, "entropy": {"dtype": "f32", "start": 4, "data": f32(0.25)}},
        weight_versions=[{"version": 12, "weights": 0xCAFE, "start": 0, "end": 2}, {"version": 13, "weights": 0xBEEF, "start": 4, "end": 5}],
        segments=[segment(0, 2), segment(2, 2, kind="tool"), segment(4, 1, kv="recomputed")],
        status="partial",
        resumes=1,
        born_version=12,
        admitted_step=3,
        lease={"id": 0x99, "epoch": 2},
        label="5",
        meta={"source": "golden", "difficulty": 0.5, "deep": {"list": [1, None, True, "x"]}},
        **more,
    )


def main():
    OUT.mkdir(exist_ok=True)
    prompt = {"type": "prompt", "prompt_id": "addition-2-3", "prompt_tokens": u32(1, 4093, 17, 65535, 2), "label": "5", "meta": {"source": "golden"}}

    every = Writer(HEADER)
    every.add({"type": "control", "kind": "claim", "values": {"claim": "c-0001", "step": 3, "groups": 1, "rollouts": 1, "policy_version": 12, "parent": "step-00002", "replay": False}})
    every.add(prompt)
    every.add({"type": "group", "group_id": 0x1122334455667788, "prompt_id": "addition-2-3", "epoch": 0, "members": 1, "expected": 4, "claim": "c-0001"})
    every.mark()
    every.add(rollout())
    every.add(partial())
    complete = partial()
    complete.update(status="complete", finish="stop", reward={"value": 1.0, "parts": {"answer": 1.0, "format": 0.5}, "status": "ok", "scorer": "gsm8k", "detail": "5"}, advantage=-0.5)
    every.add(complete)
    failed = rollout(index=2)
    failed.update(status="failed", finish="error", reward={"status": "timeout", "scorer": "exec", "detail": "no answer within 5 s"})
    every.add(failed)
    every.add({"type": "progress", "uid": 0xA1B2C3D4E5F60718, "lease": {"id": 0x99, "epoch": 2}, "start": 5, "tokens": u32(14, 15), "logprobs": f32(-0.25, -2.0),
               "weight_versions": [{"version": 13, "weights": 0xBEEF, "start": 5, "end": 7}], "segments": [segment(5, 2)]})
    every.add({"type": "step", "claim": "c-0001", "step": 3, "version": 13, "weights": 0xBEEF, "advanced": True, "checkpoint": "step-00003",
               "outcomes": [[0xA1B2C3D4E5F60718, "trained"], [0x42, "excluded:staleness"]], "metrics": {"loss": 0.125, "step_seconds": 1.5}})
    every.add({"type": "metrics", "values": {"reward_mean": 0.75, "tokens": 512, "decode_tokens_per_s": 900.5}})
    every.add({"type": "weights", "version": 13, "weights": 0xBEEF, "path": "run/weights/v13"})
    every.mark()
    every.end()
    every.save("every-type.stream")
    every.save("every-type.stream.zst", frame_bytes=700)

    later = Writer({**HEADER, "version": [1, 9], "created_by": "a later minor version"})
    strange = partial()
    strange.update(parent_uid=5, branch_at=3, new_list=[1, -1, 1.5, "s", b"\x00\xff", None, {"deep": {"deeper": [[]]}}])
    strange["sampling"] = {**SAMPLING, "new_key": 1}
    strange["lease"] = {"id": 0x99, "epoch": 2, "term": 60}
    strange["segments"][0]["adapter"] = "lora-1"
    strange["weight_versions"][0]["policy"] = "main"
    later.add(strange)
    later.add({"type": "hologram", "uid": 1, "bytes": b"\x01\x02", "values": [1, 2, 3]})
    later.end("stopped")
    later.save("unknown-keys.stream")

    small = Writer({"purpose": "eval"})
    small.end()
    small.save("empty.stream")


main()
