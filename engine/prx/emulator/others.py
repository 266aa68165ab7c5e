"""Makes the emulator's answers to calls that are no chats. They are made of the words alone: the same call gets the same answer.

A vector counts the words and the parts of words of a text, so texts that share some are near each other. It knows no meaning.
"""

from __future__ import annotations

import base64
import io
import math
import re
import struct
import wave
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prx.chat import Usage
from prx.core import kind_results as results
from prx.emulator import brain
from prx.emulator.common import Asked, RefusedError

AUDIO = "audio/wav"
_DIMENSIONS, _MOST_DIMENSIONS = 64, 4096
_PART = 3  # letters of a part of a word
_MOST_IMAGES, _MOST_PIXELS = 10, 1024
_HARM = re.compile(r"\b(?:kill|murder|torture)\w*", re.IGNORECASE)
_RATE, _LETTER, _LONGEST = 8000, 0.06, 60.0  # of speech: samples a second, seconds for a letter, seconds at most


def answer(asked: Asked) -> Any:
    """What a call gives, by its kind. Raises RefusedError."""
    return _ANSWERS[asked.kind](asked)


# ------------------------------------------------------------------ texts


def _embeddings(asked: Asked) -> results.Embeddings:
    inputs, size = asked.inputs["input"], asked.inputs.get("dimensions", _DIMENSIONS)
    if size > _MOST_DIMENSIONS:
        raise RefusedError("request", f"dimensions may be {_MOST_DIMENSIONS} at most")
    vectors = tuple(vector(_words(each), size) for each in inputs)
    return results.Embeddings(asked.model, vectors=vectors, usage=_read(*inputs))


def vector(text: str, size: int = _DIMENSIONS) -> tuple[float, ...]:
    """The vector of a text, of length 1."""
    sums = [0.0] * size
    for feature, weight in _features(text):
        number = zlib.crc32(feature.encode())
        sums[number % size] += weight if number & 0x80000000 else -weight
    length = math.sqrt(sum(each * each for each in sums))
    if not length:  # of a text without words, or of one whose words cancel each other out
        sums[0] = length = 1.0
    return tuple(round(each / length, 7) for each in sums)


def _features(text: str) -> Iterator[tuple[str, float]]:
    """The words of a text, and with less weight the parts of each."""
    for word in re.findall(r"\w+", text.lower()):
        yield word, 1.0
        marked = f"<{word}>"
        parts = max(1, len(marked) - _PART + 1)
        yield from ((marked[place : place + _PART], 1.0 / parts) for place in range(parts))


def _ranking(asked: Asked) -> results.Ranking:
    query, documents = vector(asked.inputs["query"]), asked.inputs["documents"]
    scores = [sum(map(float.__mul__, query, vector(_words(each)))) for each in documents]
    best = sorted(range(len(documents)), key=lambda place: -scores[place])[: asked.inputs.get("top_n")]
    rows = tuple(results.Ranked(place, round(scores[place], 6)) for place in best)
    return results.Ranking(asked.model, results=rows, usage=_read(asked.inputs["query"], *documents))


def _moderation(asked: Asked) -> results.Moderation:
    rows = tuple(_judged(_words(each)) for each in asked.inputs["input"])
    return results.Moderation(asked.model, flagged=any(row["flagged"] for row in rows), results=rows)


def _judged(text: str) -> dict[str, Any]:
    """Whether a text has a word of harm. No judgement of what it says."""
    harm = bool(_HARM.search(text))
    return {"flagged": harm, "categories": {"violence": harm}, "category_scores": {"violence": 1.0 if harm else 0.0}}


def _count(asked: Asked) -> results.TokenCount:
    made = brain.answer(asked.messages, [], reason=False)
    return results.TokenCount(
        asked.model, count=made.prompt_tokens + sum(len(str(tool).split()) for tool in asked.tools)
    )


def _completion(asked: Asked) -> Any:
    prompt, suffix = _words(asked.inputs["prompt"]), asked.inputs.get("suffix")
    text = f"what stands between {prompt!r} and {suffix!r}" if suffix else prompt
    made = brain.answer(
        [{"role": "user", "content": text}], [], reason=False, limit=asked.limit, stop=asked.stop
    )  # fmt: skip
    return brain.reply_of(made, asked.model)


def _words(given: Any) -> str:
    """The text of an input: it may be a text, a list of tokens, or a mapping with a text in it."""
    if isinstance(given, Mapping):
        return str(given.get("text", ""))
    return given if isinstance(given, str) else " ".join(map(str, given))


def _read(*texts: Any) -> Usage:
    count = sum(len(_words(text).split()) for text in texts)
    return Usage(count, None, count, None, None)


# ------------------------------------------------------------------ pictures and sound


def _images(asked: Asked) -> results.Images:
    width, height = _size(str(asked.inputs.get("size") or "64x64"))
    colour = zlib.crc32(asked.inputs["prompt"].encode()).to_bytes(4)[:3]
    made = results.Image(png(width, height, colour), None, "image/png", None)
    return results.Images(asked.model, images=(made,) * min(asked.inputs.get("n", 1), _MOST_IMAGES))


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text)
    sides = [int(side) for side in found.groups()] if found else []
    if not sides or not all(0 < side <= _MOST_PIXELS for side in sides):
        raise RefusedError("request", f"size is a text such as 64x64, of {_MOST_PIXELS} at most")
    return sides[0], sides[1]


def png(width: int, height: int, colour: bytes) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + colour * width) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _speech(asked: Asked) -> results.Speech:
    """A hum, as long as a reader might take, whatever format is asked for: the media type says which it is."""
    seconds = min(_LONGEST, _LETTER * len(asked.inputs["text"]))
    wave_of = (round(128 + 40 * math.sin(place * 2 * math.pi * 220 / _RATE)) for place in range(round(seconds * _RATE)))
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 1, _RATE, 0, "NONE", ""))
        file.writeframes(bytes(wave_of))
    return results.Speech(asked.model, audio=data.getvalue(), media_type=AUDIO)


def _transcript(asked: Asked) -> results.Transcript:
    """How long a recording is: what is said in it is not heard."""
    data = base64.b64decode(asked.inputs["file"]["data"])
    seconds = None
    try:
        with wave.open(io.BytesIO(data)) as file:
            seconds = round(file.getnframes() / file.getframerate(), 2)
    except (wave.Error, EOFError, ZeroDivisionError):
        pass
    said = f"A recording of {len(data)} bytes." if seconds is None else f"A recording of {seconds} seconds."
    return results.Transcript(asked.model, text=said, language=asked.inputs.get("language"), duration=seconds)


_ANSWERS: Mapping[str, Callable[[Asked], Any]] = {
    "embed": _embeddings, "rerank": _ranking, "image": _images, "speech": _speech, "transcribe": _transcript,
    "moderate": _moderation, "count_tokens": _count, "complete": _completion,
}  # fmt: skip
