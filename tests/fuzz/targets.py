"""What is fuzzed: each target takes bytes and holds prx to its laws; its seeds are the project's own files.

The first byte of an input chooses the kind (a framing, a dialect, a file), the second how it is cut. A corpus is
one file of JSON texts, a line each; a character is a byte.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import yaml
from helpers import properties, recordings

from prx.core.framing import FRAMINGS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_FIRST = ord("0")
_FILES: tuple[Callable[[bytes], object], ...] = (properties.provider_file, properties.config_file, properties.case_file)
_ANSWERS = tuple(
    (name, stream) for name in (*properties.DIALECT_NAMES, *properties.UNRECORDED) for stream in (False, True)
)


def spec(data: bytes) -> None:
    """The text of a provider's file, of a config.toml, or of a case."""
    _FILES[data[0] % len(_FILES)](data[1:])


def framing(data: bytes) -> None:
    """Bytes and cuts, through each framer."""
    names, body = list(FRAMINGS), data[2:]
    properties.framed_alike(names[(data[0] - _FIRST) % len(names)], body, _cut(data[1], body), limit=4096)


def decoder(data: bytes) -> None:
    """Bytes and cuts, as a body and as a stream of each dialect."""
    name, stream = _ANSWERS[(data[0] - _FIRST) % len(_ANSWERS)]
    properties.read_alike(name, data[2:], _cut(data[1], data[2:]), stream=stream)


def expression(data: bytes) -> None:
    """The text of one expression, or of several with line breaks between."""
    texts = data.decode("utf-8", "surrogateescape").split("\n")
    taken = [text for text in texts[:4] if properties.as_jmespath(text)]
    if len(taken) > 1:
        properties.alone_and_together(taken)


# The words of pieces of tool calls; a byte chooses one of each two rows.
_INDEXES, _IDS, _ITEMS = (None, 0, 1, 2), (None, "", "c1", "c2"), (None, None, "it1", "it2")
_NAMES = (None, "", "f", "g", "free", "ge", "get_time", None)
_VALUES = ("", "{", "}", '{"a":', "1}", '{"a":1}', "{}", " ", '"', "[", "]", ":1}", '{"a"', '{"b":2}', "NaN", "\\")


def toolcalls(data: bytes) -> None:
    """Pieces of tool calls: of two bytes the first says which call, the second its name and arguments."""
    pieces = [
        (_INDEXES[who & 3], _ITEMS[who >> 4 & 3], _IDS[who >> 2 & 3], _NAMES[says >> 4 & 7], _VALUES[says & 15])
        for who, says in zip(data[:400:2], data[1:400:2], strict=False)
    ]
    properties.joined(pieces)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "spec": spec,
    "framing": framing,
    "decoder": decoder,
    "expression": expression,
    "toolcalls": toolcalls,
}


def run(name: str, data: bytes) -> None:
    """Play one input; anything raised is a fault. Too short to say what it is: nothing to play."""
    if len(data) > 1:
        TARGETS[name](data)


def _cut(seed: int, body: bytes) -> list[bytes]:
    """Byte by byte for some seeds and small bodies, else at a few places."""
    if seed % 4 == 0 and len(body) <= 512:
        return properties.singles(body)
    chance = random.Random(seed)
    return properties.pieces(body, [chance.randrange(len(body) + 1) for _ in range(1 + seed % 7)])


# ------------------------------------------------------------------ seeds


def _spec_seeds() -> Iterator[bytes]:
    for place, paths in enumerate((("providers.d/**/*.yaml", "tests/specs/**/*.yaml"), (), ("tests/cases/*.yaml",))):
        for path in (path for pattern in paths for path in sorted(ROOT.glob(pattern))):
            yield _mark(place) + path.read_bytes()
    yield _mark(1) + _CONFIG.encode()


_CONFIG = """[default]
provider = "compatible"
model = 'm'
[providers.compatible]
api_url = "http://localhost:8000/v1" # a server
api_key = "${NAME}"
auth_style = "custom"
auth_name = "x-key"
headers = {"x-a" = "b"}
timeout = 1.5
[[model_routes]]
pattern = "fast/*"
provider = "compatible"
[images]
urls = true
"""


def _framing_seeds() -> Iterator[bytes]:
    for path in sorted((ROOT / "tests" / "framing").glob("*.yaml")):
        for case in yaml.safe_load(path.read_text()):
            place = list(FRAMINGS).index(case.get("framing", "sse"))
            yield _mark(place) + b"\1" + case["bytes"].encode("latin-1").decode("unicode_escape").encode("latin-1")


def _decoder_seeds() -> Iterator[bytes]:
    for answer in recordings.answers():
        yield _mark(_ANSWERS.index((answer.dialect, answer.stream))) + b"\1" + answer.body


def _expression_seeds() -> Iterator[bytes]:
    texts: set[str] = set()
    for path in sorted(ROOT.glob("providers.d/**/*.yaml")):
        texts.update(text for text in _texts(yaml.safe_load(path.read_text())) if len(text) < 500)
    for path in sorted((ROOT / "tests" / "lang").glob("*.yaml")):
        texts.update(_texts([group["cases"] for group in yaml.safe_load(path.read_text())]))
    yield from (text.removeprefix("=").encode() for text in sorted(texts))


def _toolcalls_seeds() -> Iterator[bytes]:
    for case in yaml.safe_load((ROOT / "tests" / "toolcalls.yaml").read_text()):
        with suppress(ValueError):  # a case of other words
            yield bytes(byte for element in case["add"] for byte in _two_bytes(*element))


def _two_bytes(index: object, given: object, name: object, arguments: object, item: object = None) -> tuple[int, int]:
    who = _INDEXES.index(index) | _IDS.index(given) << 2 | _ITEMS.index(item) << 4
    return who, _NAMES.index(name) << 4 | _VALUES.index(arguments or "")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(item)


def _mark(place: int) -> bytes:
    return bytes([_FIRST + place])


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "spec": _spec_seeds,
    "framing": _framing_seeds,
    "decoder": _decoder_seeds,
    "expression": _expression_seeds,
    "toolcalls": _toolcalls_seeds,
}


# ------------------------------------------------------------------ the kept corpus


def kept(name: str) -> list[bytes]:
    """The inputs that are kept because each reaches something that no other one does, and past faults."""
    path = HERE / "corpus" / f"{name}.jsonl"
    return [json.loads(line).encode("latin-1") for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, inputs: list[bytes]) -> Path:
    path = HERE / "corpus" / f"{name}.jsonl"
    path.write_text("".join(f"{json.dumps(data.decode('latin-1'))}\n" for data in sorted(inputs)))
    return path
