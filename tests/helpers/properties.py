"""What must hold of any input at all, as functions of plain data: for the property tests, the fuzzers and the judges.

Each raises AssertionError, or whatever prx let out, where its law does not hold; and gives what it found where it does.
"""

from __future__ import annotations

import atexit
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import Options

from helpers import driver_without_io
from prx.accounts import config
from prx.accounts.account import Account, open_account
from prx.accounts.config import Settings
from prx.accounts.keys import Asked
from prx.chat import Call, Delta, Reply, ToolCall, ToolCallDelta, plain
from prx.conformance import cases
from prx.core.decode import Decoder
from prx.core.fault import refused
from prx.core.framing import FRAMINGS, frames_in
from prx.core.request import build
from prx.core.toolcalls import Piece, ToolCalls
from prx.errors import KINDS, Error
from prx.lang import query
from prx.lang.functions import SpecFunctions
from prx.lang.template import holds
from prx.spec.definition import Definition, Entry
from prx.spec.loader import Loader
from prx.spec.model import Spec
from prx.spec.read import _parsed as read_by_pyyaml
from prx.spec.read import parse_strictly
from prx.wire import Head, Target

DIALECT_NAMES = ("openai-chat", "openai-responses", "anthropic-messages", "gemini", "cohere-v2", "ollama")
UNRECORDED = ("bedrock-converse",)  # nobody with a key has recorded it yet; tests/test_converse_by_hand.py
KEY = "sk-played-key"
TESTS = Path(__file__).resolve().parents[1]
SPECS, CASES = TESTS / "specs", TESTS / "cases"
ASKED = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FREE = {"type": "custom", "custom": {"name": "g"}}


