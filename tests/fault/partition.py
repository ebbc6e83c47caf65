"""A network between generator, sink and hub that carries nothing for longer than a lease, and then everything at once; and one that breaks at any byte.
What was leased meanwhile to others stays theirs, what comes late is counted, and nobody has to be started again.
"""
import random
import socket
import threading
import time

from pretended_run import HUB, Loop, audit, context, fail, good, init, prompts, run, stat

TERM_MS = 600


class Network:
    """Whoever connects to the socket `name` is connected to "hub", as long as the network carries anything."""

    def __init__(self, name):
        self.address, self.carries, self.connections, self.lock = "zmq+ipc://" + name, threading.Event(), set(), threading.Lock()
        self.carries.set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(name)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, far = self.listener.accept()[0], socket.socket(socket.AF_UNIX)
            try:
                far.connect("hub")
            except OSError:
                near.close()
                continue
            with self.lock:
                self.connections.add((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    def carry(self, source, sink):
        try:
            # A few bytes at a time, so that a cut falls into the middle of messages.
            while piece := source.recv(random.randrange(1, 400)):
                self.carries.wait()
                sink.sendall(piece)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        with self.lock:
            for pair in self.connections:
                for end in pair:
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
            self.connections.clear()


random.seed(1)
prompts("prompts.jsonl", 0, 30)
init()
good(["partial-buffer", "add", "-s", "b", "--prompts", "prompts.jsonl", "--epochs", "1000", "--shuffle", "3"])
loop = Loop(term_ms=TERM_MS)
generators, sinks = Network("far-generators"), Network("far-sinks")

context[0] = "a network that carries nothing for longer than a lease"
loop.start_generation("-far", hub=generators.address, put_hub=sinks.address)
loop.end_generation("")
for attempt in range(20):
    before = stat()["superseded"]["records"]
    loop.wait("a lease far away", lambda: any(lease["worker"] == "w-far" for lease in stat()["leases"]))
    sinks.carries.clear()  # first, so that there are records that come late
    time.sleep(0.05)
    generators.carries.clear()
    loop.wait("the end of its lease", lambda: loop.said().count("generator w-far was silent for") == attempt + 1)
    # Slow, so that what comes late was not journaled yet.
    other = f"-{attempt}"
    loop.start_generation(other, delay_us=100_000)
    loop.wait("the other's lease", lambda: any(lease["worker"] == "w" + other for lease in stat()["leases"]))
    if attempt == 0:
        code, said = run(["partial-buffer", "put", "-s", sinks.address, "--peer-timeout-ms", "300"])
        if code != 6 or ": hint: " not in said:
            fail(f"a sink that reaches no hub ended with {code}, expected 6 and a hint", said)
    generators.carries.set()
    sinks.carries.set()
    loop.wait_for_steps(2)
    loop.end_generation(other)
    if stat()["superseded"]["records"] > before:
        break
else:
    fail("in 20 attempts nothing came late", loop.said())
audit()

context[0] = "a network that breaks again and again"
for _ in range(50):
    time.sleep(random.random() * 0.05)
    generators.cut()
    sinks.cut()
loop.wait_for_steps(2)
audit()

context[0] = "the end"
loop.drain()
