"""Very many rows by prx batch, killed once on the way and gone on with:

    python tests/slow/many.py --rows 1000000

A server of its own, which costs little, answers each row with its number and counts. No row may be lost or doubled, but for those
that were under way at the kill; memory may grow by a few bytes with each row and no more; and going on has to begin sooner than
asking again would. Exit 1 with a sentence where something fails.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
from batch import Counting
from watching import PAGE, Violations, say

KEY = "sk-many-0123456789"
IN_FLIGHT = 32
BYTES_A_ROW = 40  # by which memory may grow with each row, from a tenth of the rows to their end
SLACK = 16 << 20  # bytes, whatever the number of rows
LOOK = 0.1  # seconds between two looks at a run
SHOWN = (0.1, 0.5, 0.999)  # shares of the rows at which the memory is shown


class Answers(asyncio.Protocol):
    """A connection to the server. asked: how often each row was answered."""

    def __init__(self, asked):
        self._asked, self._come = asked, b""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._come += data
        while (ends := self._come.find(b"\r\n\r\n")) >= 0:
            head = self._come[:ends].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._come) < ends + 4 + length:
                return
            body, self._come = self._come[ends + 4 : ends + 4 + length], self._come[ends + 4 + length :]
            self._answer(int(body.partition(b'"row ')[2].partition(b'"')[0]))

    def _answer(self, row):
        self._asked[row] = min(255, self._asked[row] + 1)
        body = b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
        body += (
            b'"content":"answer to row %d"},"finish_reason":"stop"}],"usage":{"prompt_tokens":4,"completion_tokens":5,'
            % row
        )
        body += b'"total_tokens":9}}'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


def serve(rows):
    """Print the URL, and with each line of standard input how many rows were answered, and how many more than once."""
    asked = bytearray(rows)

    async def main():
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        server = await loop.create_server(lambda: Answers(asked), "127.0.0.1", 0, backlog=1024)
        say(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")

        def told():
            for _ in sys.stdin:
                say(json.dumps([rows - asked.count(0), rows - asked.count(0) - asked.count(1)]))
            loop.call_soon_threadsafe(over.set)

        threading.Thread(target=told, daemon=True).start()
        await over.wait()

    asyncio.run(main())


class Server(Counting):
    """The server above. Its figures: (rows that were answered, rows that were answered more than once)."""

    def __init__(self, rows):
        super().__init__(sys.executable, __file__, "--serve", "--rows", str(rows))


class Run:
    """One process of prx batch, looked at until it ends. resident: [(share of rows that are answered, bytes of memory)]."""

    def __init__(self, folder, server, rows):
        self._folder, self._server, self._rows = folder, server, rows
        self.resident, self.first, self.journal = [], None, 0
        command = [
            sys.executable,
            "-m",
            "prx",
            "batch",
            "in.jsonl",
            "out.jsonl",
            "-m",
            "compatible/m",
            "--resume",
            "--quiet",
        ]
        command += ["--config", "config.toml", "--in-flight", str(IN_FLIGHT)]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        self.began = time.monotonic()

    def watch(self, until=None):
        """Until it ends, or this share of the rows is answered and it is killed."""
        before = self._server.figures()[0]
        while self.process.poll() is None:
            share, memory = self._server.figures()[0] / self._rows, _resident(self.process.pid)
            if self.first is None and share * self._rows > before:
                self.first = time.monotonic() - self.began
            if memory:
                self.resident.append((share, memory))
            journal = self._folder / "out.jsonl.journal"
            self.journal = journal.stat().st_size if journal.exists() else self.journal
            if until is not None and share >= until:
                self.process.kill()
            time.sleep(LOOK)
        self.took = time.monotonic() - self.began
        return self.process.communicate()[1]

    def at(self, share):
        """Bytes of memory when this share of the rows was answered; None where it had ended by then."""
        return next((memory for found, memory in self.resident if found >= share), None)


def _resident(process):
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0  # it has just ended


def asked(violations, rows, seed):
    kill_at = random.Random(seed).uniform(0.6, 0.9)
    with Server(rows) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.toml").write_text(f'[providers.compatible]\napi_url = "{server.url}"\napi_key = "{KEY}"\n')
        with (folder / "in.jsonl").open("w") as file:
            file.writelines(f'{{"id": "q{place}", "prompt": "row {place}"}}\n' for place in range(rows))
        killed = Run(folder, server, rows)
        killed.watch(kill_at)
        done = server.figures()[0]
        again = Run(folder, server, rows)
        said = again.watch()
        answered, doubled = server.figures()
        violations.must(again.process.returncode == 0, f"exit {again.process.returncode}: {said}")
        if again.process.returncode == 0:
            judge(violations, folder, rows)
    if killed.process.returncode == 0:
        violations.add("it was done before it could be killed: give more rows")
        return
    violations.must(answered == rows, f"{answered:,} rows of {rows:,} were asked")
    violations.must(doubled <= IN_FLIGHT, f"{doubled} rows were answered twice, at one kill")
    say(f"killed after {done:,} rows; {doubled} of them were answered again")
    tell(violations, killed, again, done, rows)


def judge(violations, folder, rows):
    """Each row once, in its place, with its own answer."""
    found = wrong = 0
    with (folder / "out.jsonl").open() as file:
        for found, line in enumerate(file, 1):
            row = json.loads(line)
            wrong += (row["id"], row.get("content")) != (f"q{found - 1}", f"answer to row {found - 1}")
    violations.must(found == rows, f"{found:,} rows of {rows:,}")
    violations.must(not wrong, f"{wrong:,} rows are wrong")
    violations.must(not list(folder.glob("out.jsonl.*")), "a journal is left")


def tell(violations, killed, again, done, rows):
    memory = {share: killed.at(share) or again.at(share) for share in SHOWN}
    shown = ", ".join(f"{share:.0%} {size / 1e6:.1f} MB" for share, size in memory.items() if size)
    most = [max(size for _, size in run.resident) for run in (killed, again)]
    say(f"memory at {shown}; the most {most[0] / 1e6:.1f} MB, and {most[1] / 1e6:.1f} MB after the kill")
    begin, end = memory[SHOWN[0]], max(size for share, size in again.resident)
    violations.must(
        begin and end - begin <= rows * BYTES_A_ROW + SLACK, f"memory has grown from {begin:,} to {end:,} bytes"
    )
    took = killed.took - killed.first
    say(
        f"before the first row {killed.first:.1f} s, then {done / took:,.0f} rows a second; journal {again.journal / rows:.0f} bytes a row"
    )
    say(f"going on: {again.first:.1f} s until the first row that was left, {again.took:.1f} s until the end")
    violations.must(again.first < took / 2 + 2, f"{again.first:.1f} s to go on, where asking took {took:.1f} s")


@click.command(help=__doc__)
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--seed", default=1, show_default=True, help="Of the moment of the kill.")
@click.option("--serve", "is_server", is_flag=True, hidden=True)
def main(rows, seed, is_server):
    if is_server:
        serve(rows)
        return
    violations = Violations()
    asked(violations, rows, seed)
    raise SystemExit(violations.report())


if __name__ == "__main__":
    main()
