"""Callers of every face against `prx serve`, before a server that fails: python tests/slow/gateway_load.py --seconds 600

Half of the calls stream. Every second the configuration and a provider's file change, and some of the files are broken. Some
callers leave: before the first byte, in a stream, in a whole answer. Every other call must end as a success, or as the
error of its face that its fault deserves; no answer may hold a word of another call; the memory and the descriptors of
the process must not grow. Prints a table of faults and what became of them; exit 1 with a sentence where something fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import click
import outcomes
from answers import Answer
from faults import FAULTS, REFUSED
from gateway import FACES, KEY, PROVIDER_KEY, Asked, BrokenError, Connection, Events, Gateway, free_port
from outcomes import STALE
from serving import Process
from watching import Violations, say, settled

PROVIDER = """spec: 1
id: {id}
extends: openai-chat
base_url: {url}
auth: {{style: bearer, env: LOAD_KEY}}
retry: {{times: {retries}, wait: 0.02, max_wait: 0.5}}
request: {{headers: {{x-file: "{version}"}}}}
"""
CONFIG = """[serve]
keys = ["${{CALLER_KEY}}"]
ping = 1
[providers.once]
timeout = {timeout}
model = "m"
[providers.again]
timeout = {timeout}
model = "m"
[providers.limited]
timeout = {timeout}
deadline = 0.7
[providers.refusing]
timeout = {timeout}
[providers.again-{version}]
extends = "again"
model = "m"
"""
FAULTY, LEAVING = 0.05, 0.1
# How a caller leaves: what the server is told meanwhile, and after how many seconds at most.
LEAVES = {
    "before the first byte": ({"fault": "stall before the head", "times": 9}, 0.3),
    "in a stream": ({"pause": 0.02}, None),
    "in a whole answer": ({"fault": "slow drip", "times": 9}, 0.25),
}
STATUS = {
    "connection": {502}, "truncated": {502}, "protocol": {502}, "timeout": {504}, "rate_limit": {429}, "server": {500, 502, 503},
    "bad_request": {400}, "auth": {401}, "not_found": {404},
}  # fmt: skip
TOKEN = re.compile(rb"\bt[0-9a-f]{16}\b")
PATIENCE = 30.0  # seconds beyond which no call may take
FEW = 16  # descriptors by which two quiet moments may differ: connections to the server that are kept
MOST_BYTES = 16 << 20
MEMORY = next(
    (place for place in ("/dev/shm",) if os.access(place, os.W_OK)), None
)  # a slow disk would hold up the callers


class OneCall:
    """One call: drawn, made, and judged."""

    def __init__(self, load, chance):
        self.load, self.chance = load, chance
        self.token = f"t{chance.getrandbits(64):016x}"
        self.name = chance.choice(list(FACES))
        self.face = FACES[self.name]
        self.leaves = chance.choice(list(LEAVES)) if chance.random() < LEAVING else None
        self.fault = chance.choice(list(FAULTS)) if not self.leaves and chance.random() < FAULTY else None
        self.stream = {"in a stream": True, "in a whole answer": False}.get(self.leaves, chance.random() < 0.5)
        self.times, self.model = chance.choice((1, 9)), f"{self._provider()}/m"
        self.answer = Answer(self.token)
        self.events = Events()
        self.text = ""

    def _provider(self):
        if self.fault == REFUSED:
            return "refusing"
        if self.fault and FAULTS[self.fault].deadline:
            return "limited"
        return self.chance.choice(("once", "again"))

    def __str__(self):
        kind = "stream" if self.stream else "whole"
        return f"{self.name} {kind} {self.token} {self.model} (fault {self.fault or 'none'} {self.times} times)"

    async def run(self, connection):
        """Make the call; what became of it in one word."""
        told = {"token": self.token, "fault": self.fault, "times": self.times}
        told |= LEAVES[self.leaves][0] if self.leaves else {}
        path, body = Asked(self.face, self.stream, self.model).request(told)
        await connection.ask(path, body, x_request_id=self.token)
        if self.leaves and (most := LEAVES[self.leaves][1]):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.head(), self.chance.uniform(0, most))
            return self._left(connection)
        await connection.head()
        headers = connection.headers
        self._must(headers.get("x-request-id") == self.token, f"x-request-id is {headers.get('x-request-id')}")
        if self.stream and connection.status == 200:
            return await self._streamed(connection)
        data = b"".join([piece async for piece in connection.body()])
        self._own(data)
        self._must(not any(key in data for key in (KEY.encode(), PROVIDER_KEY.encode())), "a key is in the answer")
        return self._whole(connection, json.loads(data))

    async def _streamed(self, connection):
        async for data in connection.body():
            self._own(data)
            for event in self.events.feed(data):
                self.text += "" if event == "[DONE]" or self.face.fails(event) else self.face.piece(event)
            if self.leaves and self.text:
                self._must(self.answer.text.startswith(self.text), f"another call's text: {self.text!r}")
                return self._left(connection)
        ends = sum(map(self.face.ends, self.events.all))
        fails = [event for event in self.events.all if self.face.fails(event)]
        if fails:
            self._must(not ends and len(fails) == 1, f"{len(fails)} errors and {ends} marks of the end")
            self._must(self.face.fails(self.events.all[-1]), "something follows the error")
            self._must(self.answer.text.startswith(self.text), f"another call's text: {self.text!r}")
            return self._refused(connection, fails[0], started=True)
        self._must(ends == 1, f"{ends} marks of the end")
        return self._right(connection, self.text)

    def _own(self, data):
        others = {found.decode() for found in TOKEN.findall(data)} - {self.token}
        self._must(not others, f"words of other calls: {others}")

    def _left(self, connection):
        connection.close(reset=self.chance.random() < 0.5)
        return "left"

    def _whole(self, connection, answer):
        if connection.status == 200:
            return self._right(connection, self.face.whole(answer))
        self._must(self.face.fails(answer) or "error" in answer, f"an error of no form: {answer}")
        return self._refused(connection, answer, started=False)

    def _right(self, connection, text):
        self._must(text == self.answer.text, f"content: {text!r} is not {self.answer.text!r}")
        attempts, fault = int(connection.headers.get("x-prx-attempts", 1)), FAULTS.get(self.fault)
        failed = fault is not None and not fault.passes
        # Headers that went out with a ping do not know of later attempts.
        pinged = connection.headers.get("x-prx-provider") is None
        self._must(
            not failed or attempts > self.times or (pinged and self.times == 1), "a success, where the server failed"
        )
        return "success" if attempts == 1 else "success, again"

    def _refused(self, connection, answer, *, started):
        kinds = FAULTS[self.fault].kinds if self.fault else frozenset()
        statuses = {status for kind in kinds for status in STATUS[kind]}
        said = answer["error"].get("kind") if self.name == "chat" else None
        if self.fault and said == "connection" and said not in kinds:
            return STALE
        if self.fault and not started and connection.status == 502 and 502 not in statuses:
            return STALE
        good = said in kinds if said else bool(kinds) if started else connection.status in statuses
        status = 200 if started else connection.status
        self._must(good, f"{status}, where {sorted(kinds) or 'a success'} was due: {json.dumps(answer)[:300]}")
        return "an event" if started else f"{status}"

    def _must(self, holds, sentence):
        self.load.violations.must(holds, f"{self}: {sentence}")


class Load:
    """The callers and what became of their calls."""

    def __init__(self, gateway, violations, seed):
        self.gateway, self.violations, self.seed = gateway, violations, seed
        self.outcomes, self.left = defaultdict(Counter), Counter()
        self.faces, self.slowest, self.over = Counter(), (0.0, ""), False

    @property
    def calls(self):
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    async def run(self, callers, seconds, rate):
        self.over, self.seed = False, self.seed + 1
        running = [asyncio.ensure_future(self._caller(place, callers / rate)) for place in range(callers)]
        await asyncio.sleep(seconds)
        self.over = True
        _, late = await asyncio.wait(running, timeout=PATIENCE + 5)
        self.violations.must(not late, f"{len(late)} callers still wait")

    async def _caller(self, place, pause):
        chance, connection = random.Random(self.seed * 1000 + place), None
        while not self.over:
            if connection is None or not connection.kept or chance.random() < 0.3:
                if connection is not None:
                    connection.close()
                connection = await Connection.to(self.gateway.port)
            call, began = OneCall(self, chance), time.monotonic()
            try:
                outcome = await asyncio.wait_for(call.run(connection), PATIENCE)
            except (OSError, EOFError, ValueError, TimeoutError, LookupError, BrokenError) as error:
                outcome = "BROKEN"
                connection.close()
                self.violations.add(f"{call}: {type(error).__name__}: {error}")
            self.outcomes[call.fault or "none"][outcome] += 1
            self.faces[call.name, "stream" if call.stream else "whole"] += 1
            self.left[call.leaves] += outcome == "left"
            self.slowest = max(self.slowest, (time.monotonic() - began, f"{call}: {outcome}"))
            await asyncio.sleep(chance.uniform(0, 2 * pause))
        if connection is not None:
            connection.close()


class Files:
    """The files of the service, and their changes."""

    def __init__(self, folder, url, timeout):
        self.folder, self.timeout, self.version = folder, timeout, 0
        refusing = f"http://127.0.0.1:{free_port()}/v1"
        rows = {"once": (url, 0), "again": (url, 2), "limited": (url, 0), "refusing": (refusing, 0)}
        self.providers = rows
        (folder / "providers.d").mkdir()
        for name in rows:
            self.write(name)
        self.write_config()

    def write(self, name):
        url, retries = self.providers[name]
        text = PROVIDER.format(id=name, url=url, retries=retries, version=self.version)
        self._put(self.folder / "providers.d" / f"{name}.yaml", text)

    def write_config(self):
        self._put(self.folder / "config.toml", CONFIG.format(timeout=self.timeout, version=self.version))

    def _put(self, path, text):
        new = self.folder / "new"
        new.write_text(text)
        new.replace(path)

    def change(self, chance):
        """A new version of the configuration and of a provider's file; now and then one that is broken."""
        self.version += 1
        name = chance.choice(("once", "again"))
        if chance.random() < 0.15:
            self._put(self.folder / "providers.d" / f"{name}.yaml", "spec: 1\nid: [")
        else:
            self.write(name)
        if chance.random() < 0.15:
            self._put(self.folder / "config.toml", "[serve\n")
        else:
            self.write_config()