class Outcome(NamedTuple):
    """How an answer was read."""

    deltas: tuple[Delta, ...]
    reply: Reply
    error: Error | None

    @property
    def text(self) -> str:
        return "".join(delta.content or "" for delta in self.deltas)

    @property
    def thought(self) -> str:
        return "".join(delta.reasoning or "" for delta in self.deltas)

    def same(self) -> tuple[Any, ...]:
        """What must not depend on how the bytes were cut."""
        error = (self.error.kind, self.error.message, self.error.status) if self.error else None
        return repr(plain(self.deltas)), repr(plain(self.reply)), error


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The data, cut at these places."""
    places = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def singles(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


# ------------------------------------------------------------------ bytes to frames


def frames(framing: str, parts: Iterable[bytes], limit: int = 1 << 20) -> tuple[Any, ...]:
    """(frames, tail, kind of the error or None)."""
    framer, found = FRAMINGS[framing](limit), []
    try:
        for part in parts:
            found += frames_in(framer, part)
        return found, list(framer.tail()), None
    except Error as error:
        return found, [], error.kind


def framed_alike(framing: str, data: bytes, parts: Sequence[bytes], limit: int = 1 << 20) -> tuple[Any, ...]:
    """The same frames however the bytes are cut."""
    whole, cut = frames(framing, [data], limit), frames(framing, parts, limit)
    assert cut == whole, f"{framing}: {parts} gives {cut}, and the whole {whole}"
    return whole


# ------------------------------------------------------------------ bytes to an answer


def call(*, stream: bool) -> Call:
    return Call("m", tuple(ASKED), (TOOL, FREE), stream=stream)


def given(dialect: str) -> tuple[Spec, Target]:
    """A provider of this dialect, and where it is."""
    definition = driver_without_io.definition({"extends": dialect})
    return definition.spec(), driver_without_io.target(definition, KEY)


def read(dialect: str, parts: Iterable[bytes], *, stream: bool, repeats: bool = True) -> Outcome:
    """An answer, read as the exchange reads it; raises what is no prx.Error. Without repeats every event is parsed."""
    spec, target = given(dialect)
    ids = itertools.count(1)
    decoder = Decoder(spec, call(stream=stream), target, Head(200, {}, 0.0), lambda: f"made_{next(ids)}")
    if not repeats:
        assert decoder._learn_repeat
        decoder._learn_repeat = lambda *_: None
    found: list[Delta] = []
    for part in parts:
        deltas, error = decoder.feed(part)
        found += deltas
        if error or decoder.complete:
            break
    else:
        error = None
    if error is None:
        deltas, error = decoder.end()
        found += deltas
    outcome = Outcome(tuple(found), decoder.reply(), error)
    sound(outcome)
    return outcome


def sound(outcome: Outcome) -> None:
    """What was handed out is what the reply says; all of it can be printed, and no error shows the key."""
    reply = outcome.reply
    texts = "".join(part.text for part in reply.parts if part.kind == "text")
    assert sorted(texts) == sorted(str(reply.message["content"] or "")), "the parts say what the content says"
    if reply.content_source == "content":
        assert outcome.text == reply.content, f"the deltas say {outcome.text!r}, the reply {reply.content!r}"
    else:
        assert not outcome.text.strip()
    assert outcome.thought == (reply.reasoning or "")
    assert "".join(delta.refusal or "" for delta in outcome.deltas) == (reply.refusal or "")
    assert [part.call for part in reply.parts if part.call] == list(reply.tool_calls)
    if outcome.error is None and reply.streamed and reply.finish_reason in {None, "stop", "tool_calls"}:
        free = {call["id"] for call in reply.message.get("tool_calls", ()) if call["type"] == "custom"}
        assert all(_is_json(call.arguments) for call in reply.tool_calls if call.id not in free)
    printed = {**plain(reply), "raw": None}
    json.dumps([printed, *map(plain, outcome.deltas)], ensure_ascii=False).encode()
    repr(reply).encode()
    if outcome.error:
        sound_error(outcome.error)


def sound_error(error: Error, key: str = KEY) -> None:
    assert error.kind in KINDS
    shown = f"{error} {error!r} {error.view}"
    assert key not in shown, "the key is shown"
    str(error).encode()
    said(str(error))


def read_alike(dialect: str, data: bytes, parts: Sequence[bytes], *, stream: bool) -> Outcome:
    """The same answer however its bytes are cut, and however its events are read."""
    whole, cut = read(dialect, [data], stream=stream), read(dialect, parts, stream=stream)
    assert cut.same() == whole.same(), f"{dialect}: {parts} gives {cut}, and the whole {whole}"
    slow = read(dialect, [data], stream=stream, repeats=False)
    assert slow.same() == whole.same(), f"{dialect}: {data} gives {whole}, and without repeats {slow}"
    return whole


def refusal(dialect: str, status: int, headers: dict[str, str], body: bytes) -> Error:
    """The error that a response with a status of failure is. The status is never lost."""
    spec, target = given(dialect)
    error = refused(spec, call(stream=False), target, Head(status, headers, 0.0), body, "status")
    sound_error(error)
    assert error.status == status
    assert error.retry_after is None or error.retry_after >= 0
    return error


# ------------------------------------------------------------------ texts that people write


@cache
def folder() -> Path:
    """A place for the one file that is being looked at, in the machine's memory where it has such a place."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="prx-properties-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made)
    return made


@contextmanager
def written(name: str, data: bytes) -> Iterator[Path]:
    path = folder() / name
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink()


_ID = re.compile(rb"^id: *([a-z0-9][a-z0-9-]{0,40}) *$", re.MULTILINE)


def provider_file(data: bytes) -> list[str]:
    """The faults of a provider's file, each with its place; a file without any makes a provider that can be asked."""
    found = _ID.search(data)
    with written(f"{found[1].decode() if found else 'unnamed'}.yaml", data) as path:
        known = Loader([folder()])  # a catalogue looks at a file once
        _, problems = known.check(path)
        assert all(problem.text and problem.file == str(path) for problem in problems)
        if not problems:
            entry = Entry(path.stem, path, packaged=False)
            _asked(known.load(entry))
    return [str(problem) for problem in problems]


