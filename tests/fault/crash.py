"""Kills the programs of a small run with -9 at random instants, lets it go on, and proves from its journal that nothing was lost or trained twice.

Rounds of plain pipes (as pipelines/round.sh composes them) first, then the resident loop (as pipelines/april.sh does), with the tiny model generating
and training. In the end the recorded claims are trained once more, undisturbed: every version must have the killed run's bits.

    crash.py KILLS SEED [PROGRAM...]    only these programs are killed (default: all); prints a summary
"""
import atexit
import collections
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from journal_reader import Journal, values

MODEL = os.environ["APRIL_SOURCE"] + "/tests/data/tiny-model"
PROGRESS_EVERY = 4
HUB = "zmq+ipc://hub"
GROUPS, GROUP_SIZE = 3, 4
LIMIT_S = 60  # for anything that has to end
# What a program may end with when its neighbours are killed: done, cut input, peer gone, not ready, stopped.
GOOD_ENDS = (0, 3, 6, 7, 75)

BUFFER = ["partial-buffer"]
GENERATE = ["rollout-gen", "--weights", "weights", "--threads", "1", "--kernels", "portable", "--progress-every", str(PROGRESS_EVERY)]
SCORE = ["reward-score", "--scorer", "regex", "--pattern", "[a-e]", "--model", MODEL]
TRAIN = ["grpo-step", "--model", MODEL, "--lr", "1e-3", "--threads", "1", "--kernels", "portable", "--checkpoint-every", "2", "--keep-versions", "100000"]


def fail(what):
    print(f"crash.py: {what}")
    for name in sorted(os.listdir("logs")):
        with open(f"logs/{name}") as file:
            print(f"--- the end of logs/{name}\n" + "".join(file.readlines()[-6:]), end="")
    sys.exit(1)


started = []


@atexit.register
def kill_what_is_left():
    for process in started:
        process.kill()


class Program:
    """One running program; its name is what the summary counts."""

    def __init__(self, name, command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
        self.name, self.killed = name, False
        with open(f"logs/{name}", "a") as log:
            self.process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=log)
        started.append(self.process)
        self.born = time.monotonic()

    def kill(self):
        self.process.kill()
        self.killed = self.process.wait() == -signal.SIGKILL
        return self.killed

    def end(self, good=GOOD_ENDS):
        try:
            code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            fail(f"{self.name} did not end within {LIMIT_S} s")
        if not self.killed and code not in good and self.name != "tee":
            fail(f"{self.name} ended with {code}")
        return code


def pipeline(*stages):
    programs, stdin = [], subprocess.DEVNULL
    for index, (name, command) in enumerate(stages):
        last = index + 1 == len(stages)
        program = Program(name, command, stdin, subprocess.DEVNULL if last else subprocess.PIPE)
        if stdin != subprocess.DEVNULL:
            stdin.close()
        stdin = program.process.stdout
        programs.append(program)
    return programs


class Judge:
    """What the journal has said, and what must follow from it."""

    def __init__(self):
        self.journal = Journal("b")
        self.issued, self.tokens, self.chains, self.claims, self.trained = set(), collections.Counter(), {}, {}, {}
        self.emitted, self.emitted_bytes = collections.Counter(), 0
        self.told = collections.Counter()  # tokens that were counted already
        self.recovered = self.generated = 0

    def read(self):
        for entry in self.journal.new_entries():
            kind = entry["type"]
            if kind == "lease":
                self.issued.update(uid for group in entry["groups"] for uid in group[3])
            elif kind in ("rollout", "progress"):
                uid, tokens, chain = entry["uid"], entry["tokens"], entry["chain"]
                if self.chains.setdefault((uid, tokens), chain) != chain:
                    fail(f"rollout {uid:016x}: two different responses of {tokens} tokens are journaled")
                self.tokens[uid] = max(self.tokens[uid], tokens)
            elif kind == "claim":
                self.claims[entry["claim"]] = (entry["step"], [uid for group in entry["groups"] for uid in group[1]])
            elif kind == "abandon":
                del self.claims[entry["claim"]]
            elif kind == "commit":
                step, uids = self.claims[entry["claim"]]
                if self.trained.setdefault(step, (entry["claim"], entry["weights"])) != (entry["claim"], entry["weights"]):
                    fail(f"step {step} was trained twice, by claims or to weights that differ")
        uids = [uid for step in self.trained for uid in self.claims[self.trained[step][0]][1]]
        if len(uids) != len(set(uids)):
            fail("a rollout is in two trained steps")

    def count_recovered(self):
        """After a kill: what generators had emitted, and what of it is journaled."""
        with open("emitted", "rb") as file:
            file.seek(self.emitted_bytes)
            records, used = values(file.read())
        # A killed writer may have cut its last record; what follows was written by the next.
        self.emitted_bytes = os.path.getsize("emitted")
        for record in records:
            if not isinstance(record, dict) or record.get("type") not in ("rollout", "progress"):
                continue
            end = record.get("start", 0) + len(record["tokens"]) // 4
            self.emitted[record["uid"]] = max(self.emitted[record["uid"]], end)
        for uid, tokens in self.emitted.items():
            self.generated += max(0, tokens - self.told[uid])
            self.recovered += max(0, min(tokens, self.tokens[uid]) - self.told[uid])
            self.told[uid] = self.tokens[uid]
        self.emitted.clear()

    def finish(self):
        listed = {}
        for line in subprocess.run(BUFFER + ["ls", "-q", "-s", "b", "--json"], stdout=subprocess.PIPE, check=True).stdout.splitlines():
            rollout = json.loads(line)
            listed[int(rollout["uid"], 16)] = rollout
        lost = self.issued - set(listed)
        if lost or not self.issued:
            fail(f"{len(lost)} of {len(self.issued)} rollouts that were issued are gone")
        for uid, tokens in self.tokens.items():
            if listed[uid]["tokens"] != tokens:
                fail(f"rollout {uid:016x} has {listed[uid]['tokens']} tokens, {tokens} were journaled")
        trained = {uid for claim, _ in self.trained.values() for uid in self.claims[claim][1]}
        consumed = {uid for uid, rollout in listed.items() if rollout["group_state"] in ("trained", "consumed") and rollout["state"] == "scored"}
        if trained != consumed:
            fail(f"{len(trained ^ consumed)} rollouts are trained by the journal's commits or by ls, but not by both")


