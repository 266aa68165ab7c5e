"""What an embedding call of many texts costs beside the same call made with urllib3 and json alone: processor time, side by side.

    python benchmarks/embeddings.py            # 100 texts of 1536 numbers each, as lists and as base64
    python benchmarks/embeddings.py --check    # exit 1 where prx takes more than 1.2 times as much

Both are asked in turns in one process, so that a busy machine slows both; each figure is the median of the turns.
"""

from __future__ import annotations

import base64
import json
import random
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe, Process
from typing import Any

import click
import urllib3

import prx

TEXTS, SIZE, TURNS, LIMIT = 100, 1536, 40, 1.2


def answer(form: str) -> bytes:
    chance = random.Random(1)
    vectors = [[chance.uniform(-0.1, 0.1) for _ in range(SIZE)] for _ in range(TEXTS)]
    packed = [base64.b64encode(struct.pack(f"<{SIZE}f", *vector)).decode() for vector in vectors]
    rows = packed if form == "base64" else vectors
    data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
    return json.dumps({"data": data, "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode()


def serve(said: Any) -> None:
    """Answers by the first part of the path, in a process of its own: its time is not counted."""
    answers = {form: answer(form) for form in ("list", "base64")}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = answers[self.path.split("/")[1]]
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    said.send(server.server_port)
    said.recv()


def with_prx(url: str) -> Callable[[list[str]], Any]:
    client = prx.Client({"providers": {"compatible": {"api_url": f"{url}/v1", "api_key": "sk-none"}}}, env={})
    return lambda texts: client.embed(texts, "compatible/m").vectors


def by_hand(url: str, form: str) -> Callable[[list[str]], Any]:
    """The least that gives the same: lists of numbers, or tuples out of base64."""
    pool = urllib3.PoolManager()
    headers = {"content-type": "application/json", "authorization": "Bearer sk-none"}

    def ask(texts: list[str]) -> Any:
        body = json.dumps({"model": "m", "input": texts}).encode()
        found = json.loads(pool.request("POST", f"{url}/v1/embeddings", body=body, headers=headers).data)
        rows = [row["embedding"] for row in found["data"]]
        return rows if form == "list" else [struct.unpack(f"<{SIZE}f", base64.b64decode(row)) for row in rows]

    return ask


def measured(url: str, form: str) -> tuple[float, float]:
    """Milliseconds of processor time of a call: (with prx, by hand)."""
    ways = (with_prx(f"{url}/{form}"), by_hand(f"{url}/{form}", form))
    texts = [f"the text of number {place}" for place in range(TEXTS)]
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS + 3):
        for way, times in zip(ways, taken, strict=True):
            begun = time.thread_time()
            vectors = way(texts)
            if turn >= 3:
                times.append((time.thread_time() - begun) * 1000)
            assert len(vectors) == TEXTS
    return statistics.median(taken[0]), statistics.median(taken[1])


@click.command()
@click.option("--check", is_flag=True, help="Exit 1 where prx takes more than 1.2 times as much.")
def main(*, check: bool) -> None:
    ours, theirs = Pipe()
    running = Process(target=serve, args=(theirs,), daemon=True)
    running.start()
    url = f"http://127.0.0.1:{ours.recv()}"
    ratios = []
    for form in ("list", "base64"):
        mine, least = measured(url, form)
        ratios.append(mine / least)
        click.echo(f"{form:7} prx {mine:7.2f} ms   urllib3 and json {least:7.2f} ms   ratio {mine / least:.2f}")
    running.terminate()
    sys.exit(check and max(ratios) > LIMIT)


if __name__ == "__main__":
    main()
