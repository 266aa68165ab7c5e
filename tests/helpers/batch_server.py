"""A server that allows so many requests a minute and fails some of them in every way: python tests/helpers/batch_server.py.

In a thread of a test (`with BatchServer(…) as server`) or as a process of its own, which prints its port and, at the end of
its standard input, what it has counted. The answer to a prompt names it, so that a doubled or crossed answer is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter

WAYS = ("500", "429", "429 after", "closed", "stall", "broken")


class BatchServer:
    """per_minute: requests that are allowed; share: of requests that fail; headers: say the limit in headers.

    asked, answered   how often each prompt was asked, and answered with 200
    ways              how many requests got what
    """

    def __init__(
        self,
        per_minute=0,
        share=0.0,
        seed=0,
        ways=WAYS,
        burst=10,
        headers=False,
        pause=0.0,
        retry_after="1",
        reply=None,
    ):
        self.rate, self.burst, self.level, self.at = per_minute / 60, burst, float(burst), time.monotonic()
        self.share, self.ways_, self.headers, self.pause = share, ways, headers, pause
        self.retry_after, self.reply = retry_after, reply
        self.chance = random.Random(seed)
        self.asked, self.answered, self.ways = Counter(), Counter(), Counter()
        self.refuse = 0  # a status that everybody gets
        self.bodies, self.running, self.most = [], 0, 0
        self.ready, self.loop = threading.Event(), None

    def __enter__(self):
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self.thread.start()
        self.ready.wait()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()

    async def serve(self):
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self.ready.set()
        await self.over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def connection(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self.one(reader, writer):
                pass
        writer.close()

    async def one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
        body = json.loads(await reader.readexactly(length))
        said = body.get("input") or body["messages"][-1]["content"]
        prompt = said if isinstance(said, str) else json.dumps(said)
        self.asked[prompt] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.pause:
                await asyncio.sleep(self.pause)
            return await self.respond(writer, prompt, body)
        finally:
            self.running -= 1

    async def respond(self, writer, prompt, body):
        way = "limit" if not self.allowed() else ""
        if not way and self.chance.random() < self.share:
            way = self.chance.choice(self.ways_)
        self.ways[way or "200"] += 1
        if self.refuse:
            self.send(writer, self.refuse, b'{"error": {"message": "no", "type": "invalid"}}')
            return True
        if way == "closed":
            return False
        if way == "stall":
            await asyncio.sleep(3600)
        if way == "broken":
            self.send(writer, 200, b'{"choices": [{"index": 0, "mess')
            return True
        if way:
            after = (
                {"retry-after": self.retry_after} if way == "429 after" or (way == "limit" and self.retry_after) else {}
            )
            status = 500 if way == "500" else 429
            kind = "rate_limit_exceeded" if status == 429 else "server_error"
            self.send(writer, status, json.dumps({"error": {"message": way, "type": kind}}).encode(), after)
            return True
        self.bodies.append(body)
        self.answered[prompt] += 1
        self.send(writer, 200, self.answer(prompt, body))
        return True

    def answer(self, prompt, body):
        usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": 5, "total_tokens": len(prompt) // 4 + 6}
        if "input" in body:
            inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [
                {"object": "embedding", "index": place, "embedding": [float(len(text)), 1.0]}
                for place, text in enumerate(inputs)
            ]
            return json.dumps({"object": "list", "model": "m", "data": data, "usage": usage}).encode()
        content = self.reply(prompt) if self.reply else f"answer to {prompt}"
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        return json.dumps(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        ).encode()

    def allowed(self):
        if not self.rate:
            return True
        now = time.monotonic()
        self.level, self.at = min(self.burst, self.level + (now - self.at) * self.rate), now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def send(self, writer, status, body, headers=()):
        lines = dict(headers)
        if self.headers and self.rate:
            lines |= {
                "x-ratelimit-limit-requests": f"{self.rate * 60:.0f}",
                "x-ratelimit-remaining-requests": f"{self.level:.0f}",
                "x-ratelimit-reset-requests": f"{(self.burst - self.level) / self.rate * 1000:.0f}ms",
            }
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{text}\r\n".encode()
            + body
        )

    def figures(self):
        return {
            "asked": sum(self.asked.values()),
            "ways": dict(self.ways),
            "doubled": sum(n > 1 for n in [*self.answered.values()]),  # a copy: it changes meanwhile
            "answered": len(self.answered),
            "most": self.most,
        }


def main():
    options = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    with BatchServer(**options) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        for _ in sys.stdin:  # each line asks for the figures
            sys.stdout.write(json.dumps(server.figures()) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
