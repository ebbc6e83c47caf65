"""A small run whose generator and trainer are pretended (tests/unit/buffer/pretenders.cc), for tests that make it fail."""
import atexit
import json
import os
import signal
import subprocess
import sys
import time

MODEL = os.environ["APRIL_SOURCE"] + "/tests/data/tiny-model"
HUB = "zmq+ipc://hub"
LIMIT_S = 20  # for anything that has to end
os.environ.update(APRIL_PRETEND="1", APRIL_STORE="b", APRIL_CHECKPOINTS="checkpoints", APRIL_ROUNDS="20")
context = ["setting up"]  # what is tried at the moment, for messages
started = []


@atexit.register
def kill_what_is_left():
    for program in started:
        program.kill()


signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))


def fail(what, said=""):
    print(f"{context[0]}: {what}\n{said}", end="")
    sys.exit(1)


def run(command, environment=None, stdin=None, stdout=None):
    """Exit code, and what was said."""
    with open(stdin or os.devnull, "rb") as source, open(stdout or os.devnull, "wb") as sink:
        done = subprocess.run(command, stdin=source, stdout=sink, stderr=subprocess.PIPE, text=True, env=environment, timeout=LIMIT_S)
    return done.returncode, done.stderr


def good(*arguments, **options):
    code, said = run(*arguments, **options)
    if code != 0:
        fail(f"exit {code} of: {' '.join(arguments[0])}", said)
    return said


def output(*arguments):
    return subprocess.run(["partial-buffer", *arguments, "-q", "-s", "b"], stdout=subprocess.PIPE, check=True, timeout=LIMIT_S).stdout


def stat():
    return json.loads(output("stat", "--json"))


def audit():
    good(["partial-buffer", "audit", "-s", "b"])
    good(["unit_buffer", "[.auditor]", "-o", "/dev/stderr"])


def prompts(name, first, last):
    with open(name, "w") as file:
        file.writelines(json.dumps({"prompt": str(i), "label": str(i)}) + "\n" for i in range(first, last))


def init(*arguments):
    good(["partial-buffer", "init", "-s", "b", "--model", MODEL, "--group-size", "4", "--groups-per-step", "3", "--in-flight", "24", "--max-tokens", "64",
          "--retain-steps", "100000", "--seed", "1", *arguments])


class Loop:
    """The resident loop around a hub; the hub's environment may differ."""

    def __init__(self, environment=None, term_ms=2000):
        self.programs, self.log = {}, open("log", "w+")
        self.start("serve", ["partial-buffer", "serve", "-s", "b", "--bind", HUB, "--term-ms", str(term_ms)], environment=environment)
        self.start_generation("")
        claim = self.start("claim", ["partial-buffer", "claim", "-s", HUB, "--follow", "--steps", "100000", "--checkpoints", "checkpoints"], subprocess.PIPE)
        trainer = self.start("train", ["unit_buffer", "[.trainer]", "-o", "/dev/null"], subprocess.PIPE, stdin=claim.stdout)
        self.start("commit", ["partial-buffer", "commit", "-s", HUB], stdin=trainer.stdout)

    def start_generation(self, which, delay_us=1000, hub=HUB, put_hub=HUB):
        """A generator and its sink; `which` tells them from others. It waits so long between two rounds of a few tokens for every rollout."""
        generator = self.start("generate" + which, ["unit_buffer", "[.generator]", "-o", "/dev/null"], subprocess.PIPE,
                               environment=dict(os.environ, APRIL_HUB=hub, APRIL_DELAY_US=str(delay_us), APRIL_WORKER="w" + which))
        self.start("put" + which, ["partial-buffer", "put", "-s", put_hub], stdin=generator.stdout)

    def end_generation(self, which):
        """In order: its end gives back what it held."""
        self.signal(signal.SIGTERM, "generate" + which)
        for name in ("generate" + which, "put" + which):
            self.end(name, (0, 75))

    def start(self, name, command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, environment=None):
        self.programs[name] = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=self.log, env=environment)
        started.append(self.programs[name])
        if stdin != subprocess.DEVNULL:
            stdin.close()
        return self.programs[name]

    def said(self):
        with open("log") as file:
            return file.read()

    def wait(self, what, condition):
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > deadline:
                fail(f"{LIMIT_S} s went by without: {what}", self.said())
            time.sleep(0.02)

    def wait_for_steps(self, count):
        target = stat()["first_uncommitted_step"] + count
        self.wait(f"{count} steps", lambda: stat()["first_uncommitted_step"] >= target)

    def signal(self, number, *names):
        for name in names:
            self.programs[name].send_signal(number)

    def end(self, name, expected):
        try:
            code = self.programs[name].wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            fail(f"{name} did not end", self.said())
        if code not in expected:
            fail(f"{name} ended with {code}", self.said())

    def drain(self):
        self.signal(signal.SIGTERM, "serve")
        for name in list(self.programs):
            self.end(name, (0, 75))
        if stat()["rollouts"]["leased"] != 0:
            fail("rollouts are leased in the end", self.said())
        audit()
