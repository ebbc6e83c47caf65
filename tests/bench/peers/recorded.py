"""Recorded rollouts as tests/bench/recorded.h takes them: the first groups of a stream by group id, every second rollout rewarded."""
import msgpack
import numpy


def groups(path, count):
    """[[(prompt ids, response ids)]], each group by index."""
    by_id = {}
    for record in msgpack.Unpacker(open(path, "rb"), max_buffer_size=0):
        if record["type"] == "rollout":
            ids = tuple(numpy.frombuffer(record[key], "<u4").astype("int64") for key in ("prompt_tokens", "tokens"))
            by_id.setdefault(record["group_id"], []).append((record["index"], *ids))
    chosen = [sorted(by_id[group], key=lambda rollout: rollout[0]) for group in sorted(by_id)[: count or None]]
    if count and len(chosen) != count:
        raise SystemExit(f"{path} has {len(chosen)} groups, expected {count}")
    return [[(prompt, response) for _, prompt, response in group] for group in chosen]


def advantages(group):
    """(R - mean) / spread with R = index % 2, and the spread over n - 1: TRL's own scale, and the trainer's default."""
    rewards = numpy.array([index % 2 for index in range(len(group))], "float64")
    return (rewards - rewards.mean()) / rewards.std(ddof=1)
