"""Runs and compares the arms of learning.sh, whose help says what they are."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

ARMS = {
    "sync": ["--sync"],
    "april-none": ["--admission", "first-finished", "--trainer", "--is-correction none"],
    "april-tis": ["--admission", "first-finished", "--trainer", "--is-correction tis:2"],
    "april-icepop": ["--admission", "first-finished", "--trainer", "--is-correction icepop:0.5,5"],
    "april-tis-window": ["--trainer", "--is-correction tis:2"],
}
KEPT = ("reward_mean", "stale_share", "effective_token_share", "behaviour_effective_token_share", "response_mean_tokens", "trained_tokens")  # of each step
EVERY = 10  # steps between the policies that are evaluated


def addition():
    for a in range(2, 10):
        for b in range(2, 10):
            yield f"{a}+{b}", f"What is {a} + {b}?", a + b


def words():
    stories = [
        ("{n} has {a} {t}. {n} buys {b} more {t}. How many {t} does {n} have now?", lambda a, b: a + b),
        ("{n} has {s} {t} and gives {b} of them away. How many {t} does {n} have left?", lambda a, b: a),
        ("{n} has {a} boxes with {b} {t} in each. How many {t} does {n} have?", lambda a, b: a * b),
        ("There are {a} {t} on the table and {b} {t} in the bag. How many {t} are there?", lambda a, b: a + b),
    ]
    names, things = ["Anna", "Ben", "Carla", "David"], ["apples", "books", "coins", "pencils"]
    for i in range(64):
        story, answer = stories[i % 4]
        a, b = 2 + i * 5 % 8, 2 + i * 3 // 4 % 8
        yield f"story {i}", story.format(n=names[i // 4 % 4], t=things[i // 16], a=a, b=b, s=a + b), answer(a, b)


def version_path(directory, version):
    return os.path.join(directory, "weights", f"v{version:08d}")


def follow(process, directory):
    """Seconds since the start and metrics of every step, as they are written. Policies to evaluate are kept from being pruned: as links, without a copy."""
    path = os.path.join(directory, "metrics/grpo-step.jsonl")
    start, steps, buffered, file = time.monotonic(), [], "", None
    while True:
        running = process.poll() is None
        if file is None and os.path.exists(path):
            file = open(path)
        if file:
            buffered += file.read()
            *lines, buffered = buffered.split("\n")
            for line in map(json.loads, lines):
                steps.append((time.monotonic() - start, line))
                if len(steps) % EVERY == 0:
                    shutil.copytree(version_path(directory, line["version"]), os.path.join(directory, "kept", str(len(steps))), copy_function=os.link)
        if not running:
            return steps
        time.sleep(0.1)


def evaluate(root, model, prompts):
    """The share of sampled answers that are right: 8 a question."""
    lines = subprocess.run([f"{root}/pipelines/evaluate.sh", "--model", model, "--prompts", prompts, "--seeds", "2", "--json"],
                           stdout=subprocess.PIPE, check=True, text=True).stdout
    return next(line["pass_at_1"] for line in map(json.loads, lines.splitlines()) if "sampled" in line.values())


def finished_runs(path, options):
    """The runs that the file holds, by arm and seed. Others' settings are no part of this comparison."""
    runs = {}
    for line in open(path) if os.path.exists(path) else []:
        result = json.loads(line)
        if (result["groups"], len(result["steps"])) != (options.groups, options.steps):
            sys.exit(f"{path} holds runs of {len(result['steps'])} steps of {result['groups']} groups: give --steps and --groups as there, or another OUT")
        runs[result["arm"], result["seed"]] = result
    return runs


def machine():
    """The processor's name and the number of its threads that may be used."""
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {len(os.sched_getaffinity(0))} threads"


