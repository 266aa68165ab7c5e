"""Recorded traffic of vendors as evidence: does prx read it as the vendors' own packages do?

A folder of JSON files, one for each exchange: {id, provider, dialect, stream, request {body}, response {status, headers,
body_text | body_b64}, expected {content, reasoning, tool_calls, finish_reason} | {error}}. The values of `expected` come
from the vendors' own packages, so that prx is not compared with itself. Only the core reads the traffic, without network.
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
    """One result for all exchanges of a provider, none if the folder has no exchange of it."""
    items = [item for item in _items(folder) if _is_of(item, spec)]
    if not items:
        return
    wrong = {item["id"]: found for item in items if (found := differences(item, spec))}
    why = (
        f"{len(wrong)} of {len(items)} read differently: {'; '.join(f'{name}: {what}' for name, what in wrong.items())}"
    )
    evidence = Evidence("corpus", f"{len(items)} recordings by others", "", spec.base_url, "")
    yield Result(spec.id, "corpus", "failed" if wrong else "passed", why if wrong else "", evidence=evidence)


def _is_of(item: Mapping[str, Any], spec: Spec) -> bool:
    return (
        item["provider"] in (spec.id, *spec.aliases) and item["dialect"] == spec.dialect and bool(item.get("expected"))
    )


@cache
def _items(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder of recorded traffic")
    items = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [
        item
        for item in items
        if isinstance(item, dict) and "response" in item and "models" not in (item.get("expected") or {})
    ]


def differences(item: Mapping[str, Any], spec: Spec) -> str:
    """The first difference between what prx reads and what is expected; "" for none."""
    body = item["request"].get("body")
    body = body if isinstance(body, dict) else {}
    call = Call(str(body.get("model") or "m"), ({"role": "user", "content": "hello"},), stream=bool(item["stream"]))
    read = _read(item["response"], spec, call)
    expected = item["expected"]
    if isinstance(read, Error):
        wanted = expected.get("error")
        reason = expected.get("finish_reason")
        cut_off = read.kind == "truncated" and not reason  # the recording itself was cut off
        # A finish reason that means failure: the vendor's package gives an answer where prx raises.
        is_failure = spec.response.finish_reasons.get(str(reason)) == "error"
        return "" if wanted or cut_off or is_failure else f"raised {read.kind}"
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
