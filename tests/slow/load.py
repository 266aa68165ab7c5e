"""64 threads on one client, against a server that fails in every way: python tests/slow/load.py --seconds 60

Half of the calls stream; some have tools, some a deadline, some are left in the middle. Every call must end as a
success or as the prx.Error that its fault deserves; no answer may hold a word of another call; memory, threads and
sockets must not grow. Prints a table of faults and what became of them; exit 1 with a sentence where something fails.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import click
import outcomes
from answers import TOOL, Answer
from faults import FAULTS, REFUSED
from outcomes import STALE
from serving import Process
from watching import Sampler, Violations, blocks, files, resident, say, settled, sockets, threads

import prx

SPEC = """spec: 1
id: {id}
extends: openai-chat
base_url: {url}
auth: {{style: bearer, env: LOAD_KEY}}
retry: {{times: 2, wait: 0.02, max_wait: 0.5}}
"""
KEY = "sk-load-0123456789abcdef"
FAULTY = 0.05
FEW = 8  # sockets beyond one a thread
MOST_BLOCKS = 0.5  # allocations that a call may leave behind: less than one, for what is cached is not a call's
MOST_BYTES = 16 << 20  # by which memory may differ between the middle and the end: allocators keep what they had


class Load:
    """What every thread shares: the client, the counts, the sentences of what went wrong."""

    def __init__(self, client, timeout, violations):
        self.client, self.timeout, self.violations = client, timeout, violations
        self.outcomes = defaultdict(Counter)
        self.slowest = 0.0
        self.over = threading.Event()
        self._lock = threading.Lock()

    def thread(self, number, seed):
        chance = random.Random(seed * 1000 + number)
        while not self.over.is_set():
            call = OneCall(self, chance)
            started = time.monotonic()
            try:
                outcome = call.run()
            except Exception as error:  # whatever is not a prx.Error must not leave a call
                outcome = "BROKEN"
                self.violations.add(f"{call}: {type(error).__name__}: {error}")
            with self._lock:
                self.outcomes[call.fault or "none"][outcome] += 1
                self.slowest = max(self.slowest, time.monotonic() - started)

    def run(self, number, seconds, seed):
        """So many threads for so long."""
        self.over.clear()
        running = [threading.Thread(target=self.thread, args=(place, seed), daemon=True) for place in range(number)]
        for thread in running:
            thread.start()
        time.sleep(seconds)
        self.over.set()
        until = time.monotonic() + 30 + 3 * self.timeout
        for thread in running:
            thread.join(max(0.0, until - time.monotonic()))
        self.violations.must(not any(map(threading.Thread.is_alive, running)), "a call did not end in time")

    @property
    def calls(self):
        return sum(sum(counts.values()) for counts in self.outcomes.values())


class OneCall:
    """One call: drawn, made, and judged."""

    def __init__(self, load, chance):
        self.load, self.violations = load, load.violations
        self.token = f"t{chance.getrandbits(64):016x}"
        self.fault = chance.choice(list(FAULTS)) if chance.random() < FAULTY else None
        self.times = chance.choice((1, 9))
        self.retries = chance.randrange(3) if self.fault else 2
        self.stream, tools, self.leave = chance.random() < 0.5, chance.random() < 0.3, chance.random() < 0.1
        self.deadline = FAULTS[self.fault].deadline if self.fault else (30.0 if chance.random() < 0.2 else None)
        self.pause = 0.002 if self.stream and (self.leave or chance.random() < 0.02) else 0.0
        self.answer = Answer(self.token, tools)
        self.received = []

    def __str__(self):
        kind = "stream" if self.stream else "chat"
        return f"{kind} {self.token} (fault {self.fault or 'none'} {self.times} times, {self.retries} retries)"

    def run(self):
        """Make the call; what became of it in one word."""
        try:
            return self._streamed() if self.stream else self._judged(self.load.client.chat(**self._asked()))
        except prx.Error as error:
            return self._refused(error)

    def _asked(self):
        said = {"token": self.token, "fault": self.fault, "times": self.times, "pause": self.pause}
        return {
            "messages": [{"role": "user", "content": json.dumps(said)}],
            "model": f"{'refusing' if self.fault == REFUSED else 'faulty'}/m",
            "tools": [TOOL] if self.answer.tools else None,
            "timeout": self.load.timeout,
            "deadline": self.deadline,
            "retries": self.retries,
            "fallbacks": (),
        }

    def _streamed(self):
        with self.load.client.stream(**self._asked()) as stream:
            for delta in stream:
                self.received.append(delta.content or "")
                if self.leave and len(self.received) == 2:
                    self._must(not self.answer.strange(stream.partial), self.answer.strange(stream.partial))
                    return "left"
        self._must("".join(self.received) == stream.reply.content, "the pieces are not the reply")
        return self._judged(stream.reply)

    def _judged(self, reply):
        wrong = self.answer.wrong(reply)
        self._must(not wrong, wrong)
        attempt = int(reply.request_id.rpartition("-")[2])
        self._must(attempt <= 1 + self.retries, f"answered at attempt {attempt}")
        fault = FAULTS.get(self.fault)
        self._must(fault is None or fault.passes or attempt > self.times, "a success, where the server had failed")
        return "success" if attempt == 1 else "success, again"

    def _refused(self, error):
        self._must(error.attempts <= 1 + self.retries, f"{error.attempts} attempts")
        kinds = FAULTS[self.fault].kinds if self.fault else frozenset()
        if error.kind == "connection" and self.fault and "connection" not in kinds:
            return STALE
        self._must(error.kind in kinds, f"{error.kind}: {error!r}, where {sorted(kinds) or 'a success'} was due")
        self._must(KEY not in f"{error}{error!r}", "the key is in the error")
        text = error.partial.content if error.partial else ""
        self._must("".join(self.received) == text or not self.stream, f"partial {text!r}, received {self.received}")
        if error.partial:
            self._must(not self.answer.strange(error.partial), self.answer.strange(error.partial))
        return error.kind

    def _must(self, holds, sentence):
        self.violations.must(holds, f"{self}: {sentence}")


@contextlib.contextmanager
def client_of(server):
    """A client of the server, and of a port where nobody listens."""
    with socket.socket() as unheard, tempfile.TemporaryDirectory() as folder:
        unheard.bind(("127.0.0.1", 0))
        urls = {"faulty": server.url, "refusing": f"http://127.0.0.1:{unheard.getsockname()[1]}/v1"}
        for name, url in urls.items():
            (Path(folder) / f"{name}.yaml").write_text(SPEC.format(id=name, url=url))
        with prx.Client(config={}, providers=folder, env={"LOAD_KEY": KEY}) as client:
            yield client


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--threads", "number", default=64, show_default=True)
@click.option("--timeout", default=3.0, show_default=True, help="The client's, for silence.")
@click.option("--seed", default=1, show_default=True)
def main(seconds, number, timeout, seed):
    violations = Violations()
    with Process() as server, client_of(server) as client:
        before = {"threads": threads(), "sockets": sockets(), "files": files()}
        load = Load(client, timeout, violations)
        load.run(number, min(5.0, seconds / 4), seed)  # what is made once is made before allocations are counted
        client.close()
        before["blocks"] = blocks()
        made, started = load.calls, time.monotonic()
        with Sampler() as sampler:
            load.run(number, seconds, seed + 1)
        counted, took = load.calls - made, time.monotonic() - started
        seen = server.figures()
        client.close()
        judge_leaks(violations, before, sampler, number, counted, seconds)
    judge_server(violations, load, seen)
    outcomes.table(load)
    say(f"{load.calls} calls, {counted / took:.0f} a second, the longest {load.slowest:.1f} s; the server saw {seen}")
    raise SystemExit(violations.report())


def judge_leaks(violations, before, sampler, number, counted, seconds):
    after = {
        "threads": settled(threads, before["threads"]),
        "sockets": settled(sockets, before["sockets"]),
        "files": settled(files, before["files"]),
    }
    for name, found in after.items():
        violations.must(found <= before[name], f"{name}: {before[name]} before, {found} after client.close()")
    left = (blocks() - before["blocks"]) / max(1, counted)
    violations.must(left * counted < 5000 or left < MOST_BLOCKS, f"a call leaves {left:.2f} allocations behind")
    most = max(sampler.sockets, default=0)
    violations.must(most <= before["sockets"] + number + FEW, f"{most} sockets at once for {number} threads")
    most_threads = max(sampler.threads, default=0)
    allowed = before["threads"] + number + 2  # the sampler and the watchdog
    violations.must(most_threads <= allowed, f"{most_threads} threads at once")
    middle, end = sampler.growth()
    violations.must(seconds < 20 or end - middle < MOST_BYTES, f"memory grew from {middle:.0f} to {end:.0f} bytes")
    say(
        f"memory {middle / 1e6:.1f} MB in the second quarter, {end / 1e6:.1f} MB in the last, {resident() / 1e6:.1f} MB after; "
        f"{left:.3f} allocations left a call; at most {most} sockets, {most_threads} threads; after close: {after}"
    )


def judge_server(violations, load, seen):
    violations.must(seen["most_attempts"] <= 3, f"the server saw {seen['most_attempts']} requests for one call")
    outcomes.judge(load, violations)


if __name__ == "__main__":
    main()
