"""Recording: vcrpy captures the exchanges, and the readable file is written from them. Playback does not need vcrpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
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
    """Writes vcrpy's cassette in the readable format. It cannot read one: playback does not go through vcrpy.

    evidence: is called when the recording is written, since only then it is known whether the case has passed
    """

    def __init__(self, evidence: Callable[[], Evidence]) -> None:
        self.evidence = evidence

    def serialize(self, recorded: Mapping[str, Any]) -> str:
        interactions = [_readable(row["request"], row["response"]) for row in recorded["interactions"]]
        plain = json.loads(json.dumps(interactions))  # as it will be read back: no tuples, no numbers as keys
        evidence = {**asdict(self.evidence()), "digest": digest_of(plain)}
        if evidence["passed"]:  # said only where it is not so
            del evidence["passed"]
        value = {"evidence": evidence, "interactions": interactions}
        text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
        return text


def recorder(
    secrets: Callable[[], Iterable[Secret]], *, real: str, shown: str, evidence: Callable[[], Evidence], unrecorded: str = "",
) -> Any:  # fmt: skip
    """A vcr.VCR that writes the readable format.

    secrets      gives what is masked wherever it occurs
    unrecorded   a URL whose requests are left out, "" for none
    real, shown  a base URL, and how it is written (an emulator's port changes from run to run); "" for no change
    """

    def masked_request(request: Any) -> Any:
        if request.uri == unrecorded:
            return None  # vcrpy leaves it out, and its response
        mask = Mask(secrets())
        request.uri = mask.text(_shown(request.uri, real, shown))
        request.headers = cassette.request_headers(request.headers, mask)
        request.body = request.body and cassette.without_keys(request.body, mask)
        return request

    def masked_response(response: dict[str, Any]) -> dict[str, Any]:
        mask = Mask(secrets())
        headers = cassette.response_headers({name: values[0] for name, values in response["headers"].items()}, mask)
        body = cassette.without_keys(response["body"]["string"], mask)
        return {**response, "headers": {name: [value] for name, value in headers.items()}, "body": {"string": body}}

    vcr_recorder = vcr.VCR(
        before_record_request=masked_request, before_record_response=masked_response, serializer="readable"
    )
    vcr_recorder.register_serializer("readable", Serializer(evidence))
    return vcr_recorder


def _shown(url: str, real: str, shown: str) -> str:
    """A URL below another base than it was, or beside it."""
    if not real:
        return url
    (old_scheme, old_host, *_), (scheme, host, *_) = urlsplit(real), urlsplit(shown)
    return url.replace(real, shown).replace(f"{old_scheme}://{old_host}/", f"{scheme}://{host}/")


def _readable(request: Mapping[str, Any], response: Mapping[str, Any]) -> cassette.Row:
    sent_headers = {name: values[0] for name, values in request["headers"].items()}
    headers = {name: values[0] for name, values in response["headers"].items()}
    return {
        "request": cassette.readable_request(request["method"], request["uri"], sent_headers, request["body"]),
        "response": cassette.readable_response(response["status"]["code"], headers, response["body"]["string"]),
    }


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as a literal block."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
