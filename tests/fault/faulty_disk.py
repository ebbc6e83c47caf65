"""A disk that is full, writes short, fails to write or fails to sync, under every command that writes a buffer and under its hub: what it says, what it
exits with, and that the same on a good disk goes on as if nothing had happened.

faulty_disk.cc pretends the disk; tests/unit/buffer/pretenders.cc generation and training.
"""
import json
import os
import shutil
import time

from pretended_run import Loop, audit, context, fail, good, init, output, prompts, run, stat

SHIM = os.path.join(os.path.dirname(shutil.which("partial-buffer")), "faulty_disk.so")
ENOSPC, EIO = 28, 5
ON_DISK = dict(os.environ, LD_PRELOAD=SHIM)


def disk(words=""):
    """What the disk does from now on; nothing: it is good."""
    with open("fault.new", "w") as file:
        file.write(words)
    os.rename("fault.new", "fault")


def capacity(room):
    """A disk with so much room beyond what is on it."""
    used = sum(os.path.getsize(os.path.join(path, name)) for path, _, names in os.walk("b") for name in names)
    return f"capacity={used + room}"


def summary():
    """Everything about the rollouts that does not depend on when, and in how many attempts, it came to be."""
    keys = ("uid", "group_id", "state", "group_state", "tokens", "reward", "resumes")
    lines = [json.loads(line) for line in output("ls", "--json").splitlines()]
    return stat()["groups"]["queued"], sorted([str(line.get(key)) for key in keys] for line in lines)


def buffer(command, environment=None):
    """Runs that command with the files that a round has for it."""
    arguments, stdin, stdout = {
        "add": (["--prompts", "more.jsonl"], None, None),
        "take": (["--worker", "w"], None, "took"),
        "put": ([], "generated", None),
        "claim": (["--checkpoints", "checkpoints"], None, "claims"),
        "abandon": ([stat()["uncommitted"][0]["claim"] if command == "abandon" and stat()["uncommitted"] else ""], None, None),
        "commit": ([], "steps", None),
        "compact": ([], None, None),
    }[command]
    return run(["partial-buffer", command, "-s", "b", *arguments], environment, stdin, stdout)


def must(command):
    code, said = buffer(command)
    if code != 0:
        fail(f"{command} on a good disk: exit {code}", said)
    if command == "take":
        good(["unit_buffer", "[.generator]", "-o", "/dev/null"], stdin="took", stdout="generated")
    if command == "claim":
        shutil.rmtree("checkpoints", ignore_errors=True)
        good(["unit_buffer", "[.trainer]", "-o", "/dev/null"], stdin="claims", stdout="steps")


ROUND = ["add", "take", "put", "claim", "abandon", "claim", "commit", "compact"]


def record_round():
    """The buffer and the files as they are before each command of a round, and what the round comes to."""
    init()
    prompts("prompts.jsonl", 0, 30)
    prompts("more.jsonl", 30, 40)
    good(["partial-buffer", "add", "-s", "b", "--prompts", "prompts.jsonl"])
    for place, command in enumerate(ROUND):
        shutil.copytree(".", f"../before/{place}", ignore=shutil.ignore_patterns("fault*"))
        must(command)
    return summary()


def restore(place):
    for name in os.listdir("."):
        shutil.rmtree(name) if os.path.isdir(name) else os.remove(name)
    shutil.copytree(f"../before/{place}", ".", dirs_exist_ok=True)


def check(place, words, expected, text, expected_summary):
    """With such a disk the command ends so and says so; on a good one the round goes on from there to its end."""
    command = ROUND[place]
    context[0] = f"{command} on a disk with {words}"
    disk(words)
    code, said = buffer(command, ON_DISK)
    disk()
    if code != expected:
        fail(f"exit {code}, expected {expected}", said)
    if text not in said:
        fail(f"says nothing of {text!r}", said)
    if expected != 0 and ": hint: " not in said:
        fail("gives no hint", said)
    audit()
    # The command once more, as a user would, and the rest of the round. What was added is not added again, what was abandoned not abandoned; both
    # also stand in the journal when only their sync failed.
    done = (code == 0 or words.startswith("sync=")) and command in ("add", "abandon")
    for next_command in ROUND[place + done:]:
        must(next_command)
    audit()
    if summary() != expected_summary:
        fail("the round came to another end than undisturbed", f"{summary()}\ninstead of\n{expected_summary}\n")


