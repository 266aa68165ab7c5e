"""From a resolved mapping to a Spec. What is faulty in it is collected by `faults`, and never guessed at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from prx.lang.compiled import Expressions
from prx.spec import model
from prx.spec.model import CALL, FAULT, FOUND, TOKENS, Path, Query, Spec

FRAMING = {"content-length", "transfer-encoding"}  # with another's, a server would see where a request ends elsewhere
OWN_HEADER = "how long a request is says prx itself; take this header out"

_HEADER = {"bearer": "authorization", "x-api-key": "x-api-key"}
_TEMPLATE = {"bearer": "Bearer {api_key}"}
_MakeQuery = Callable[..., Query]  # from a path, the sources below it, and their names


def compile_spec(raw: Mapping[str, Any], expressions: Expressions | None = None) -> Spec:
    """A Spec from a mapping that the schema has accepted and that is resolved.

    expressions: where its functions come from, and are kept for other specs
    """
    expressions = expressions or Expressions()
    query = partial(Query, expressions)
    return Spec(
        id=raw["id"],
        name=raw.get("name") or raw["id"],
        dialect=raw.get("dialect") or raw["id"],
        base_url=raw.get("base_url", ""),
        docs=raw.get("docs", ""),
        source=tuple(raw.get("source", ())),
        former_urls=tuple(raw.get("former_urls", ())),
        aliases=tuple(raw.get("aliases", ())),
        auth=_auth(raw.get("auth", {})),
        capabilities=raw.get("capabilities", {}),
        endpoints=raw.get("endpoints", {}),
        request=_request(raw.get("request", {}), expressions),
        response=_response(raw, query),
        stream=_stream(raw, query),
        errors=_errors(raw.get("errors", {}), query),
        fallbacks=tuple(_fallback(name, row, query) for name, row in raw.get("fallbacks", {}).items()),
        retry=model.Retry(**raw.get("retry", {})),
        transport=model.Limits(**raw.get("transport", {})),
        models=_models(raw.get("models", {}), query),
        deviations=raw.get("deviations", {}),
        evidence=tuple(_source(row) for row in raw.get("evidence", ())),
    )


def texts(spec: Spec) -> set[str]:
    """The texts of all expressions that a spec may evaluate."""
    return {text for query in queries(spec) for text in query.key}.union(spec.request.body.formulas)


def queries(spec: Spec) -> Iterator[Query]:
    """All expressions that a spec may evaluate."""
    readers: tuple[model.Reader, ...] = (spec.response, spec.stream, *spec.stream.events.values())
    for reader in readers:
        yield from (reader.found, reader.tool_call, reader.call_replay, reader.tokens, reader.replay)
    yield from (spec.response.answer, spec.errors.detect, spec.errors.found, spec.models.list)
    yield from ([spec.stream.kind] if spec.stream.kind else [])
    yield from (rule.when for rule in spec.errors.rules)
    yield from (fallback.when for fallback in spec.fallbacks)
    yield Query(spec.request.expressions, ("deviations",), spec.deviations)


def _auth(raw: Mapping[str, Any]) -> model.Auth:
    style = raw.get("style", "bearer")
    env = raw.get("env", ())
    return model.Auth(
        style=style,
        name=_HEADER.get(style) or raw.get("name", ""),
        template=raw.get("template") or _TEMPLATE.get(style, "{api_key}"),
        env=(env,) if isinstance(env, str) else tuple(env),
        required=raw.get("required", False),
    )


def _request(raw: Mapping[str, Any], expressions: Expressions) -> model.Request:
    return model.Request(
        expressions,
        body_source=raw.get("body"),
        system=raw.get("system", "keep"),
        roles=raw.get("roles", {}),
        content=raw.get("content", "as_given"),
        strip=tuple(raw.get("strip", ())),
        headers=raw.get("headers", {}),
        query=raw.get("query", {}),
        parameters=tuple(model.Parameter(name, **row) for name, row in raw.get("parameters", {}).items()),
    )


def _reader(path: Path, block: Mapping[str, Any], raw: Mapping[str, Any], query: _MakeQuery) -> dict[str, Any]:
    sources = {**block, "detect": raw.get("errors", {}).get("detect")}
    replay = block.get("replay", {})
    return {
        "found": query(path, sources, ("detect", *FOUND)),
        "tool_call": query((*path, "tool_call"), block.get("tool_call", {}), CALL),
        "call_replay": query((*path, "tool_call", "replay"), block.get("tool_call", {}).get("replay", {})),
        "tokens": query(("response", "tokens"), raw.get("response", {}).get("tokens", {}), TOKENS),
        "replay": query(
            (*path, "replay"),
            {key: row.get("from", "") if isinstance(row, dict) else row for key, row in replay.items()},
        ),
        "grows": {key: tuple(row.get("join", ())) for key, row in replay.items() if isinstance(row, dict)},
        "blocks": _steps(block.get("blocks", "")),
    }


def _steps(path: str) -> Path:
    """Keys and places of a path such as candidates[0].content.parts."""
    return tuple(
        int(step) if step.isdigit() else step for step in path.replace("[", ".").replace("]", "").split(".") if step
    )


def _response(raw: Mapping[str, Any], query: _MakeQuery) -> model.Response:
    block = raw.get("response", {})
    return model.Response(
        **_reader(("response",), block, raw, query),
        answer=query(("response",), block, ("answer",)),
        choices=block.get("choices", ""),
        finish_reasons=block.get("finish_reasons", {}),
        request_id=tuple(block.get("request_id", ())),
        think_tags=tuple((opening, closing) for opening, closing in block.get("think_tags", ())),
    )


def _stream(raw: Mapping[str, Any], query: _MakeQuery) -> model.Stream:
    block = raw.get("stream", {})
    events = block.get("events", {})
    return model.Stream(
        **_reader(("stream",), block, raw, query),
        framing=block.get("framing", "sse"),
        done=block.get("done", ""),
        reasoning_first=block.get("reasoning_first", False),
        usage_in_parts=block.get("usage_in_parts", False),
        kind=query(("stream",), block, ("kind",)) if block.get("kind") else None,
        events={
            name: model.Reader(**_reader(("stream", "events", name), row, raw, query)) for name, row in events.items()
        },
    )


def _errors(raw: Mapping[str, Any], query: _MakeQuery) -> model.Errors:
    return model.Errors(
        detect=query(("errors",), raw, ("detect",)),
        found=query(("errors",), raw, FAULT),
        rules=tuple(
            model.Rule(
                name=name,
                when=query(
                    ("errors", "rules", name),
                    {"when": row.get("when") or ("`true`" if row.get("says") else "`false`")},
                    ("when",),
                ),
                kind=row.get("kind", ""),
                says=tuple(phrase.lower() for phrase in row.get("says", ())),
                unless=tuple(phrase.lower() for phrase in row.get("unless", ())),
                retryable=row.get("retryable"),
                hint=row.get("hint", ""),
            )
            for name, row in raw.get("rules", {}).items()
        ),
        statuses=raw.get("statuses", {}),
    )


def _fallback(name: str, raw: Mapping[str, Any], query: _MakeQuery) -> model.Fallback:
    return model.Fallback(
        name=name,
        when=query(("fallbacks", name), raw, ("when",)),
        needs=raw.get("needs", ""),
        enabled=raw.get("enabled", True),
    )


def _source(row: Mapping[str, Any]) -> model.Source:
    return model.Source(tuple(row.get("of", ())), row.get("kind", ""), row.get("source", ""), row.get("date", ""))


def _models(raw: Mapping[str, Any], query: _MakeQuery) -> model.Models:
    return model.Models(list=query(("models",), raw, ("list",)), default=raw.get("default", ""))
