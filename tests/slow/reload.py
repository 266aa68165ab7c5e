"""10,000 reloads of 50 provider files under 16 threads that call: python tests/slow/reload.py --count 10000

Each reload follows a change: a new version of a file, a broken one, one that is gone or back, a new or broken config.toml.
Every call must succeed, be answered wholly by one version, and by none older than what was good before it began;
nothing may be left over. Then the same with Client(watch=True), which must see a change within a second. Exit 1 with a
sentence where something fails.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import click
from serving import Process
from watching import Sampler, Violations, blocks, files, say, settled, sockets, threads

import prx

FILE = """spec: 1
id: {id}
extends: openai-chat
base_url: {url}/file-{version}/v1
auth: {{style: bearer}}
request:
  headers: {{x-file: "{version}"}}
  body: {{x_file: "{version}"}}
"""
CONFIG = """[providers.{id}]
api_key = "sk-config-{version}"
headers = {{"x-config" = "{version}"}}
"""
BROKEN = {"file": "spec: 1\nid: {id}\nnonsense: [\n", "config": "[providers\n"}
PAUSE = 0.02  # seconds between two calls of a thread: threads that never rest leave the one that reloads no processor
SWITCH = 0.0005  # seconds that a thread keeps the interpreter: with the usual 5 ms, one that reloads waits for it at each file
WATCHED = 1.0  # seconds in which a watching client must have seen a change
MOST_BYTES = 16 << 20


class House:
    """The files, and the versions of them that a call may be answered by."""

    def __init__(self, folder, url, count):
        self.folder, self.url, self.names = Path(folder), url, [f"p{number}" for number in range(count)]
        (self.folder / "providers.d").mkdir()
        self.config = self.folder / "config.toml"
        self.latest, self.good = Counter(), Counter()  # written · taken in by a reload that has ended
        self.away = Counter()  # odd: not there
        for name in self.names:
            self.write(name)
        self.write_config()
        self.good.update(self.latest)

    def path(self, name):
        return self.folder / "providers.d" / f"{name}.yaml"

    def write(self, name):
        self.latest[name] += 1
        self._put(self.path(name), FILE.format(id=name, url=self.url, version=self.latest[name]))

    def write_config(self):
        self.latest["config"] += 1
        text = (CONFIG.format(id=name, version=self.latest["config"]) for name in self.names)
        self._put(self.config, "".join(text))

    def spoil(self, name):
        if name == "config":
            self._put(self.config, BROKEN["config"])
        else:
            self._put(self.path(name), BROKEN["file"].format(id=name))

    def _put(self, path, text):
        """All at once: what is there is always a whole file."""
        new = self.folder / "new"
        new.write_text(text)
        new.replace(path)


class Changes:
    """One change after the other, each with what the reload that follows it must say."""

    def __init__(self, house, chance):
        self.house, self.chance = house, chance
        self.spoiled = set()

    def next(self):
        """Make a change; (its kind, name of the file, whether it must be in problems)."""
        house, name = self.house, self.chance.choice(self.house.names)
        if self.chance.random() < 0.05:
            return self._config()
        if house.away[name] % 2:
            house.write(name)
            return "back", name, False
        if name not in self.spoiled and self.chance.random() < 0.1:
            self.spoiled.add(name)
            house.spoil(name)
            return "broken", name, True
        if name not in self.spoiled and self.chance.random() < 0.05:
            house.away[name] += 1
            house.path(name).unlink()
            return "gone", name, False
        self.spoiled.discard(name)
        house.write(name)
        return "new", name, False

    def _config(self):
        if "config" not in self.spoiled and self.chance.random() < 0.3:
            self.spoiled.add("config")
            self.house.spoil("config")
            return "config broken", "config", True
        self.spoiled.discard("config")
        self.house.write_config()
        return "config new", "config", False


class Callers:
    """Threads that call, each any provider, until told to stop."""

    def __init__(self, client, house, violations):
        self.client, self.house, self.violations = client, house, violations
        self.over, self.outcomes, self._lock = threading.Event(), Counter(), threading.Lock()

    def run(self, number, seed):
        self.running = [
            threading.Thread(target=self._thread, args=(seed + place,), daemon=True) for place in range(number)
        ]
        for thread in self.running:
            thread.start()

    def stop(self):
        self.over.set()
        for thread in self.running:
            thread.join(30)
        self.violations.must(not any(map(threading.Thread.is_alive, self.running)), "a call did not end")

    def _thread(self, seed):
        chance = random.Random(seed)
        while not self.over.is_set():
            try:
                outcome = self._call(chance.choice(self.house.names))
            except Exception as error:  # whatever is not a prx.Error must not leave a call
                outcome = "BROKEN"
                self.violations.add(f"{type(error).__name__}: {error}")
            with self._lock:
                self.outcomes[outcome] += 1
            time.sleep(PAUSE)

    def _call(self, name):
        house, must = self.house, self.violations.must
        away, least = house.away[name], {"file": house.good[name], "config": house.good["config"]}
        try:
            reply = self.client.chat("which version?", f"{name}/m", fallbacks=(), timeout=30)
        except prx.Error as error:
            was_there = away % 2 == 0 and house.away[name] == away
            must(not was_there, f"{name}: {error.kind}: {error}")
            must(was_there or error.kind == "config", f"{name}, while it comes or goes: {error.kind}: {error}")
            return "refused while gone"
        found = json.loads(reply.content)
        for what, version in found.items():
            must(version >= least[what], f"{name}: {what} of version {version}, where {least[what]} had been taken in")
        return "success"


def reloads(client, house, count, violations, seed):
    """So many changes, each with its reload. What was changed, counted; seconds of each reload."""
    changes, counts, took = Changes(house, random.Random(seed)), Counter(), []
    for _ in range(count):
        kind, name, broken = changes.next()
        started = time.monotonic()
        found = client.reload()
        took.append(time.monotonic() - started)
        counts[kind] += 1
        house.away[name] += kind == "back"
        if not broken:
            house.good[name] = house.latest[name]
        judge_renewal(violations, house, found, (kind, name, broken), changes.spoiled)
    return counts, sorted(took)


def judge_renewal(violations, house, found, change, spoiled):
    kind, name, broken = change
    path = str(house.config if name == "config" else house.path(name))
    said = "\n".join(found.problems)
    violations.must((path in said) == broken, f"{kind} {name}: its problems are {found.problems}")
    violations.must(len(found.problems) >= len(spoiled), f"{len(spoiled)} files are broken, told of: {found.problems}")
    listed = {"new": found.changed, "back": found.added, "gone": found.removed}.get(kind, (path,))
    violations.must(path in listed, f"{kind} {name}: not in {found}")


def watched(house, violations, rounds):
    """New versions, and nobody who says reload. Seconds until each was seen, the longest last."""
    took = []
    with prx.Client(house.config, house.folder / "providers.d", env={}, watch=True) as client:
        for number in range(rounds):
            name = house.names[number % len(house.names)]
            house.write(name)
            written = time.monotonic()
            while json.loads(client.chat("?", f"{name}/m", fallbacks=()).content)["file"] != house.latest[name]:
                if time.monotonic() - written > 5 * WATCHED:
                    break
                time.sleep(0.01)
            took.append(time.monotonic() - written)
            violations.must(took[-1] < WATCHED, f"a watching client saw {name} change after {took[-1]:.2f} s")
    return sorted(took)


@click.command(help=__doc__)
@click.option("--count", default=10_000, show_default=True, help="Reloads.")
@click.option("--threads", "number", default=16, show_default=True)
@click.option("--files", "providers", default=50, show_default=True)
@click.option("--rounds", default=20, show_default=True, help="Changes that a watching client must see.")
@click.option("--seed", default=1, show_default=True)
def main(count, number, providers, rounds, seed):
    sys.setswitchinterval(SWITCH)
    violations = Violations()
    server = Process(Path(__file__).with_name("versions.py"))
    with server, tempfile.TemporaryDirectory() as folder:
        house = House(folder, server.url.removesuffix("/v1"), providers)
        before = {"threads": threads(), "sockets": sockets(), "files": files()}
        with prx.Client(house.config, house.folder / "providers.d", env={}) as client:
            under_load(client, house, count, number, violations, seed)
        seen = watched(house, violations, rounds)
        say(f"watch: {rounds} changes seen after {seen[len(seen) // 2]:.2f} s (median), {seen[-1]:.2f} s at most")
        for name, reading in {"threads": threads, "sockets": sockets, "files": files}.items():
            found = settled(reading, before[name])
            violations.must(found <= before[name], f"{name}: {before[name]} before, {found} at the end")
    raise SystemExit(violations.report())


def under_load(client, house, count, number, violations, seed):
    warm = max(1, count // 10)
    calling = Callers(client, house, violations)
    calling.run(number, seed)
    reloads(client, house, warm, violations, seed)
    repaired(house, client)
    with Sampler() as sampler:
        started = time.monotonic()
        counts, took = reloads(client, house, count - warm, violations, seed + 1)
        seconds = time.monotonic() - started
    calling.stop()
    repaired(house, client)
    middle, end = sampler.growth()
    violations.must(count < 1000 or end - middle < MOST_BYTES, f"memory grew from {middle:.0f} to {end:.0f} bytes")
    violations.must(calling.outcomes["success"] > 0, "no call succeeded")
    leaks(client, house, violations)
    say(f"{count} reloads ({', '.join(f'{kind} {many}' for kind, many in sorted(counts.items()))}), {seconds:.0f} s; "
        f"one took {took[len(took) // 2] * 1000:.1f} ms (median), {took[-1] * 1000:.0f} ms at most")  # fmt: skip
    say(
        f"{number} threads: {dict(calling.outcomes)}; memory {middle / 1e6:.1f} MB in the second quarter, {end / 1e6:.1f} MB in the last"
    )


def leaks(client, house, violations, rounds=100):
    """Reloads by themselves: what so many of them leave."""

    def reload():
        house.write(house.names[0])
        client.reload()
        client.chat("which version?", f"{house.names[0]}/m", fallbacks=())

    for _ in range(rounds // 10):
        reload()
    had = blocks()
    for _ in range(rounds):
        reload()
    left = blocks() - had
    violations.must(left < 20 * rounds, f"{rounds} reloads left {left} allocations")
    say(f"{rounds} further reloads left {left} allocations")


def repaired(house, client):
    """Every file there and whole, and taken in."""
    for name in house.names:
        house.write(name)
    house.write_config()
    client.reload()
    for name in house.names:
        house.away[name] += house.away[name] % 2


if __name__ == "__main__":
    main()
