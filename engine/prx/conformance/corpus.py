"""Recorded traffic of vendors as evidence: is it read as the vendors' own packages read it?

A folder of JSON files, one an exchange: {id, provider, dialect, stream, request {body}, response {status, headers,
body_text | body_b64}, expected {content, reasoning, tool_calls, finish_reason} | {error}}. What is `expected` was
worked out with the vendors' own packages, so that nobody judges themselves. Read by the core alone, with no network.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from prx.chat import Call, Reply
from prx.conformance.evidence import Evidence
from prx.conformance.run import Result
from prx.core import fault
from prx.core.decode import Decoder
from prx.errors import ConfigError, Error
from prx.spec.model import Spec
from prx.wire import Head, Target


def results(folder: Path, spec: Spec) -> Iterator[Result]:
    """One result for all recordings of a provider, if there are any."""
    mine = [item for item in _items(folder) if _is_of(item, spec)]
    if not mine:
        return
    odd = {item["id"]: said for item in mine if (said := differences(item, spec))}
    why = f"{len(odd)} of {len(mine)} read otherwise: {'; '.join(f'{name}: {said}' for name, said in odd.items())}"
    evidence = Evidence("corpus", f"{len(mine)} recordings by others", "", spec.base_url, "")
    yield Result(spec.id, "corpus", "failed" if odd else "passed", why if odd else "", evidence=evidence)


def _is_of(item: Mapping[str, Any], spec: Spec) -> bool:
    return (
        item["provider"] in (spec.id, *spec.aliases) and item["dialect"] == spec.dialect and bool(item.get("expected"))
    )


@cache
def _items(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no folder of recorded traffic")
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [
        item
        for item in found
        if isinstance(item, dict) and "response" in item and "models" not in (item.get("expected") or {})
    ]


def differences(item: Mapping[str, Any], spec: Spec) -> str:
    """What is read otherwise than expected, "" for nothing."""
    body = item["request"].get("body")
    body = body if isinstance(body, dict) else {}
    call = Call(str(body.get("model") or "m"), ({"role": "user", "content": "hello"},), stream=bool(item["stream"]))
    read = _read(item["response"], spec, call)
    expected = item["expected"]
    if isinstance(read, Error):
        wanted = expected.get("error")
        reason = expected.get("finish_reason")
        ended = read.kind == "truncated" and not reason  # a recording without its end
        said = (
            spec.response.finish_reasons.get(str(reason)) == "error"
        )  # an error that the package hands out as an answer
        return "" if wanted or ended or said else f"raised {read.kind}"
    return "no error" if "error" in expected else _compared(expected, read)


def _read(response: Mapping[str, Any], spec: Spec, call: Call) -> Reply | Error:
    data = (
        base64.b64decode(response["body_b64"])
        if response.get("body_b64")
        else (response.get("body_text") or "").encode()
    )
    head = Head(response["status"], {name: str(value) for name, value in response["headers"].items()}, 0.0)
    if not 200 <= head.status < 300:
        return fault.refused(spec, call, Target(spec.id, ""), head, data, "status")
    decoder = Decoder(spec, call, Target(spec.id, ""), head, lambda: "made")
    _, error = decoder.feed(data)
    if error is None and not decoder.complete:
        _, error = decoder.end()
    return error or decoder.reply()


def _compared(expected: Mapping[str, Any], reply: Reply) -> str:
    text = "" if reply.content_source == "reasoning" else reply.content
    wanted = expected.get("content") or ""
    if "<think" not in wanted and _loose(text) != _loose(wanted):
        return "content"
    calls = [(call.name, _value(call.arguments)) for call in reply.tool_calls]
    if calls != [(call["name"], _value(call.get("arguments"))) for call in expected.get("tool_calls") or ()]:
        return "tool_calls"
    return ""


def _loose(text: str) -> str:
    return "".join(text.split())


def _value(text: str | None) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text
