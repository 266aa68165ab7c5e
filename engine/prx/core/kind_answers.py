"""Reads the answers of calls that are no chats, by the file's `calls.KIND.response`; and the table of these kinds.

An answer that lacks what was asked for is an error, never an empty result.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from prx.chat import Call, Delta, Part, Reply, Usage
from prx.core import fault, kind_results
from prx.core.exchange import Flow, Policy, exchange
from prx.core.kind_requests import build_kind, form_of, view
from prx.core.kinds import BodyReader, CallKind
from prx.errors import Error
from prx.json_text import parsed
from prx.secret import redact_json
from prx.spec.model import BINARY, KINDS_OF_CALLS, CallForm, Query, Spec
from prx.wire import Head, Target

if TYPE_CHECKING:
    from prx.core.exchange import Variants

# {word of calls.embed.packed: (format of struct, bytes of a number)}; little endian, or big where "big " stands before the word
_PACKED = {"float16": ("e", 2), "float32": ("f", 4), "float64": ("d", 8), "int8": ("b", 1), "uint8": ("B", 1)}
_PACKED |= {"bfloat16": ("H", 2)}  # the upper half of a float32, of which struct knows nothing
_LARGEST = 1e6  # of a number in an embedding; bytes of another type, read as float32, have larger ones
# The last byte of a float32 has its sign and most of its exponent: these are those of numbers below 2 ** 19, which need no look at each.
_SMALL = bytes([*range(0x49), *range(0x80, 0x80 + 0x49)])
_TEXT = ("transcribe",)  # kinds whose answers may be plain text


class KindReader(BodyReader):
    """Reads the whole body of an answer, and makes what the call gives."""

    def __init__(
        self, kind: str, spec: Spec, call: Call, target: Target, head: Head, new_id: Callable[[], str]
    ) -> None:
        super().__init__(spec, call, target, head, new_id)
        self.kind, self.spec, self.call, self.target, self.head = kind, spec, call, target, head
        self.form = form_of(spec, kind)
        self.media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.body: Any = None
        self.found: Mapping[str, Any] = {}
        self._result: Any = None

    def end(self) -> tuple[Sequence[Delta], Error | None]:
        data = b"".join(self._data)
        try:
            if self._is_json(data):
                self._read(data.decode("utf-8", "replace"))
            self._result = _MAKE[self.kind](self, data)
        except Error as error:
            return (), error
        return (), None

    def reply(self) -> Any:
        return self._result

    def _is_json(self, data: bytes) -> bool:
        if "json" in self.media_type or self.kind not in BINARY + _TEXT:
            return True
        return self.kind in _TEXT and not self.media_type.startswith("text/") and data.lstrip()[:1] == b"{"

    def _read(self, text: str) -> None:
        self.body = parsed(text)
        if not isinstance(self.body, dict | list):
            self.fail("the answer is not JSON", redact_json(text, self.target.secrets)[1])
        (error,) = fault.safely(self.spec.errors.detect.run, self.body, self.spec)
        if error:
            body, safe = redact_json(text, self.target.secrets)
            raise fault.classify(self.spec, self.call, self.head, body, safe, "body")
        self.found = self.values(self.form.found, self.body)

    def values(self, query: Query, value: Any) -> dict[str, Any]:
        """What a query finds, by the query's names."""
        return dict(zip(query.names, fault.safely(query.run, value, self.spec), strict=True))

    def fail(self, problem: str, excerpt: str = "") -> NoReturn:
        """Raise the ProtocolError of an answer that does not have the form that the file describes."""
        text = f": {' '.join(excerpt.split())[:200]}" if excerpt.strip() else ""
        raise fault.protocol(self.spec, self.call, self.head, problem + text)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The elements of a list of the answer, each as what `row` finds in it."""
        listed = self.found.get(name)
        if not isinstance(listed, list):
            self.fail(
                f"the answer has no {name} where calls.{self.kind}.response.{name} looks for them", str(self.body)
            )
        return [self.values(self.form.row, row) for row in listed]

    def common(self) -> dict[str, Any]:
        """The fields that all results have."""
        model = self.found.get("model")
        return {
            "model": model if isinstance(model, str) and model else self.call.model,
            "provider": self.spec.id,
            "usage": self._usage(self.found.get("usage")),
            "raw": self.body,
            "request_id": next(filter(None, map(self.head.headers.get, self.spec.response.request_id)), None),
        }

    def _usage(self, found: Any) -> Usage | None:
        if not found:
            return None
        tokens = fault.safely(self.form.tokens.run, found, self.spec)
        counts = [int(n) if isinstance(n, int | float) and not isinstance(n, bool) and n >= 0 else None for n in tokens]
        return Usage(*counts) if any(count is not None for count in counts) else None

    def packed(self) -> str:
        """What the file's `packed` gives for the call, or an empty text."""
        (word,) = fault.safely(self.form.packed.run, view(self.spec, self.call, self.form), self.spec)
        return str(word or "")

    def bytes_of(self, text: Any, what: str, packed: str = "") -> bytes | None:
        """The bytes of a base64 text, also one in a data: URL; of one in hexadecimal where `packed` says hex; None for no text."""
        if not isinstance(text, str) or not text:
            return None
        try:
            if packed == "hex":
                return bytes.fromhex(text)
            return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
        except (binascii.Error, ValueError):
            self.fail(f"{what} is not {packed or 'base64'}", text[:60])