async def changes(files, gateway, seed):
    """A change each second; a signal now and then, for what is not noticed by itself."""
    chance = random.Random(seed)
    while True:
        await asyncio.sleep(1)
        files.change(chance)
        if chance.random() < 0.2:
            gateway.reload()


class Looks:
    """Memory and descriptors of the process, once a second; and how long anybody waited for an answer that needs no work."""

    def __init__(self, gateway, server):
        self.gateway, self.resident, self.descriptors = gateway, [], []
        self.asked = {"prx": (gateway.port, "/health"), "the server": (server.port, "/v1/figures")}
        self.waited = dict.fromkeys((*self.asked, "the callers"), 0.0)

    async def run(self):
        while True:
            self.resident.append(self.gateway.resident())
            self.descriptors.append(self.gateway.descriptors())
            began = time.monotonic()
            asked = asyncio.gather(*map(self._ask, self.asked))
            await asyncio.sleep(1)
            self._note("the callers", began + 1)
            await asked

    async def _ask(self, name):
        began, (port, path) = time.monotonic(), self.asked[name]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        self._note(name, began)
        writer.close()

    def _note(self, name, began):
        self.waited[name] = max(self.waited[name], time.monotonic() - began)

    def growth(self):
        """(bytes in the second quarter of the time, bytes in the last)."""
        quarter = max(1, len(self.resident) // 4)
        return (
            statistics.median(self.resident[quarter : 2 * quarter] or self.resident),
            statistics.median(self.resident[-quarter:]),
        )

    def minutes(self):
        """What is said of each minute's end."""
        places = range(59, len(self.resident), 60)
        return [f"{self.resident[at] / 1e6:.1f} MB, {self.descriptors[at]} descriptors" for at in places]


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--callers", default=32, show_default=True)
@click.option("--rate", default=100.0, show_default=True, help="Calls a second that are begun, at most.")
@click.option("--timeout", default=3.0, show_default=True, help="The providers', for silence.")
@click.option("--seed", default=1, show_default=True)
def main(seconds, callers, rate, timeout, seed):
    violations = Violations()
    with Process() as server, tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        files = Files(Path(folder), server.url, timeout)
        with Gateway(folder, "") as gateway:
            asyncio.run(judged(gateway, server, files, violations, (seconds, callers, rate, seed)))
            violations.must((code := gateway.end()) == 0, f"prx serve ended with {code}")
            said = gateway.log.read_text()
            violations.must("a bug of prx" not in said and "Traceback" not in said, f"the log: {said[-2000:]}")
            violations.must(not any(key in said for key in (KEY, PROVIDER_KEY)), "a key is in the log")
    raise SystemExit(violations.report())


async def judged(gateway, server, files, violations, asked):
    seconds, callers, rate, seed = asked
    load, looks = Load(gateway, violations, seed), Looks(gateway, server)
    await load.run(callers, min(10.0, seconds / 4), rate)  # what is made once is made before anything is counted
    await asyncio.sleep(min(2.0, seconds / 8))  # connections end
    quiet = gateway.descriptors()
    made, began = load.calls, time.monotonic()
    beside = [asyncio.ensure_future(each) for each in (changes(files, gateway, seed), looks.run())]
    await load.run(callers, seconds, rate)
    for each in beside:
        each.cancel()
    counted, took = load.calls - made, time.monotonic() - began
    judge_end(gateway, files, violations)
    judge_leaks(gateway, server, violations, looks, quiet, seconds)
    outcomes.judge(load, violations)
    table(load)
    waited = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in looks.waited.items())
    say(f"the longest standstill of each process: {waited}")
    for place, said in enumerate(looks.minutes(), 1):
        say(f"minute {place}: {said}")
    say(
        f"{load.calls} calls, {counted / took:.0f} a second, {files.version} changes of files; "
        f"the longest {load.slowest[0]:.1f} s: {load.slowest[1]}"
    )


