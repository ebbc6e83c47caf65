"""Kills the programs of a small run with -9 at random instants, lets it go on, and proves from its journal that nothing was lost or trained twice.

Rounds of plain pipes (as pipelines/round.sh composes them) first, then the resident loop (as pipelines/april.sh does), with the tiny model generating
and training. Now and then a group is dropped, or the run goes back to an older checkpoint; these are killed too. In the end the recorded claims are
trained once more, undisturbed: every version must have the killed run's bits.

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
# Only who stands behind the generator takes something with it that was emitted: at most what two pipes hold, and the programs behind them.
BEHIND_GENERATOR = {"reward-score", "put"}
HELD_BYTES = 4 * 65536

BUFFER = ["partial-buffer"]
GENERATE = ["rollout-gen", "--weights", "weights", "--threads", "1", "--kernels", "portable", "--progress-every", str(PROGRESS_EVERY)]
SCORE = ["reward-score", "--scorer", "regex", "--pattern", "[a-e]", "--model", MODEL]
# With all that a trainer has to remember, or to have again: the schedule's position, moments, old and reference policies.
TRAIN = ["grpo-step", "--model", MODEL, "--lr", "1e-3", "--warmup-steps", "40", "--optimizer-steps", "2", "--kl", "k3", "--kl-coef", "0.01", "--threads", "1",
         "--kernels", "portable", "--checkpoint-every", "2", "--keep-versions", "100000"]


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
        if self.name == "drop" and code == 2:
            return 0  # its group was claimed meanwhile
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
        self.members, self.issued, self.dropped, self.tokens, self.chains = {}, set(), set(), collections.Counter(), {}
        self.claims, self.trained, self.rewinds = {}, {}, 0
        self.emitted_bytes, self.late = 0, collections.Counter()
        self.told = collections.Counter()  # tokens that were counted already
        self.sums, self.most_held_bytes = collections.Counter(), 0

    def read(self):
        for entry in self.journal.new_entries():
            kind = entry["type"]
            if kind == "lease":
                for group in entry["groups"]:
                    self.members[group[0]] = group[3]
                    self.issued.update(group[3])
            elif kind in ("rollout", "progress"):
                uid, tokens, chain = entry["uid"], entry["tokens"], entry["chain"]
                if self.chains.setdefault((uid, tokens), chain) != chain:
                    fail(f"rollout {uid:016x}: two different responses of {tokens} tokens are journaled")
                self.tokens[uid] = max(self.tokens[uid], tokens)
            elif kind == "superseded":
                self.late[entry["uid"]] += entry["tokens"]
            elif kind == "drop":
                self.dropped.update(uid for group in entry["groups"] for uid in self.members[group])
            elif kind == "claim":
                self.claims[entry["claim"]] = (entry["step"], [uid for group in entry["groups"] for uid in group[1]])
                if not self.dropped.isdisjoint(self.claims[entry["claim"]][1]):
                    fail(f"claim {entry['claim']} has rollouts of a dropped group")
            elif kind == "abandon":
                del self.claims[entry["claim"]]
            elif kind == "rewind":
                self.rewinds += 1
                self.claims = {claim: what for claim, what in self.claims.items() if what[0] < entry["to_step"]}
                self.trained = {step: what for step, what in self.trained.items() if step < entry["to_step"]}
            elif kind == "commit":
                step, uids = self.claims[entry["claim"]]
                if self.trained.setdefault(step, (entry["claim"], entry["weights"])) != (entry["claim"], entry["weights"]):
                    fail(f"step {step} was trained twice, by claims or to weights that differ")
        uids = [uid for step in self.trained for uid in self.claims[self.trained[step][0]][1]]
        if len(uids) != len(set(uids)):
            fail("a rollout is in two trained steps")

    def account(self, killed):
        """Behind the end of a generation in which `killed` were: what the generator emitted, and what became of it."""
        with open("emitted", "rb") as file:
            file.seek(self.emitted_bytes)
            data = file.read()
        self.emitted_bytes += len(data)
        records, at = [], 0
        for value, end in values(data):  # a killed writer may have cut its last record; what follows was written by the next
            if isinstance(value, dict) and value.get("type") in ("rollout", "progress"):
                records.append((value["uid"], value.get("start", 0) + len(value["tokens"]) // 4, end - at))
            at = end
        ends, furthest = {}, collections.Counter()
        for uid, end, size in records:
            begin = ends.get(uid, min(self.told[uid], end))
            if end - begin > PROGRESS_EVERY:
                fail(f"rollout {uid:016x}: {end - begin} tokens were generated without a sign of progress, expected {PROGRESS_EVERY} at most")
            ends[uid] = end
            furthest[uid] = max(furthest[uid], end)
        lost = collections.Counter()
        for uid, end in furthest.items():
            # Of a lease that had ended, or of a dropped group: not kept, and counted.
            late = min(self.late[uid], max(0, end - self.tokens[uid]))
            lost[uid] = max(0, end - self.tokens[uid] - late)
            self.sums.update(emitted=max(0, end - self.told[uid]), journaled=max(0, min(end, self.tokens[uid]) - self.told[uid]), late=late)
            self.told[uid] = self.tokens[uid]
        self.late.clear()
        self.sums.update(lost=lost.total(), cuts=len(killed & BEHIND_GENERATOR))
        held_bytes = sum(size for uid, end, size in records if lost[uid] > 0 and end > self.tokens[uid])
        self.most_held_bytes = max(self.most_held_bytes, held_bytes)
        if held_bytes > (HELD_BYTES if killed & BEHIND_GENERATOR else 0):
            fail(f"{lost.total()} tokens that a generator emitted are not in the journal, in {held_bytes} bytes of records; killed: "
                 f"{', '.join(killed) or 'none'}")

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
        dropped = {uid for uid, rollout in listed.items() if rollout["group_state"] == "dropped"}
        if dropped != self.dropped:
            fail(f"{len(dropped ^ self.dropped)} rollouts are dropped by the journal or by ls, but not by both")
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

    def drop(self, store):
        """One group that is open or ready; nothing while there is none."""
        groups = subprocess.run(BUFFER + ["ls", "-q", "-s", "b", "--groups", "--json"], stdout=subprocess.PIPE, check=True).stdout.splitlines()
        names = [group["group_id"] for group in map(json.loads, groups) if group["state"] in ("open", "ready")]
        command = BUFFER + ["drop", "-s", store, "--reason", "test", "--peer-timeout-ms", "2000"]
        return Program("drop", command + [self.random.choice(names)]) if names else None

    def rewind(self, kill):
        """To any whole checkpoint. A killed one is repeated: if it did anything, `claim` refuses the newer checkpoints until then. The published weights
        go back too, or generators would go on with those of the course that was left. Then the run goes another way, or the same one."""
        whole = []
        for name in sorted(os.listdir("checkpoints")):
            if os.path.exists(f"checkpoints/{name}/manifest.json"):
                with open(f"checkpoints/{name}/manifest.json") as file:
                    manifest = json.load(file)
                if manifest["step"] <= stat()["first_uncommitted_step"]:  # else it waits for the commit
                    whole.append((name, str(manifest["version"])))
        if not whole:
            return
        name, version = self.random.choice(whole)
        command = BUFFER + ["rewind", "-s", "b", "--to", f"checkpoints/{name}"]
        rewinds = self.judge.rewinds
        program = Program("rewind", command)
        if kill:
            time.sleep(self.random.uniform(0, 1.1) * self.life["rewind"])
            self.killed["rewind"] += program.kill()
        program.end(good=(0,))
        self.life["rewind"] = self.life["rewind"] if kill else time.monotonic() - program.born
        self.check()
        if program.killed and (self.judge.rewinds > rewinds or self.random.random() < 0.7):
            program = Program("rewind", command)
            program.end(good=(0,))
        if not program.killed:
            subprocess.run(["weight-sync", "publish", "-q", "--model", f"weights/v{version:0>8}", "--to", "weights", "--version", version, "--supersede",
                            "--keep", "100000"], check=True)
        if self.random.random() < 0.5 and (drop := self.drop("b")):
            drop.end(good=(0,))
        self.check()

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
        if self.random.random() < 0.2 and (drop := self.drop("b")):
            programs.append(drop)
        candidates = [program for program in programs if self.may_kill(program)]
        if kill and candidates:
            victim = programs[-1] if programs[-1].name == "drop" and self.may_kill(programs[-1]) else self.random.choice(candidates)
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
        self.judge.account({program.name for program in programs if program.killed})

    def plain(self, kills):
        for _ in range(4):
            self.round(kill=False)
        enough = self.killed.total() + kills
        for attempt in range(100 * kills):
            if self.killed.total() >= enough:
                return
            if (not self.victims or "rewind" in self.victims) and os.path.exists("checkpoints") and self.random.random() < 0.3:
                self.rewind(kill=self.random.random() < 0.8)
            else:
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
            elif self.random.random() < 0.2 and (drop := self.drop(HUB)):
                self.parts["drop"] = [drop]
                time.sleep(self.random.uniform(0, 1.1) * self.life["drop"])
            part, victim = self.random.choice([(part, program) for part in self.parts for program in self.parts[part] if self.may_kill(program)])
            if victim.kill():
                self.killed[victim.name] += 1
            elif part not in ("compact", "drop"):
                fail(f"{victim.name} had ended with {victim.process.returncode} before it was killed")
            for program in self.parts[part] + self.parts.pop("compact", []) + self.parts.pop("drop", []):
                program.end()
            self.check()
            if part == "generation":
                self.judge.account({victim.name})
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
        self.judge.account(set())

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
    judge, sums = run.judge, run.judge.sums
    kills_of = ", ".join(f"{name} {count}" for name, count in sorted(run.killed.items()))
    print(f"{run.killed.total()} kills in {time.monotonic() - begin:.0f} s ({kills_of}): "
          f"{len(judge.issued)} rollouts, 0 lost, {len(judge.dropped)} dropped; {len(judge.trained)} steps after {judge.rewinds} rewinds, "
          "0 rollouts trained twice, weights as undisturbed; "
          f"of {sums['emitted']} emitted tokens {sums['journaled']} journaled, {sums['late']} too late or dropped, {sums['lost']} in pipes that "
          f"{sums['cuts']} kills ended, at most {judge.most_held_bytes} bytes in one; none unsaid beyond {PROGRESS_EVERY} a rollout")


main()