# ------------------------------------------------------------------ embeddings


def _embeddings(reader: KindReader, _data: bytes) -> kind_results.Embeddings:
    wanted, found = len(reader.call.inputs["input"]), reader.found["vectors"]
    if wanted == 1 and isinstance(found, list) and found and all(map(_is_number, found)):
        found = [found]  # a server that gives the vector of one input without a list around it
    if not isinstance(found, list) or len(found) != wanted:
        count = len(found) if isinstance(found, list) else "no"
        reader.fail(f"the answer has {count} vectors for {wanted} inputs", str(reader.body))
    packed = reader.packed() or "float32" if any(isinstance(each, str) for each in found) else ""
    vectors = [_unpacked(reader, each, packed) if isinstance(each, str) else _vector(reader, each) for each in found]
    order = reader.found["order"]
    if isinstance(order, list) and order != [*range(wanted)] and len(order) == wanted:
        if not all(isinstance(place, int) for place in order) or sorted(order) != [*range(wanted)]:
            reader.fail(f"the places of the vectors are not 0 to {wanted - 1}", str(order))
        vectors = [vector for _, vector in sorted(zip(order, vectors, strict=True), key=lambda row: row[0])]
    return kind_results.Embeddings(**reader.common(), vectors=tuple(vectors))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _vector(reader: KindReader, value: Any) -> tuple[float, ...]:
    numbers = _floats(value) if isinstance(value, list) else ()
    # The sum of finite numbers is finite, unless it is beyond what a number can be.
    if not numbers or not (math.isfinite(sum(numbers)) or all(map(math.isfinite, numbers))):
        reader.fail("a vector is not a list of numbers", str(value)[:200])
    return numbers


def _floats(values: list[Any]) -> tuple[float, ...]:
    """A list as numbers; empty for one that has something else."""
    try:
        return tuple(map(float.conjugate, values))  # each as it is; raises TypeError for what is no float
    except TypeError:
        pass
    try:
        return tuple(map(float, values)) if all(map(_is_number, values)) else ()
    except OverflowError:
        return ()


def _unpacked(reader: KindReader, text: str, packed: str) -> tuple[float, ...]:
    word = packed.removeprefix("big ")
    if word not in _PACKED:
        reader.fail(f"calls.embed.packed gives {packed!r}; known are {', '.join(_PACKED)}, also with big in front")
    letter, size = _PACKED[word]
    data = reader.bytes_of(text, "a vector") or b""
    wanted = reader.call.inputs.get("dimensions")
    count = len(data) // size
    fits = data and len(data) % size == 0 and wanted in (None, count, 8 * count)  # 8: a bit for each dimension
    vector = _numbers(data, "<" if word == packed else ">", count, letter) if fits else ()
    plain = packed == "float32" and not data[3::4].translate(None, _SMALL)
    if not vector or not (plain or all(math.isfinite(n) and abs(n) < _LARGEST for n in vector)):
        reader.fail(f"a vector in base64 has {len(data)} bytes that are not {packed} numbers of the asked dimensions")
    return vector


