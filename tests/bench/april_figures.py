"""april_figures.py ARM RUN FIRST LAST: what the steps FIRST to LAST (from 1) of a finished april.sh run gave, as a JSON object.

The trainer's metrics have a line a step, with the time of its publication; the generator's have one a second and one at each new version, and their
counters go on from its start. Step n is published as version n, so that what the generator does for it stands between the first lines of versions
n - 1 and n.

april_figures.py --bound ARM SYNC: both objects, from files; how near ARM came to what its slots could do, see april.sh.
"""
import json
import statistics
import sys


def lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def rounded(figures):
    return {key: round(value, 4 if key.endswith("share") else 2) if isinstance(value, float) else value for key, value in figures.items()}


def of_generator(path, first, last):
    """Sums over the generator's lines of versions first - 1 to last - 1."""
    all_lines = lines(path)
    begin = next(i for i, line in enumerate(all_lines) if line["policy_version"] >= first - 1)
    end = next((i for i, line in enumerate(all_lines) if line["policy_version"] >= last), len(all_lines) - 1)
    sums = dict.fromkeys(("read", "slot_steps", "busy", "full_tokens", "full_s"), 0)
    for before, line in zip(all_lines[begin:end], all_lines[begin + 1:end + 1]):
        steps = line["steps"] - before["steps"]
        sums["read"] += line["prefill_rows"]
        sums["slot_steps"] += steps * line["slots"]
        sums["busy"] += steps * line["slots"] * line["occupancy"]
        if line["occupancy"] > 0.999 and line["running"] == line["slots"]:
            sums["full_tokens"] += line["decode_tokens"] - before["decode_tokens"]
            sums["full_s"] += line["decode_s"] - before["decode_s"]
    grown = {key: all_lines[end][key] - all_lines[begin][key] for key in ("tokens", "finished", "finished_tokens")}
    reading = [line for line in all_lines if line["prefill_s"] > 0][-1]
    return sums | grown | {"slots": all_lines[end]["slots"], "read_tokens_per_s": reading["prefill_tokens"] / reading["prefill_s"]}


def figures(arm, run, first, last):
    trained = lines(f"{run}/metrics/grpo-step.jsonl")
    if len(trained) < last or first < 2:
        sys.exit(f"{run}: {len(trained)} steps were trained, {max(first, 2)} to {last} are wanted")
    counted = trained[first - 1:last]
    wall_s = counted[-1]["time_s"] - trained[first - 2]["time_s"]
    rollouts = sum(step["rollouts_trained"] + step["rollouts_skipped"] for step in counted)
    tokens = sum(step["response_mean_tokens"] * (step["rollouts_trained"] + step["rollouts_skipped"]) for step in counted)
    gained = of_generator(f"{run}/metrics/rollout-gen.jsonl", first, last)
    return {
        "arm": arm, "slots": gained["slots"], "steps": f"{first}-{last}", "wall_s": wall_s, "trained_tokens_per_s": tokens / wall_s,
        "trained_rollouts": rollouts, "trained_tokens": round(tokens), "trained_mean_tokens": tokens / rollouts,
        "step_mean_tokens": [round(step["response_mean_tokens"], 1) for step in counted],
        "sampled_mean_tokens": gained["finished_tokens"] / max(1, gained["finished"]), "generated_tokens": gained["tokens"],
        "read_tokens": gained["read"],  # prompts, and what was read again
        "stale_share": sum(step["stale_share"] * step["response_mean_tokens"] for step in counted) /
                       sum(step["response_mean_tokens"] for step in counted),
        "idle_share": 1 - gained["busy"] / max(1, gained["slot_steps"]),
        "truncated_share": sum(step["truncated_share"] for step in counted) / len(counted),
        "reward_mean": sum(step["reward_mean"] for step in counted) / len(counted),
        "train_s": sum(step["forward_s"] + step["backward_s"] + step["optimizer_s"] for step in counted),
        "publish_s": sum(step["publish_s"] for step in counted),
        "generate_s": sum(step["wait_s"] for step in counted),
        "full_tokens_per_s": gained["full_tokens"] / gained["full_s"] if gained["full_s"] > 0 else 0.0,
        "read_tokens_per_s": gained["read_tokens_per_s"],
    }


def bound(arm, sync):
    """The arm's own times, were every slot always busy and each prompt read once."""
    seconds = (arm["trained_tokens"] / arm["full_tokens_per_s"] + sync["read_tokens"] / sync["read_tokens_per_s"] + arm["train_s"] + arm["publish_s"])
    return arm["trained_tokens"] / seconds


def ratio_error(arm, sync):
    """One standard error of the ratio of mean lengths: the steps' differences, as if they were independent."""
    differences = [a - b for a, b in zip(arm["step_mean_tokens"], sync["step_mean_tokens"])]
    if len(differences) < 2:
        return 0.0
    return statistics.stdev(differences) / len(differences)**0.5 / sync["trained_mean_tokens"]


def main():
    if sys.argv[1] == "--bound":
        arm, sync = (json.load(open(path)) for path in sys.argv[2:4])
        never_idle = bound(arm, sync) if arm["full_tokens_per_s"] > 0 else 0.0
        print(json.dumps(rounded({
            "figure": "april", "unit": "trained tokens/s", "arm": arm["arm"], "ours": arm["trained_tokens_per_s"], "sync": sync["trained_tokens_per_s"],
            "ratio": round(arm["trained_tokens_per_s"] / sync["trained_tokens_per_s"], 3), "never_idle": never_idle,
            "of_never_idle_share": arm["trained_tokens_per_s"] / never_idle if never_idle else 0.0,
            "read_again_tokens": arm["read_tokens"] - sync["read_tokens"],
            "trained_length_ratio": round(arm["trained_mean_tokens"] / sync["trained_mean_tokens"], 3),
            "trained_length_ratio_error": round(ratio_error(arm, sync), 3)})))
    else:
        print(json.dumps(rounded(figures(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))))


if __name__ == "__main__":
    main()
