"""kill -9 of a server that 200 streams of one client read from: python tests/slow/kill.py --count 200

Each must end, within two seconds, as a truncated error that keeps the text that had come. Nothing may be left over, and
a server that starts again on the same port must serve the same client at once. Exit 1 with a sentence otherwise.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter

import click
from answers import Answer
from load import client_of
from serving import Process
from watching import Violations, blocks, files, say, settled, sockets, threads

import prx

SOON = 2.0  # seconds in which every stream must have ended
FEW = 3  # deltas that each has received before the end


class Reader(threading.Thread):
    """One stream, read until it ends."""

    def __init__(self, client, number):
        super().__init__(daemon=True)
        self.client, self.token = client, f"k{number}"
        self.received, self.has_some = [], threading.Event()
        self.error, self.ended = None, 0.0

    def run(self):
        said = {"token": self.token, "endless": True, "pause": 0.05}
        try:
            with self.client.stream(json.dumps(said), "faulty/m", timeout=60, fallbacks=()) as stream:
                for delta in stream:
                    self.received.append(delta.content)
                    if len(self.received) == FEW:
                        self.has_some.set()
        except Exception as error:  # judged by what it is
            self.error = error
        self.ended = time.monotonic()

    def judge(self, violations, killed):
        must, error, text = violations.must, self.error, "".join(self.received)
        if not isinstance(error, prx.Error):
            return violations.add(f"{self.token}: ended as {error!r}")
        must(error.kind == "truncated", f"{self.token}: {error.kind}: {error!r}")
        must(error.partial is not None and error.partial.content == text, f"{self.token}: the partial text is lost")
        must(text == "".join(f"{self.token}:{place} " for place in range(len(self.received))), f"{self.token}: {text}")
        must(error.attempts == 1, f"{self.token}: {error.attempts} requests, though output had been handed on")
        must(self.ended - killed < SOON, f"{self.token}: ended {self.ended - killed:.2f} s after the kill")
        return None


def asked_again(client, count, violations):
    """As many calls at once, of the server that came back. Seconds they took."""

    def ask(number):
        answer = Answer(f"again{number}")
        try:
            wrong = answer.wrong(client.chat(json.dumps({"token": answer.token}), "faulty/m", retries=0, fallbacks=()))
        except prx.Error as error:
            wrong = repr(error)
        violations.must(not wrong, f"after the restart: {wrong}")

    started = time.monotonic()
    asking = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(count)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
    violations.must(not any(map(threading.Thread.is_alive, asking)), "after the restart a call did not end")
    return time.monotonic() - started


def one_round(server, client, count, violations):
    readers = [Reader(client, number) for number in range(count)]
    for reader in readers:
        reader.start()
    violations.must(all(reader.has_some.wait(30) for reader in readers), "a stream did not begin")
    during = sockets()
    killed = time.monotonic()
    server.kill()
    for reader in readers:
        reader.join(30)
    violations.must(not any(map(threading.Thread.is_alive, readers)), "a stream did not end")
    for reader in readers:
        reader.judge(violations, killed)
    server.start()
    took = asked_again(client, count, violations)
    ends = sorted(reader.ended - killed for reader in readers)
    kinds = Counter(getattr(reader.error, "kind", repr(reader.error)) for reader in readers)
    say(
        f"{count} streams, {sum(len(reader.received) for reader in readers)} deltas, {during} sockets; ended as {dict(kinds)} "
        f"{statistics.median(ends):.3f} s after the kill (median), {ends[-1]:.3f} s at most; "
        f"{count} calls of the restarted server in {took:.2f} s"
    )


@click.command(help=__doc__)
@click.option("--count", default=200, show_default=True, help="Streams at once.")
@click.option("--rounds", default=5, show_default=True, help="Kills.")
def main(count, rounds):
    violations = Violations()
    with Process() as server, client_of(server) as client:
        before = {"threads": threads(), "sockets": sockets(), "files": files()}
        one_round(server, client, count, violations)
        had = blocks()
        for _ in range(rounds - 1):
            one_round(server, client, count, violations)
        left = blocks() - had
        client.close()
        for name, reading in {"threads": threads, "sockets": sockets, "files": files}.items():
            found = settled(reading, before[name])
            violations.must(found <= before[name], f"{name}: {before[name]} before, {found} after client.close()")
        violations.must(left < 5000, f"{rounds - 1} rounds left {left} allocations behind")
        say(f"{left} allocations left by {rounds - 1} rounds after the first")
    raise SystemExit(violations.report())


if __name__ == "__main__":
    main()
