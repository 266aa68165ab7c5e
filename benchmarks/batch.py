"""CPU of a prompt in a batch: `AsyncClient.batch`, beside AsyncOpenAI with a semaphore around its calls, on the same server.

    python benchmarks/batch.py [--prompts 2000] [--rounds 3]     # needs the environment: run.py --setup openai
    python benchmarks/batch.py --memory 1000000                  # memory of a generator of so many rows

Each measurement is a process of its own that counts its own CPU time. Exit 1 where prx takes more than a sixth in the same
round, or where a million rows need more memory at their end than near their beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BAR = 6
IN_FLIGHT = 32
GROWTH = 8 << 20  # bytes


def texts(number: int) -> Iterator[str]:
    return (f"Say {place}." for place in range(number))


async def of_prx(url: str, number: int) -> None:
    import prx

    settings = {"providers": {"compatible": {"api_url": f"{url}/events-50/v1", "api_key": "sk-none"}}}
    async with prx.AsyncClient(settings, env={}) as client:
        async for result in client.batch(texts(number), "compatible/m", in_flight=IN_FLIGHT):
            must(result.error is None and result.reply.content == " benchmark" * 50)


async def of_openai(url: str, number: int) -> None:
    import openai

    places = asyncio.Semaphore(IN_FLIGHT)
    async with openai.AsyncOpenAI(base_url=f"{url}/events-50/v1", api_key="sk-none") as client:

        async def one(text: str) -> None:
            async with places:
                made = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
                must(made.choices[0].message.content == " benchmark" * 50)

        await asyncio.gather(*map(one, texts(number)))


SIDES: dict[str, Callable[[str, int], Awaitable[None]]] = {"prx": of_prx, "openai": of_openai}


def must(holds: object) -> None:
    if not holds:
        raise SystemExit("an answer is missing, or is another one")


async def measured(side: str, url: str, number: int) -> float:
    """Microseconds of a prompt, where as many before it have made what is made once."""
    await SIDES[side](url, 200)
    began = time.process_time()
    await SIDES[side](url, number)
    return (time.process_time() - began) / number * 1e6


async def memory(url: str, number: int) -> tuple[int, int]:
    """The most memory that was used, in bytes: after the first twentieth of the rows, and at the end."""
    import prx

    settings = {"providers": {"compatible": {"api_url": f"{url}/events-1/v1", "api_key": "sk-none"}}}
    early, done = 0, 0
    async with prx.AsyncClient(settings, env={}) as client:
        async for _ in client.batch(texts(number), "compatible/m", in_flight=IN_FLIGHT):
            done += 1
            if done == number // 20:
                early = peak()
    return early, peak()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def served() -> Iterator[str]:
    with subprocess.Popen([sys.executable, str(HERE / "server.py")], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def ratios(prompts: int, rounds: int) -> int:
    from run import VENVS, quiet

    pythons = {"prx": Path(sys.executable), "openai": VENVS / "v-openai" / "bin" / "python"}
    if not pythons["openai"].exists():
        say("no environment of openai: python benchmarks/run.py --setup openai")
        return 1
    found = []
    with served() as url:
        for round_ in range(rounds):
            took = {}
            for side in [*SIDES][:: 1 if round_ % 2 else -1]:
                program = [str(pythons[side]), __file__, "--side", side, url, str(prompts)]
                ended = subprocess.run(program, capture_output=True, text=True, check=True, env=quiet())
                took[side] = json.loads(ended.stdout)
            found.append(took["openai"] / took["prx"])
            say(f"prx {took['prx']:,.0f} µs, openai {took['openai']:,.0f} µs a prompt: {found[-1]:.1f} times as much")
    median = statistics.median(found)
    say(f"median: openai takes {median:.1f} times as much; the bar is {BAR}")
    return int(median < BAR)


def flat(number: int) -> int:
    with served() as url:
        early, late = asyncio.run(memory(url, number))
    say(f"{number:,} rows: {early / 1e6:.1f} MB after the first twentieth, {late / 1e6:.1f} MB at the end")
    return int(late - early > GROWTH)


def say(line: Any) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--side"]:
        say(json.dumps(asyncio.run(measured(arguments[1], arguments[2], int(arguments[3])))))
        return 0
    given = dict(zip(arguments[::2], map(int, arguments[1::2]), strict=True))
    if "--memory" in given:
        return flat(given["--memory"])
    return ratios(given.get("--prompts", 2000), given.get("--rounds", 3))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
