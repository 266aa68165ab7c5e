"""Recordings in vcrpy's own form, made by others: every header as it was, bodies as texts or bytes, packed or not.

Such a file does not say what was recorded, and nobody masked it in our way: headers and query parameters whose names
say that they hold a key give the keys that are masked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from prx.conformance.evidence import NO_RECORDING, Evidence, digest_of, no_recording
from prx.errors import Error
from prx.record import Record
from prx.secret import Secret
from prx.spec.model import Limits
from prx.transport.playback import Interaction, Played, sent_value

_OF_KEYS = re.compile("auth|key|token|secret", re.IGNORECASE)


class Row(Record):
    """One exchange of such a file.

    interaction  to be played; its body is unpacked where it can be
    headers      of the request
    sent         the body of the request
    secrets      the keys in it
    """

    interaction: Interaction
    headers: Mapping[str, str]
    sent: bytes
    secrets: tuple[Secret, ...]


def fits(value: Any) -> bool:
    """Whether a file's value has vcrpy's own form."""
    return isinstance(value, dict) and value.get("version") == 1 and "evidence" not in value


def rows(path: Path, value: Any) -> list[Row]:
    """The exchanges of a file's value. Raises ConfigError."""
    try:
        return [_row(row["request"], row["response"]) for row in value["interactions"]]
    except (*NO_RECORDING, AttributeError) as error:
        raise no_recording(path, error) from None


def evidence(found: Sequence[Row], exchanges: Sequence[Any]) -> Evidence:
    """What can be said of such a file: that others made it, and which model it asks, where a body names one."""
    bodies = (row.interaction.sent for row in found)
    models = (body["model"] for body in bodies if isinstance(body, dict) and isinstance(body.get("model"), str))
    return Evidence("corpus", "a recording by others", "", "", next(models, ""), digest_of(exchanges))


def _row(request: Mapping[str, Any], response: Mapping[str, Any]) -> Row:
    headers, sent = _headers(request["headers"]), _bytes(request["body"])
    played = Interaction(
        str(request["method"]),
        str(request["uri"]),
        sent_value(sent),
        int(response["status"]["code"]),
        {name.lower(): value for name, value in _headers(response["headers"]).items()},
        _bytes(response["body"]),
    )
    return Row(_unpacked(played), headers, sent, tuple(map(Secret, _keys(played.uri, headers))))


def _headers(found: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in found.items()
    }


def _bytes(body: Any) -> bytes:
    """A body: bytes, a text, or a mapping with one of them."""
    if isinstance(body, dict):
        packed = body.get("base64_string")
        body = body.get("string") if packed is None else base64.b64decode(packed)
    if body is None:
        return b""
    return body if isinstance(body, bytes) else str(body).encode("utf-8", "replace")


def _unpacked(row: Interaction) -> Interaction:
    """The same with its body unpacked; one that cannot be is left as it is, for the call to stumble over."""
    if "content-encoding" not in row.headers:
        return row
    try:
        body = b"".join(iter(Played(row, Limits()).read, b""))
    except Error:
        return row
    headers = {name: value for name, value in row.headers.items() if name != "content-encoding"}
    return row._replace(headers=headers, body=body)


def _keys(uri: str, headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in (*headers.items(), *parse_qsl(urlsplit(uri).query)):
        if _OF_KEYS.search(name) and (words := value.split()):
            yield words[-1]  # behind the word that says how it is used