def judge_end(gateway, files, violations):
    """Nothing runs on, and the last version of all files is in use."""
    for name in files.providers:
        files.write(name)
    files.version += 1
    files.write_config()
    wanted, until = f"again-{files.version}/m", time.monotonic() + 10
    while time.monotonic() < until:
        names = [row["id"] for row in gateway.get("/v1/models")["data"]]
        running = [row for row in gateway.text("/metrics").splitlines() if row.startswith("prx_calls_running")]
        problems = gateway.get("/ready")["problems"]
        if wanted in names and not problems and running[0].endswith(" 0.0"):
            return
        time.sleep(0.1)
    violations.add(f"10 s after the end: {running}, problems {problems}, {wanted} served: {wanted in names}")


def judge_leaks(gateway, server, violations, looks, quiet, seconds):
    after = settled(gateway.descriptors, quiet, 5)
    violations.must(after <= quiet + FEW, f"{quiet} descriptors before, {after} after")
    open_there = server.figures()["open"]
    violations.must(open_there <= FEW + quiet, f"{open_there} connections to the server are still open")
    middle, end = looks.growth()
    violations.must(seconds < 20 or end - middle < MOST_BYTES, f"memory grew from {middle:.0f} to {end:.0f} bytes")
    say(
        f"memory {middle / 1e6:.1f} MB in the second quarter, {end / 1e6:.1f} MB in the last; "
        f"descriptors {quiet} before, at most {max(looks.descriptors)}, {after} after"
    )


def table(load):
    outcomes.table(load)
    say("left: " + ", ".join(f"{how} {count}" for how, count in load.left.items() if how))
    say("faces: " + ", ".join(f"{name} {kind} {count}" for (name, kind), count in sorted(load.faces.items())))


if __name__ == "__main__":
    main()
