"""Processes that stop for longer than others wait for them, and then go on: a generator beyond its lease, a hub beyond its clients' patience. What they
do late changes nothing, and is counted.
"""
import signal
import time

from pretended_run import HUB, Loop, audit, context, fail, good, init, prompts, run, stat

TERM_MS = 600

prompts("prompts.jsonl", 0, 30)
init()
good(["partial-buffer", "add", "-s", "b", "--prompts", "prompts.jsonl", "--epochs", "1000", "--shuffle", "3"])
loop = Loop(term_ms=TERM_MS)
loop.wait_for_steps(1)

# The sink first, so that records of the generator are on their way when it stops. Another generator gets what it held, and is slow: what comes late was
# not journaled yet.
context[0] = "a generator that stops for longer than its lease"
for attempt in range(20):
    before = stat()["superseded"]["records"]
    loop.signal(signal.SIGSTOP, "put")
    time.sleep(0.05)
    loop.signal(signal.SIGSTOP, "generate")
    loop.wait("the end of its lease", lambda: loop.said().count("generator w was silent for") == attempt + 1)
    other = f"-{attempt}"
    loop.start_generation(other, delay_us=100_000)
    loop.wait("the other's lease", lambda: any(lease["worker"] == "w" + other for lease in stat()["leases"]))
    loop.signal(signal.SIGCONT, "generate", "put")
    loop.wait_for_steps(2)
    loop.end_generation(other)
    if stat()["superseded"]["records"] > before:
        break
else:
    fail("in 20 attempts nothing of the zombie came late", loop.said())
audit()

context[0] = "a hub that stops for longer than a client waits"
loop.signal(signal.SIGSTOP, "serve")
code, said = run(["partial-buffer", "put", "-s", HUB, "--peer-timeout-ms", "300"])
if code != 6 or ": hint: " not in said:
    fail(f"a sink without a hub ended with {code}, expected 6 and a hint", said)
time.sleep(2 * TERM_MS / 1000)
loop.signal(signal.SIGCONT, "serve")
loop.wait_for_steps(2)

context[0] = "a hub that dies and comes back at the same address"
loop.signal(signal.SIGKILL, "serve")
loop.programs["serve"].wait()
time.sleep(0.3)
loop.start("serve", ["partial-buffer", "serve", "-s", "b", "--bind", HUB, "--term-ms", str(TERM_MS)])
loop.wait_for_steps(2)

context[0] = "the end"
loop.drain()