def stat():
    return json.loads(subprocess.run(BUFFER + ["stat", "-q", "-s", "b", "--json"], stdout=subprocess.PIPE, check=True).stdout)


class Run:
    def __init__(self, kills, seed, victims):
        self.kills, self.victims, self.random = kills, victims, random.Random(seed)
        self.killed = collections.Counter()
        self.judge = Judge()
        self.life = collections.defaultdict(lambda: 0.05)  # how long a program lives when nobody kills it, in seconds
        self.rounds = 0

    def begin(self):
        os.mkdir("logs")
        open("emitted", "wb").close()
        with open("prompts.jsonl", "w") as file:
            for i in range(30):
                file.write(json.dumps({"prompt": str(i), "label": str(i)}) + "\n")
        subprocess.run(BUFFER + ["init", "-q", "-s", "b", "--model", MODEL, "--group-size", str(GROUP_SIZE), "--groups-per-step", str(GROUPS),
                                 "--in-flight", "18", "--max-tokens", "32", "--retain-steps", "1000000", "--seed", "1"], check=True)
        subprocess.run(BUFFER + ["add", "-q", "-s", "b", "--prompts", "prompts.jsonl", "--epochs", "1000", "--shuffle", "3"], check=True)
        subprocess.run(["weight-sync", "publish", "-q", "--model", MODEL, "--to", "weights", "--version", "0"], check=True)

    def may_kill(self, program):
        return program.name != "tee" and (not self.victims or program.name in self.victims)

    def check(self):
        audit = subprocess.run(BUFFER + ["audit", "-s", "b"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if audit.returncode != 0:
            fail(f"audit: exit {audit.returncode}: {audit.stdout}")
        self.judge.read()

    def compact(self):
        return Program("compact", BUFFER + ["compact", "-s", "b"])

    # One step's stages in plain pipes: generation while groups are wanted, then training; now and then the journal is compacted beside them.
    def round(self, kill):
        if stat()["groups"]["wanted"] > 0:
            programs = pipeline(("take", BUFFER + ["take", "-s", "b", "--worker", "w"]), ("rollout-gen", GENERATE + ["--target-groups", str(GROUPS)]),
                                ("tee", ["tee", "-a", "emitted"]), ("reward-score", SCORE), ("put", BUFFER + ["put", "-s", "b"]))
        else:
            programs = pipeline(("claim", BUFFER + ["claim", "-s", "b", "--checkpoints", "checkpoints"]),
                                ("grpo-step", TRAIN + ["--from", "checkpoints", "--publish", "weights"]), ("commit", BUFFER + ["commit", "-s", "b"]))
        if self.random.random() < 0.3:
            programs.append(self.compact())
        candidates = [program for program in programs if self.may_kill(program)]
        if kill and candidates:
            victim = self.random.choice(candidates)
            time.sleep(max(0, victim.born + self.random.uniform(0, 1.1) * self.life[victim.name] - time.monotonic()))
            self.killed[victim.name] += victim.kill()
            codes = [program.end() for program in programs]
        else:
            left = set(programs)
            deadline = time.monotonic() + LIMIT_S
            while left and time.monotonic() < deadline:
                for program in list(left):
                    if program.process.poll() is not None:
                        left.remove(program)
                        self.life[program.name] = time.monotonic() - program.born
                time.sleep(0.001)
            codes = [program.end() for program in programs]
            if any(code not in (0, 7) for code in codes):
                fail("undisturbed, " + ", ".join(f"{program.name} ended with {code}" for program, code in zip(programs, codes)))
        self.check()
        self.judge.count_recovered()

    def plain(self, kills):
        for _ in range(4):
            self.round(kill=False)
        enough = self.killed.total() + kills
        for attempt in range(100 * kills):
            if self.killed.total() >= enough:
                return
            self.round(kill=True)
        fail(f"only {self.killed.total()} of {enough} kills hit a living program")

    # The resident loop: every program stays up around the hub; what a kill ends is started again, as a supervisor would.
    def start(self, part):
        if part == "hub":
            self.parts[part] = [Program("serve", BUFFER + ["serve", "-s", "b", "--bind", HUB, "--term-ms", "1000"])]
        elif part == "generation":
            self.parts[part] = pipeline(("rollout-gen", GENERATE + ["--from", HUB, "--worker", "w"]), ("tee", ["tee", "-a", "emitted"]),
                                        ("reward-score", SCORE), ("put", BUFFER + ["put", "-s", HUB]))
        else:
            self.parts[part] = pipeline(("claim", BUFFER + ["claim", "-s", HUB, "--follow", "--steps", "100000", "--checkpoints", "checkpoints"]),
                                        ("grpo-step", TRAIN + ["--from", "checkpoints", "--publish", "weights"]),
                                        ("commit", BUFFER + ["commit", "-s", HUB]))

    def resident(self, kills):
        self.parts = {}
        for part in ("hub", "generation", "training"):
            self.start(part)
        enough = self.killed.total() + kills
        while self.killed.total() < enough:
            time.sleep(self.random.uniform(0, 0.2))
            if self.random.random() < 0.3:
                self.parts["compact"] = [self.compact()]
                time.sleep(self.random.uniform(0, 1.1) * self.life["compact"])
            part, victim = self.random.choice([(part, program) for part in self.parts for program in self.parts[part] if self.may_kill(program)])
            if victim.kill():
                self.killed[victim.name] += 1
            elif part != "compact":
                fail(f"{victim.name} had ended with {victim.process.returncode} before it was killed")
            for program in self.parts[part] + self.parts.pop("compact", []):
                program.end()
            self.check()
            if part == "generation":
                self.judge.count_recovered()
            if part in self.parts:
                self.start(part)
        step = stat()["first_uncommitted_step"]
        deadline = time.monotonic() + LIMIT_S
        while stat()["first_uncommitted_step"] <= step:
            if time.monotonic() > deadline:
                fail(f"step {step} was not committed within {LIMIT_S} s after the last kill")
            time.sleep(0.02)
        self.parts["hub"][0].process.send_signal(signal.SIGTERM)  # everything drains, in order
        for part in self.parts:
            for program in self.parts[part]:
                program.end(good=(0, 75))
        self.check()
        self.judge.count_recovered()

    def finish(self):
        # Undisturbed, it goes on.
        target = stat()["first_uncommitted_step"] + 2
        for _ in range(40):
            if stat()["first_uncommitted_step"] >= target:
                break
            self.round(kill=False)
        else:
            fail(f"step {target - 1} was not reached in 40 undisturbed rounds")
        self.judge.finish()

    def train_again(self):
        """The recorded claims once more, from the model, by one undisturbed trainer: the same bits."""
        os.makedirs("again/from-the-model/step-00000000")
        shutil.copytree("b", "again/b")
        with open("again/from-the-model/step-00000000/manifest.json", "w") as file:
            json.dump({"step": 0, "version": 0}, file)
        claim = pipeline(("claim", BUFFER + ["claim", "-s", "again/b", "--checkpoints", "again/from-the-model"]),
                         ("grpo-step", TRAIN + ["--from", "again/checkpoints", "--publish", "again/weights"]))
        for program in claim:
            if program.end() not in (0, 7):
                fail(f"the recorded claims could not be trained again: {program.name} ended with {program.process.returncode}")
        versions = sorted(name for name in os.listdir("weights") if name.startswith("v") and int(name[1:]) > 0)
        if len(versions) != len(self.judge.trained):
            fail(f"{len(self.judge.trained)} steps were trained, {len(versions)} versions published")
        for version in versions:
            if not filecmp.cmp(f"weights/{version}/model.safetensors", f"again/weights/{version}/model.safetensors", shallow=False):
                fail(f"{version} differs from the one that an undisturbed trainer makes of the same claims")
        first, last = (open(f"weights/{version}/model.safetensors", "rb").read() for version in (versions[0], versions[-1]))
        if first == last:
            fail("training changed nothing, so that this test shows nothing")
        subprocess.run(["weight-sync", "verify", "-q", "weights"], stdout=subprocess.DEVNULL, check=True)


def main():
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    kills, seed, victims = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    begin = time.monotonic()
    run = Run(kills, seed, victims)
    run.begin()
    run.plain((kills + 1) // 2)
    run.resident(kills // 2)
    run.finish()
    run.train_again()
    judge = run.judge
    print(f"{run.killed.total()} kills in {time.monotonic() - begin:.0f} s (" + ", ".join(f"{name} {count}" for name, count in sorted(run.killed.items())) +
          f"): {len(judge.issued)} rollouts, 0 lost; {len(judge.trained)} steps, 0 rollouts trained twice, weights as undisturbed; "
          f"recovered {judge.recovered} of {judge.generated} emitted tokens")


main()