def _numbers(data: bytes, order: str, count: int, letter: str) -> tuple[float, ...]:
    numbers = struct.unpack(f"{order}{count}{letter}", data)
    if letter == "H":  # halves of float32
        return struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(half << 16 for half in numbers)))
    return numbers if letter in "efd" else tuple(map(float, numbers))


# ------------------------------------------------------------------ the other kinds


def _ranking(reader: KindReader, _data: bytes) -> kind_results.Ranking:
    count, results = len(reader.call.inputs["documents"]), []
    placed = "index" in reader.form.row.sources
    for place, row in enumerate(reader.rows("results")):
        index, score = row["index"] if placed else place, row["score"]
        if not isinstance(index, int) or not 0 <= index < count or not _is_number(score) or not math.isfinite(score):
            reader.fail(f"a result has no place among the {count} documents, or no score", str(reader.body))
        results.append(kind_results.Ranked(index, float(score)))
    most = reader.call.inputs.get("top_n", count)
    if len(results) > most:  # of a server that has no such parameter
        results = sorted(results, key=lambda row: -row.score)[:most]
    return kind_results.Ranking(**reader.common(), results=tuple(results))


def _images(reader: KindReader, _data: bytes) -> kind_results.Images:
    images = tuple(_image(reader, row) for row in reader.rows("images"))
    if not images:
        reader.fail("the answer has no picture", str(reader.body))
    return kind_results.Images(**reader.common(), images=images)


def _image(reader: KindReader, row: Mapping[str, Any]) -> kind_results.Image:
    url = row["url"] if isinstance(row["url"], str) else None
    inline = url if url and url.startswith("data:") else None
    data = reader.bytes_of(row["data"] or inline, "a picture")
    if data is None and not url:
        reader.fail("a picture has neither data nor a URL", str(reader.body))
    kind = row["media_type"] or reader.found["media_type"] or (inline or "")[5:].partition(";")[0]
    return kind_results.Image(data, None if inline else url, _text(kind), _text(row["revised_prompt"]))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _speech(reader: KindReader, data: bytes) -> kind_results.Speech:
    if reader.body is not None:
        data = reader.bytes_of(reader.found["audio"], "the audio", reader.packed()) or b""
    if not data or (reader.body is None and reader.media_type.startswith("text/")):
        reader.fail("the answer has no audio", data[:200].decode("utf-8", "replace"))
    named = _text(reader.found.get("media_type")) or (reader.media_type if reader.body is None else None)
    return kind_results.Speech(**reader.common(), audio=data, media_type=named or None)


def _transcript(reader: KindReader, data: bytes) -> kind_results.Transcript:
    text = reader.found.get("text") if reader.body is not None else data.decode("utf-8", "replace")
    if not isinstance(text, str):
        reader.fail("the answer has no text", str(reader.body))
    duration, segments = reader.found.get("duration"), reader.found.get("segments")
    try:
        seconds = float(duration) if isinstance(duration, int | float | str) and duration != "" else None
    except ValueError:
        seconds = None
    return kind_results.Transcript(
        **reader.common(), text=text, language=_text(reader.found.get("language")), duration=seconds,
        segments=tuple(segments) if isinstance(segments, list) else (),
    )  # fmt: skip


def _moderation(reader: KindReader, _data: bytes) -> kind_results.Moderation:
    rows = [row["flagged"] for row in reader.rows("results")]
    if not rows or not all(isinstance(flagged, bool) for flagged in rows):
        reader.fail("the answer does not say whether the input is flagged", str(reader.body))
    return kind_results.Moderation(**reader.common(), flagged=any(rows), results=tuple(reader.found["results"]))


