"""docs/architecture.md says which modules a prompt and a byte pass: followed here, and held against the page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from helpers.byte_server import DONE, RawServer, delta, response, stream

import prx

ENGINE = f"{Path(prx.__file__).parent}/"
PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
NOUNS = {"errors", "record", "secret", "wire", "json_text", "chat", "text", "forks"}


def drawn(name):
    """The modules of one of the page's walks."""
    return [line.split()[0] for line in re.search(rf"```{name}\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()]


def walk(work, until=None):
    """The modules of ours whose functions are called, in the order in which each is called first."""
    passed = []

    def watch(frame, event, _argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ENGINE):
            passed.append(code.co_filename[len(ENGINE) : -len(".py")])
            if code.co_qualname == until:
                sys.setprofile(None)

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return [name for name in dict.fromkeys(passed) if name not in NOUNS]


def client(url):
    return prx.Client(config={"providers": {"compatible": {"api_url": url, "api_key": "k"}}}, env={})


def test_a_prompt_on_its_way_out():
    with RawServer(response()) as server, client(server.url) as api:
        api.chat("hi", "compatible/m")
        assert walk(lambda: api.chat("hi", "compatible/m"), until="_send") == drawn("prompt")


def test_a_byte_on_its_way_in():
    pieces = [piece for n in range(12) for piece in (delta(f"word{n} "), 0.05)]
    with RawServer(stream(*pieces, delta("", "stop"), DONE)) as server, client(server.url) as api:
        with api.stream("hi", "compatible/m") as deltas:
            next(deltas)
            parsed = walk(lambda: next(deltas))
            for _ in range(7):
                next(deltas)
            repeated = walk(lambda: next(deltas))
    assert repeated == drawn("byte")
    assert [name for name in parsed if name not in repeated] == drawn("parsed")


def test_the_floors_of_the_page_are_those_of_the_rooms():
    rows = re.findall(r"^\| (\d) \| (.+?) \|", PAGE, re.MULTILINE)
    rooms = {name.strip("/"): int(floor) for floor, names in rows for name in re.findall(r"`([a-z0-9_/]+)`", names)}
    there = {path.stem for path in Path(ENGINE).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms.keys() <= there
    from test_architecture import FLOORS

    assert {name: FLOORS[name] for name in rooms} == rooms
