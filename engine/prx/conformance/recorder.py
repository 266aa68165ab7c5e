"""Recording: vcrpy sees what goes over the wire, and the readable file is written of it. Playing needs none of this."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import vcr
import yaml

from prx.conformance import cassette
from prx.conformance.evidence import Evidence, digest_of
from prx.mask import Mask
from prx.secret import Secret


class Serializer:
    """From vcrpy's form of a cassette to the readable file. It is never read through vcrpy."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def serialize(self, recorded: Mapping[str, Any]) -> str:
        interactions = [_readable(row["request"], row["response"]) for row in recorded["interactions"]]
        plain = json.loads(json.dumps(interactions))  # as it will be read: no tuples, no numbers as keys
        value = {"evidence": {**asdict(self.evidence), "digest": digest_of(plain)}, "interactions": interactions}
        text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
        return text


def recorder(secrets: Iterable[Secret], *, real: str, shown: str, evidence: Evidence) -> Any:
    """A VCR that writes our way.

    secrets      whose values are masked wherever they stand
    real, shown  a base URL that is written as another (an emulator's port changes from run to run)
    """
    mask = Mask(secrets)

    def request(found: Any) -> Any:
        found.uri = mask.text(_shown(found.uri, real, shown))
        found.headers = cassette.request_headers(found.headers, mask)
        found.body = found.body and cassette.without_keys(found.body, mask)
        return found

    def response(found: dict[str, Any]) -> dict[str, Any]:
        headers = cassette.response_headers({name: values[0] for name, values in found["headers"].items()}, mask)
        body = cassette.without_keys(found["body"]["string"], mask)
        return {**found, "headers": {name: [value] for name, value in headers.items()}, "body": {"string": body}}

    made = vcr.VCR(before_record_request=request, before_record_response=response, serializer="readable")
    made.register_serializer("readable", Serializer(evidence))
    return made


def _shown(url: str, real: str, shown: str) -> str:
    """A URL below another base than it was, or beside it."""
    if not real:
        return url
    (old_scheme, old_host, *_), (scheme, host, *_) = urlsplit(real), urlsplit(shown)
    return url.replace(real, shown).replace(f"{old_scheme}://{old_host}/", f"{scheme}://{host}/")


def _readable(request: Mapping[str, Any], response: Mapping[str, Any]) -> cassette.Row:
    sent = {name: values[0] for name, values in request["headers"].items()}
    said = {name: values[0] for name, values in response["headers"].items()}
    return {
        "request": cassette.readable_request(request["method"], request["uri"], sent, request["body"]),
        "response": cassette.readable_response(response["status"]["code"], said, response["body"]["string"]),
    }


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