def _count(reader: KindReader, _data: bytes) -> kind_results.TokenCount:
    count = reader.found["count"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        reader.fail("the answer has no count of tokens", str(reader.body))
    return kind_results.TokenCount(**reader.common(), count=count)


def _completion(reader: KindReader, _data: bytes) -> Reply:
    text, reason = reader.found["text"], _text(reader.found["finish_reason"])
    if not isinstance(text, str):
        reader.fail("the answer has no text where calls.complete.response.text looks for it", str(reader.body))
    reasons = reader.spec.response.finish_reasons
    return Reply(
        text, finish_reason=reasons.get(reason, reason) if reason else None,
        message={"role": "assistant", "content": text}, parts=(Part("text", text),) if text else (), **reader.common(),
    )  # fmt: skip


_MAKE: Mapping[str, Callable[[KindReader, bytes], Any]] = {
    "embed": _embeddings, "rerank": _ranking, "image": _images, "speech": _speech, "transcribe": _transcript,
    "moderate": _moderation, "count_tokens": _count, "complete": _completion,
}  # fmt: skip

# ------------------------------------------------------------------ more inputs than one request takes


class _Split(NamedTuple):
    """argument: the list that may be split. fields: of the results, the tuples that are joined."""

    argument: str
    fields: tuple[str, ...]


_SPLIT = {"embed": _Split("input", ("vectors",)), "moderate": _Split("input", ("results",))}


def flow(variants: Variants, call: Call, target: Target, policy: Policy, kind: CallKind) -> Flow:
    """The flow of a call. Inputs beyond `calls.KIND.most` or `most_tokens` go in several requests, one after the other; if one fails, all fail."""
    split, form = _SPLIT.get(kind.name), variants.spec(call.model).calls.get(kind.name)
    parts = _parts(call.inputs[split.argument], form) if split and form else []
    if split is None or len(parts) < 2:
        return (yield from exchange(variants, call, target, policy, kind))
    made: list[Any] = []
    for part in parts:
        remembered = made[-1].fallbacks if made else policy.remembered
        turn = policy._replace(remembered=remembered)
        inputs = {**call.inputs, split.argument: part}
        try:
            made.append((yield from exchange(variants, call._replace(inputs=inputs), target, turn, kind)))
        except Error as error:
            _say_how_far(error, made, parts)
            raise
    return _joined(made, split)


def _say_how_far(error: Error, made: Sequence[Any], parts: Sequence[Sequence[Any]]) -> None:
    """Say in the error of one request of several what the others had brought."""
    error.attempts += sum(each.attempts for each in made)
    before, done = error.summary(), sum(map(len, parts[: len(made)]))
    whole = sum(map(len, parts))
    error.message += f" (request {len(made) + 1} of {len(parts)}; {done} of {whole} inputs had been answered)"
    error.history = tuple(error.summary() if line == before else line for line in error.history)


def _parts(inputs: list[Any], form: CallForm) -> list[list[Any]]:
    """The inputs of each request. One that alone has more than `most_tokens` goes alone."""
    most, limit = form.most or len(inputs), form.most_tokens
    if not limit:
        return [inputs[start : start + most] for start in range(0, len(inputs), most)]
    parts: list[list[Any]] = []
    room = 0
    for each in inputs:
        size = _most_tokens_of(each)
        if not parts or len(parts[-1]) >= most or size > room:
            parts.append([])
            room = limit
        parts[-1].append(each)
        room -= size
    return parts


def _most_tokens_of(given: Any) -> int:
    """No fewer tokens than an input has: a token of a text has one byte at least. What is no text does not count."""
    if isinstance(given, str):
        return len(given.encode("utf-8", "replace"))
    return len(given) if isinstance(given, list) else 0


def _joined(made: Sequence[Any], split: _Split) -> Any:
    together = {name: tuple(item for each in made for item in getattr(each, name)) for name in split.fields}
    flagged = {"flagged": any(each.flagged for each in made)} if hasattr(made[0], "flagged") else {}
    return made[-1]._replace(
        **together, **flagged, usage=_sum([each.usage for each in made]), raw=[each.raw for each in made],
        attempts=sum(each.attempts for each in made),
    )  # fmt: skip


def _sum(counts: Sequence[Usage | None]) -> Usage | None:
    """The sum of several usages; a count that one of them lacks is not known."""
    known = [each for each in counts if each is not None]
    if len(known) < len(counts):
        return None
    columns = zip(*known, strict=True)
    return Usage(*(None if None in column else sum(column) for column in columns))


KINDS: Mapping[str, CallKind] = {
    name: CallKind(name, partial(build_kind, name), partial(KindReader, name), "parameters", flow)
    for name in KINDS_OF_CALLS
}
