"""Recordings in vcrpy's format, made by others: with every header, and with bodies as text or bytes, compressed or not.

Such a file does not name its source, and its keys may not be masked: the values of headers and query parameters whose
names look like those of keys are taken for keys, and are masked.
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

    interaction  for playback; its body is decompressed if that is possible
    headers      of the request
    sent         the body of the request
    secrets      the keys in the request
    """

    interaction: Interaction
    headers: Mapping[str, str]
    sent: bytes
    secrets: tuple[Secret, ...]


def fits(value: Any) -> bool:
    """Whether a file's value has vcrpy's format."""
    return isinstance(value, dict) and value.get("version") == 1 and "evidence" not in value


def rows(path: Path, value: Any) -> list[Row]:
    """The exchanges of a file's value. Raises ConfigError."""
    try:
        return [_row(row["request"], row["response"]) for row in value["interactions"]]
    except (*NO_RECORDING, AttributeError) as error:
        raise no_recording(path, error) from None


def evidence(file_rows: Sequence[Row], exchanges: Sequence[Any]) -> Evidence:
    """The evidence of such a file: made by others, and the model that the first request names, "" if none does."""
    bodies = (row.interaction.sent for row in file_rows)
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
    return Row(_decompressed(played), headers, sent, tuple(map(Secret, _keys(played.uri, headers))))


def _headers(headers: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in headers.items()
    }


def _bytes(body: Any) -> bytes:
    """The bytes of a body, which is bytes, a text, or a mapping with one of them."""
    if isinstance(body, dict):
        base64_text = body.get("base64_string")
        body = body.get("string") if base64_text is None else base64.b64decode(base64_text)
    if body is None:
        return b""
    return body if isinstance(body, bytes) else str(body).encode("utf-8", "replace")


def _decompressed(row: Interaction) -> Interaction:
    """The exchange with its body decompressed. One that cannot be stays as it is, so that the call raises the error."""
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
            yield words[-1]  # the part after "Bearer" and the like
