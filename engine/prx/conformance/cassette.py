"""Recordings that people can read and that hold no key.

vcrpy records and replays. The file is ours: JSON bodies as YAML, event streams as literal text, headers by
allow-list, and above all of it the evidence: what was recorded, which version, on which day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import vcr
import yaml

from prx.conformance import masked
from prx.conformance.evidence import Evidence, digest_of
from prx.mask import Mask
from prx.secret import Secret

_REQUEST_HEADERS = {"accept", "content-type"}
_RESPONSE_HEADERS = {"content-type", "retry-after", "retry-after-ms", "x-request-id"}


class Serializer:
    """Between vcrpy's form of a cassette and the readable file."""

    def __init__(self, evidence: Evidence | None = None) -> None:
        self.evidence = evidence

    def serialize(self, cassette: Mapping[str, Any]) -> str:
        interactions = [
            {"request": _readable_request(row["request"]), "response": _readable_response(row["response"])}
            for row in cassette["interactions"]
        ]
        plain = json.loads(json.dumps(interactions))  # as it will be read: no tuples, no numbers as keys
        evidence = {**asdict(self.evidence), "digest": digest_of(plain)} if self.evidence else None
        value = {"evidence": evidence, "interactions": interactions}
        text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
        return text

    def deserialize(self, text: str) -> dict[str, Any]:
        rows = yaml.safe_load(text)["interactions"]
        return {"version": 1, "interactions": [_interaction(row) for row in rows]}


def recorder(secrets: Iterable[Secret], *, real: str = "", shown: str = "", evidence: Evidence | None = None) -> Any:
    """A VCR that writes and matches our way.

    secrets      whose values are masked wherever they stand
    real, shown  a base URL that is written as another (an emulator's port changes from run to run)
    """
    mask = Mask(secrets)

    def request(found: Any) -> Any:
        found.uri = mask.text(found.uri.replace(real, shown) if real else found.uri)
        found.headers = {
            name: mask.text(_text(value)) for name, value in found.headers.items() if _kept(name, value, mask)
        }
        found.body = found.body and _without_keys(found.body, mask)
        return found

    def response(found: dict[str, Any]) -> dict[str, Any]:
        headers = {
            name.lower(): [mask.text(_text(value)) for value in values]
            for name, values in found["headers"].items()
            if name.lower() in _RESPONSE_HEADERS
        }
        return {**found, "headers": headers, "body": {"string": _without_keys(found["body"]["string"], mask)}}

    made = vcr.VCR(before_record_request=request, before_record_response=response, serializer="readable")
    made.register_serializer("readable", Serializer(evidence))
    made.register_matcher("body as JSON", _same_json)
    made.match_on = ["method", "uri", "body as JSON"]
    return made


def _without_keys(data: bytes, mask: Mask) -> bytes:
    return masked.body(data.decode("utf-8", "surrogateescape"), mask).encode("utf-8", "surrogateescape")


def _kept(name: str, value: Any, mask: Mask) -> bool:
    known = name.lower() in _REQUEST_HEADERS or name.lower().endswith("-version")
    return known or mask.text(_text(value)) != _text(value)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _same_json(first: Any, second: Any) -> bool:
    return bool(_json(first.body) == _json(second.body))


def _json(body: Any) -> Any:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


# ------------------------------------------------------------------ the readable form


def _readable_request(row: Mapping[str, Any]) -> dict[str, Any]:
    made = {
        "method": row["method"],
        "uri": row["uri"],
        "headers": {name: values[0] for name, values in row["headers"].items()},
    }
    return {**made, "json": _json(row["body"])} if row["body"] else made


def _readable_response(row: Mapping[str, Any]) -> dict[str, Any]:
    text = row["body"]["string"]
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    made = {"status": row["status"]["code"], "headers": {name: values[0] for name, values in row["headers"].items()}}
    body = _json(text)
    return {**made, "json": body} if isinstance(body, dict | list) else {**made, "text": text}


def _interaction(row: Mapping[str, Any]) -> dict[str, Any]:
    request, response = row["request"], row["response"]
    body = json.dumps(request["json"]) if "json" in request else None
    text = json.dumps(response["json"], ensure_ascii=False) if "json" in response else response["text"]
    return {
        "request": {
            "method": request["method"], "uri": request["uri"], "body": body,
            "headers": {name: [value] for name, value in request["headers"].items()},
        },
        "response": {
            "status": {"code": response["status"], "message": ""}, "body": {"string": text},
            "headers": {name: [str(value)] for name, value in response["headers"].items()},
        },
    }  # fmt: skip


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
