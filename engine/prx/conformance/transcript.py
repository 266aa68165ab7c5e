"""An exchange as lines of text: the request with its method, URL, headers and body, and the response to it.

Exchanges hold no keys any more, see cassette.row_of; a header that had one is shown with *** in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_LONGEST = 4000  # characters of a body that are shown


def lines(exchanges: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of some exchanges: ">" stands before what was sent, "<" before what came."""
    for row in exchanges:
        request, response = row["request"], row["response"]
        yield from _message(">", f"{request['method']} {request['uri']}", request)
        yield from _message("<", str(response["status"]), response)


def body(message: Mapping[str, Any]) -> str:
    """The body of a request or response as text: JSON with one value a line, events as they came."""
    if "json" in message:
        return json.dumps(message["json"], indent=2, ensure_ascii=False)
    if "base64" in message:
        return f"({len(message['base64']) * 3 // 4} bytes)"
    return str(message.get("text") or "")


def _message(sign: str, start: str, message: Mapping[str, Any]) -> Iterator[str]:
    yield f"{sign} {start}"
    for name, value in message["headers"].items():
        yield f"{sign} {name}: {value}"
    text = body(message)
    for line in text[:_LONGEST].splitlines():
        yield f"{sign}   {line}"
    if len(text) > _LONGEST:
        yield f"{sign}   … and {len(text) - _LONGEST} characters more, which --json shows"