def run(root, options, arm, seed):
    """One run's steps, and at some of them the share of the answers that the new policy gets right."""
    directory = os.path.abspath(os.path.join(options.out, "running"))
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    prompts = os.path.join(directory, "questions.jsonl")
    with open(prompts, "w") as out:
        for name, prompt, label in {"addition": addition, "words": words}[options.task]():
            out.write(json.dumps({"id": name, "prompt": prompt, "label": str(label)}) + "\n")
    command = [f"{root}/pipelines/april.sh", "--dir", directory, "--model", options.model, "--prompts", prompts, "--steps", str(options.steps), "--seed", seed,
               "--groups", str(options.groups), "--checkpoint-every", "100000", *ARMS[arm]]
    with open(os.path.join(directory, "log"), "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        steps = follow(process, directory)
    if process.returncode != 0:
        sys.exit(f"{arm}, seed {seed}: exit {process.returncode}; {directory}/log says why")
    rows = [{"s": round(seconds, 2), **{key: line.get(key) for key in KEPT}} for seconds, line in steps]
    for step in range(EVERY, len(steps) + 1, EVERY):
        rows[step - 1]["accuracy"] = evaluate(root, os.path.join(directory, "kept", str(step)), prompts)
    shutil.rmtree(directory)
    return {"arm": arm, "seed": seed, "groups": options.groups, "machine": machine(), "timed": not options.busy, "steps": rows}


def accuracies(result):
    """Step, seconds and accuracy of the policies that were evaluated."""
    return [(i + 1, step["s"], step["accuracy"]) for i, step in enumerate(result["steps"]) if "accuracy" in step]


def mean_accuracy(result):
    return statistics.mean(accuracy for _, _, accuracy in accuracies(result))


def mean_reward(result):
    return statistics.mean(step["reward_mean"] for step in result["steps"])


def spread(values, digits=2):
    """Mean, smallest and largest; of one its value."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def named(kind, names):
    return f"{kind}{'' if len(names) == 1 else 's'} {', '.join(names)}"


class Comparison:
    """The runs of all arms with the seeds that are finished. Times are told in steps of the synchronous run of the same seed: machine and hour cancel."""

    def __init__(self, results, arms, seeds):
        self.results, self.arms, self.seeds = results, arms, seeds
        timed = [seed for seed in seeds if "sync" in arms and all(results[arm, seed]["timed"] for arm in arms)]
        self.unit = {seed: results["sync", seed]["steps"][-1]["s"] / len(results["sync", seed]["steps"]) for seed in timed}

    def runs(self, arm):
        return [self.results[arm, seed] for seed in self.seeds]

    def row(self, arm):
        runs = self.runs(arm)
        cells = [arm] + [spread([accuracy for _, _, accuracy in points]) for points in zip(*map(accuracies, runs))]
        if "sync" in self.arms:
            pairs = list(zip(runs, self.runs("sync")))
            cells += [spread([mean(r) - mean(s) for r, s in pairs], 3) for mean in (mean_accuracy, mean_reward)]
        cells.append(f"{100 * statistics.mean(s['stale_share'] or 0 for r in runs for s in r['steps']):.0f} %")
        if self.unit:
            cells.append(spread([self.results[arm, seed]["steps"][-1]["s"] / self.unit[seed] for seed in self.unit], 1))
        return cells

    def table(self):
        steps = [step for step, _, _ in accuracies(self.runs(self.arms[0])[0])]
        titles = ["arm"] + [f"accuracy after {step} steps" for step in steps]
        if "sync" in self.arms:
            titles += ["mean of these above sync's of the same seed", "mean reward of all steps above sync's of the same seed"]
        titles += ["stale tokens"] + (["time of the run"] if self.unit else [])
        lines = ["| " + " | ".join(row) + " |" for row in [titles] + [self.row(arm) for arm in self.arms]]
        lines.insert(1, "|---" * len(titles) + "|")
        machines = sorted({self.results[arm, seed]["machine"] for arm in self.arms for seed in self.seeds})
        text = "\n".join(lines) + f"\n\n{named('Seed', self.seeds)}: mean (smallest to largest). {'; '.join(machines)}."
        if self.unit:
            text += (f" Time in steps of the synchronous run of the same seed, {named('seed', self.unit)}: one took " +
                     ", ".join(f"{seconds:.1f}" for seconds in self.unit.values()) + " s.")
        return text + "\n"

    def picture(self, base):
        """By step, of all seeds, and by time, of those that count: each arm's mean, and a band from the smallest to the largest."""
        with open(base + ".curve", "w") as out:
            for seeds in (self.seeds, self.unit):  # the first blocks are by step, the others by time
                for arm in self.arms:
                    for points in zip(*(accuracies(self.results[arm, seed]) for seed in seeds)):
                        at = [accuracy for _, _, accuracy in points]
                        times = [seconds / self.unit[seed] for seed, (_, seconds, _) in zip(seeds, points) if seeds is self.unit]
                        out.write(f"{statistics.mean(times) if times else points[0][0]} {statistics.mean(at)} {min(at)} {max(at)}\n")
                    out.write("\n\n")
        plots = lambda first: ", ".join(
            f"'{base}.curve' index {first + i} using 1:3:4 with filledcurves fillstyle transparent solid 0.12 lc {i + 1} notitle, "
            f"'' index {first + i} using 1:2 with linespoints lw 2 lc {i + 1} title '{arm}'" for i, arm in enumerate(self.arms))
        by_time = f"set xlabel 'time, in steps of the synchronous run'; plot {plots(len(self.arms))};" if self.unit else ""
        script = (f"set terminal svg size {1000 if self.unit else 500},420 background 'white'; set output '{base}.svg'; "
                  f"set multiplot layout 1,{2 if self.unit else 1}; set key bottom right; set yrange [0:1]; set grid; "
                  f"set ylabel 'accuracy of the policy'; set xlabel 'step'; plot {plots(0)}; {by_time} unset multiplot")
        subprocess.run(["gnuplot", "-e", script], check=True)
        os.remove(base + ".curve")

    def write(self, base):
        with open(base + ".md", "w") as out:
            out.write(self.table())
        self.picture(base)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--task", choices=["addition", "words"], default="addition")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--seeds", default="1 2 3")
    parser.add_argument("--arms", default=" ".join(ARMS))
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    arms, seeds = options.arms.split(), options.seeds.split()
    base = os.path.join(options.out, options.task)
    results = finished_runs(base + ".jsonl", options)
    for i, seed in enumerate(seeds):  # all arms of a seed, one behind the other: what changes on the machine meets all
        for arm in arms:
            if (arm, seed) not in results:
                results[arm, seed] = run(options.root, options, arm, seed)
                with open(base + ".jsonl", "a") as out:
                    out.write(json.dumps(results[arm, seed]) + "\n")
            print(f"{options.task}, {arm}, seed {seed}: accuracy {accuracies(results[arm, seed])[-1][2]:.3f}, "
                  f"{results[arm, seed]['steps'][-1]['s'] / 60:.1f} minutes", file=sys.stderr, flush=True)
        Comparison(results, arms, seeds[:i + 1]).write(base)


main()