def check_commands():
    expected = record_round()
    for place, command in enumerate(ROUND):
        if command == "claim" and place != ROUND.index("claim"):
            continue
        brings_more = command in ("add", "take")
        journal_bytes = os.path.getsize(f"../before/{place}/b/journal/00000001.zst")
        restore(place)
        check(place, "short=7", 0, "", expected)
        restore(place)
        # The reserve makes room for what must be kept; nothing else may use it.
        if command != "compact":
            check(place, capacity(20), 1 if brings_more else 0, "No space left on device", expected)
            restore(place)
            os.remove("b/reserve")
            check(place, capacity(20), 1, "No space left on device", expected)
            restore(place)
            check(place, f"bad_from={journal_bytes + 20} only=/journal/", 1, "Input/output error", expected)
        else:
            for room in (0, 20, 5000):
                check(place, capacity(room), 1, "No space left on device", expected)
                restore(place)
            check(place, "bad_from=20", 1, "Input/output error", expected)
        for error_number, text in ((EIO, "Input/output error"), (ENOSPC, "No space left on device")):
            restore(place)
            check(place, f"sync={error_number}", 1, text, expected)
            # A failed sync is not tried again with the reserve's room.
            if not os.path.exists("b/reserve"):
                fail("the reserve is gone")


def check_hub():
    context[0] = "the hub"
    shutil.rmtree("checkpoints", ignore_errors=True)
    init()
    good(["partial-buffer", "add", "-s", "b", "--prompts", "prompts.jsonl", "--epochs", "1000", "--shuffle", "3"])
    disk()
    loop = Loop(ON_DISK)
    loop.wait_for_steps(2)

    context[0] = "the hub on a full disk"
    disk(capacity(30_000))
    loop.wait("a warning that generators pause", lambda: "generators pause until there is room again" in loop.said())
    loop.wait("a pause", lambda: stat()["groups"]["claimed"] + stat()["groups"]["ready"] < 3)  # what was ready is trained and committed
    before = stat()
    time.sleep(0.5)
    if stat()["groups"]["queued"] != before["groups"]["queued"]:
        fail("more is given out", loop.said())
    if any(program.poll() is not None for program in loop.programs.values()):
        fail("a program ended", loop.said())
    disk()
    loop.wait("generators going on", lambda: "there is room on the disk again" in loop.said())
    loop.wait_for_steps(2)

    context[0] = "the hub with short writes"
    disk("short=5")
    loop.wait_for_steps(2)

    for words, text in ((f"sync={EIO}", "Input/output error"), (f"sync={ENOSPC}", "No space left on device")):
        context[0] = f"the hub on a disk with {words}"
        disk(words)
        loop.end("serve", (1,))
        if "cannot sync" not in loop.said() or text not in loop.said():
            fail("the hub says nothing of it", loop.said())
        audit()
        # It was told to one client, whose pipeline ends; all is started again, on a good disk.
        for name in ("generate", "put", "claim", "train", "commit"):
            loop.programs[name].kill()
            loop.programs[name].wait()
        disk()
        loop = Loop(ON_DISK)
        loop.wait_for_steps(2)

    context[0] = "the hub's end"
    loop.drain()


os.makedirs("commands")
os.makedirs("hub")
os.makedirs("before")
os.chdir("commands")
ON_DISK.update(APRIL_DISK=os.path.abspath("b"), APRIL_FAULT=os.path.abspath("fault"))
check_commands()
os.chdir("../hub")
prompts("prompts.jsonl", 0, 30)
ON_DISK.update(APRIL_DISK=os.path.abspath("b"), APRIL_FAULT=os.path.abspath("fault"))
check_hub()