def _asked(definition: Definition) -> None:
    """Build a call of a provider, and read two answers."""
    account = _account(definition)
    for stream in (False, True) if account else ():
        with suppress(Error):
            build(definition.spec("m"), call(stream=stream), account.target)
        for body in (b'{"a":[{"b":1}]}', b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'):
            head = Head(200, {}, 0.0)
            decoder = Decoder(definition.spec("m"), call(stream=stream), account.target, head, lambda: "made")
            decoder.feed(body)
            decoder.end()
            decoder.reply()


def _account(definition: Definition) -> Account | None:
    try:
        return open_account(
            definition, Asked(definition.id, Settings(definition.id)), _Everything(), driver_without_io.CATALOG
        )
    except Error as error:
        sound_error(error)
        return None


class _Everything(dict[str, str]):
    """An environment that has every variable."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "x"

    def get(self, name: str, default: Any = None) -> Any:
        return "x"


def case_file(data: bytes) -> list[str]:
    """The faults of a case's file."""
    with written("case.yaml", data) as path:
        return cases.lint(path)


def config_file(data: bytes) -> Error | None:
    """A config.toml is read, or refused in so many words."""
    with written("config.toml", data) as path:
        try:
            config.load(path, {})
        except Error as error:
            sound_error(error)
            return error
    return None


def yaml_text(text: str) -> None:
    """YAML is read, or its faults are told; alike by PyYAML's parser and by libyaml's."""
    document = parse_strictly(text, "f.yaml")
    assert document == read_by_pyyaml(text, "f.yaml")
    assert document.value or document.problems
    json.dumps(document.value)


# ------------------------------------------------------------------ expressions

OPTIONS = Options(custom_functions=SpecFunctions())
VALUES: tuple[Any, ...] = (
    None, True, 0, 1.5, "a", [], {}, [1, [2, None], "a", {"a": 1}],
    {"a": {"b": [{"c": 1, "a": "x"}, {"c": "z"}, None, 3]}, "b": [3, 1, 2], "c": "foo", "d": False, "e": ["b", "a"]},
)  # fmt: skip


def answer(run: Any, value: Any) -> str:
    """What an expression finds, or that it is refused: by jmespath, or by Python where types do not compare."""
    try:
        found = run(value)
    except (query.QueryError, JMESPathError, TypeError):
        return "refused"
    holds(found)
    return _AN_EXPRESSION.sub("&", repr(found))


_AN_EXPRESSION = re.compile(r"<[\w.]+\._Expression object at 0x\w+>")


def as_jmespath(text: str, values: Sequence[Any] = VALUES) -> bool:
    """A text that is taken for an expression is one, and finds what it finds in jmespath.py; True where it is taken."""
    try:
        query.checked(text)
    except query.QueryError as error:
        said(str(error))
        return False
    same_as_jmespath(text, values)
    return True


def same_as_jmespath(text: str, values: Sequence[Any] = VALUES) -> None:
    """An expression finds what it finds in jmespath.py, or is refused in both."""
    for value in values:
        wanted = answer(lambda seen: jmespath.search(text, seen, OPTIONS), value)
        got = answer(lambda seen: query.compile_query(text)(seen), value)  # noqa: PLW0108 - compiling may refuse, too
        assert got == wanted, f"{text} on {value!r} gives {got}, and in jmespath.py {wanted}"


def said(text: str) -> None:
    assert text.strip(), "an error without a word"


def alone_and_together(texts: Sequence[str], values: Sequence[Any] = VALUES) -> None:
    """Several expressions compiled into one function find what each finds alone."""
    together = query.compile_all(texts)
    singly = [query.compile_query(text) for text in texts]
    for value in values:
        found = answer(together, value)
        wanted = answer(lambda seen: tuple(run(seen) for run in singly), value)
        assert found == wanted, f"{texts} on {value!r}: together {found}, alone {wanted}"


# ------------------------------------------------------------------ pieces of tool calls


def joined(elements: Iterable[tuple[Any, ...]]) -> tuple[ToolCall, ...]:
    """The calls of pieces, each (index, item, id, name, arguments): the deltas say the same, and what is no call is known."""
    calls = ToolCalls(lambda: "made", ["f", "g", "free"], ["free"])
    deltas: list[ToolCallDelta | None] = [calls.add(Piece.of((*element, None))) for element in elements]
    deltas += calls.settle(end=True)
    found: dict[int, list[str]] = {}
    for delta in filter(None, deltas):
        found.setdefault(delta.index, []).append(delta.arguments or "")
    made = calls.calls()
    assert {place: "".join(texts) or "{}" for place, texts in found.items()} == {
        place: call.arguments for place, call in enumerate(made)
    }
    assert calls.nameless() == any(not call.name for call in made)
    broken = [call.name or "?" for call in made if call.name != "free" and not _is_json(call.arguments)]
    assert (calls.not_json() or ("",))[0] == next(iter(broken), "")
    return made


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=lambda word: json.loads(word.lower()))
    except ValueError:
        return False
    return True
