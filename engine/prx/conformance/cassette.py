"""Recordings that people can read and that hold no key.

The format is prx's own: JSON bodies as YAML, event streams as literal text, headers of an allow-list, and at the top the
evidence: what was recorded, which version, on which day. Files in vcrpy's format are read as well.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prx.conformance import foreign, masked
from prx.conformance.evidence import Evidence, checked, value_of
from prx.mask import Mask
from prx.secret import Secret
from prx.transport.playback import Interaction

Row = dict[str, Any]
_REQUEST_HEADERS = {"accept", "content-type"}
_RESPONSE_HEADERS = {"content-type", "retry-after", "retry-after-ms", "x-request-id"}


class Recording(NamedTuple):
    """A recording that was read.

    evidence      what was recorded; a file in vcrpy's format does not tell, and its base_url is ""
    exchanges     requests and responses as reports show them, without keys
    interactions  the same, for playback
    secrets       keys that a file in vcrpy's format contains; `prx record` writes none
    """

    evidence: Evidence
    exchanges: list[Row]
    interactions: list[Interaction]
    secrets: tuple[Secret, ...] = ()


def load(path: Path) -> Recording:
    """The recording in a file. Raises ConfigError for one that was edited, and for a file that is not a recording."""
    value = value_of(path)
    if foreign.fits(value):
        return _foreign(path, value)
    evidence, rows = checked(path, value)
    return Recording(evidence, rows, [_interaction(row) for row in rows])


# ------------------------------------------------------------------ writing


def row_of(answer: Interaction, headers: Mapping[str, str], sent: bytes, mask: Mask) -> Row:
    """An exchange in the readable format, without keys. headers, sent: kept headers and body of the request."""
    headers_back, body = response_headers(answer.headers, mask), without_keys(answer.body, mask)
    return {
        "request": readable_request(answer.method, mask.text(answer.uri), headers, without_keys(sent, mask)),
        "response": readable_response(answer.status, headers_back, body),
    }


def request_headers(headers: Mapping[str, Any], mask: Mask) -> dict[str, str]:
    """The headers of a request that are kept: those of the allow-list, versions, and, masked, those that hold keys."""
    return {name: mask.text(_text(value)) for name, value in headers.items() if _kept(name, value, mask)}


def response_headers(headers: Mapping[str, Any], mask: Mask) -> dict[str, str]:
    """The headers of a response that are kept, with names in lower case and keys masked."""
    return {
        name.lower(): mask.text(_text(value)) for name, value in headers.items() if name.lower() in _RESPONSE_HEADERS
    }


def without_keys(data: bytes, mask: Mask) -> bytes:
    return masked.body(data.decode("utf-8", "surrogateescape"), mask).encode("utf-8", "surrogateescape")


def readable_request(method: str, uri: str, headers: Mapping[str, str], body: bytes | str | None) -> Row:
    row = {"method": method, "uri": uri, "headers": dict(headers)}
    return {**row, "json": _json(body)} if body else row


def readable_response(status: int, headers: Mapping[str, str], body: bytes | str) -> Row:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    if isinstance(body, bytes) and text.encode() != body:  # no text: a picture, or sound
        return {"status": status, "headers": dict(headers), "base64": base64.b64encode(body).decode()}
    row = {"status": status, "headers": dict(headers)}
    value = _json(text)
    return {**row, "json": value} if isinstance(value, dict | list) else {**row, "text": text}


def _kept(name: str, value: Any, mask: Mask) -> bool:
    known = name.lower() in _REQUEST_HEADERS or name.lower().endswith("-version")
    return known or mask.text(_text(value)) != _text(value)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _json(body: bytes | str | None) -> Any:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


# ------------------------------------------------------------------ reading


def _interaction(row: Row) -> Interaction:
    request, response = row["request"], row["response"]
    headers = {name.lower(): str(value) for name, value in response["headers"].items()}
    body = _body(response)
    return Interaction(request["method"], request["uri"], request.get("json"), response["status"], headers, body)


def _body(response: Row) -> bytes:
    if "base64" in response:
        return base64.b64decode(response["base64"], validate=True)
    if "json" not in response:
        return str(response["text"]).encode("utf-8", "replace")
    try:
        return json.dumps(response["json"], ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can only escape
        return json.dumps(response["json"]).encode()


def _foreign(path: Path, value: Any) -> Recording:
    """The recording in a file of vcrpy's format. The file may hold keys; they are masked in exchanges and answers."""
    rows = foreign.rows(path, value)
    secrets = tuple(secret for row in rows for secret in row.secrets)
    mask = Mask(secrets)
    played = [row.interaction._replace(body=without_keys(row.interaction.body, mask)) for row in rows]
    exchanges = [
        row_of(each, request_headers(row.headers, mask), row.sent, mask) for row, each in zip(rows, played, strict=True)
    ]
    return Recording(foreign.evidence(rows, exchanges), exchanges, played, secrets)
