"""Makes a Spec from a resolved mapping. Faults are not repaired here; spec/faults.py collects them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from prx.lang.compiled import Expressions
from prx.record import Record
from prx.spec import model
from prx.spec.document import Keys
from prx.spec.model import CALL, FAULT, TOKENS, Found, Query, Spec
from prx.spec.resolve import PART

OWN_HEADER = "prx sets this header itself, from the length of the request; remove it"

_HEADER = {"bearer": "authorization", "x-api-key": "x-api-key"}
_TEMPLATE = {"bearer": "Bearer {api_key}"}
R = TypeVar("R", bound=Record)
_MakeQuery = Callable[..., Query]  # (path, sources below it, names of the sources) -> Query


def compile_spec(raw: Mapping[str, Any], expressions: Expressions | None = None) -> Spec:
    """A Spec from a mapping that the schema has accepted and that is resolved.

    expressions: the compiled expressions, shared with other specs
    """
    expressions = expressions or Expressions()
    query = partial(Query, expressions)
    return _record(
        Spec,
        raw,
        name=raw.get("name") or raw["id"],
        dialect=raw.get("dialect") or raw["id"],
        auth=_auth(raw.get("auth", {}), query),
        request=_request(raw.get("request", {}), expressions, query),
        response=_response(raw, query),
        stream=_stream(raw, query),
        errors=_errors(raw.get("errors", {}), query),
        calls=model.CallForms(raw.get("calls", ()), partial(_call, raw, expressions, query)),
        fallbacks=tuple(_fallback(name, raw["fallbacks"], query) for name in raw.get("fallbacks", {})),
        retry=model.Retry(**raw.get("retry", {})),
        transport=model.Limits(**raw.get("transport", {})),
        models=_record(model.Models, models := raw.get("models", {}), list=query(("models",), models, ("list",))),
        evidence=tuple(_record(model.Source, row) for row in raw.get("evidence", ())),
        retired=_record(model.Retired, row) if "date" in (row := raw.get("retired") or {}) else None,
    )


def _record(cls: type[R], block: Mapping[str, Any], **compiled: Any) -> R:
    """A record from a block of the file: the compiled fields, and all other fields as the block has them."""
    plain = {key: block[key] for key in cls._fields if key in block and key not in compiled}
    lists = {key: tuple(value) for key, value in plain.items() if isinstance(value, list)}
    return cls(**(plain | lists | compiled))


def texts(spec: Spec) -> set[str]:
    """The texts of all expressions that a spec may evaluate."""
    templates = (spec.request.body, *(each for form in spec.calls.values() for each in form.templates))
    return {text for query in queries(spec) for text in query.key}.union(*(each.formulas for each in templates))


def queries(spec: Spec) -> Iterator[Query]:
    """All expressions that a spec may evaluate."""
    readers: tuple[model.Reader, ...] = (spec.response, spec.stream, *spec.stream.events.values())
    for reader in readers:
        yield from (reader.found, reader.tool_call, reader.call_replay, reader.tokens, reader.replay)
    yield from ([spec.auth.token.answer.found] if spec.auth.token else [])
    yield from (spec.response.answer, spec.errors.detect, spec.errors.found, spec.errors.refused, spec.models.list)
    yield from ([spec.stream.kind] if spec.stream.kind else [])
    yield from (row.when for row in spec.request.fill if row.when)
    yield from (rule.when for rule in spec.errors.rules)
    yield from (fallback.when for fallback in spec.fallbacks)
    for form in spec.calls.values():
        yield from (form.found, form.row, form.tokens, form.packed)
    yield Query(spec.request.expressions, ("deviations",), spec.deviations)


def _auth(block: Mapping[str, Any], query: _MakeQuery) -> model.Auth:
    style, credential, token = block.get("style", model.Auth.style), block.get("credential", ()), block.get("token")
    return _record(
        model.Auth,
        block,
        name=_HEADER.get(style) or block.get("name", ""),
        template=block.get("template") or _TEMPLATE.get(style, "{api_key}"),
        env=_names(block.get("env", ())),
        credential=credential if isinstance(credential, Mapping) else _names(credential),
        jwt=_record(model.Jwt, block["jwt"]) if block.get("jwt") else None,
        aws4=_record(model.Aws4, block["aws4"]) if block.get("aws4") else None,
        token=_token(token, query) if token else None,
    )


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _token(block: Mapping[str, Any], query: _MakeQuery) -> model.TokenForm:
    answer = block.get("answer", {})
    found = query(("auth", "token", "answer"), answer, model.FOUND_IN_TOKEN)
    return _record(model.TokenForm, block, answer=_record(model.TokenAnswer, answer, found=found))


def _request(block: Mapping[str, Any], expressions: Expressions, query: _MakeQuery) -> model.Request:
    rows = block.get("parameters", {}).items()
    return _record(
        model.Request,
        block,
        expressions=expressions,
        body_source=block.get("body"),
        **{key: model.NameForm(**block[key]) if block.get(key) else None for key in ("tool_names", "call_ids")},
        schemas=_schemas(block["schemas"]) if block.get("schemas") else None,
        parameters=tuple(model.Parameter(name, **row) for name, row in rows),
        insert=tuple(model.Inserted(row["after"], row["before"], row["message"]) for row in block.get("insert", ())),
        fill=tuple(_filled(name, row, query) for name, row in block.get("fill", {}).items()),
        strip=frozenset(name for name, wanted in block.get("strip", {}).items() if wanted),
    )


def _call(raw: Mapping[str, Any], expressions: Expressions, query: _MakeQuery, kind: str) -> model.CallForm:
    block = raw["calls"][kind]
    answer, path = block.get("response", {}), ("calls", kind, "response")
    own = answer.get("tokens")
    tokens = raw.get("response", {}).get("tokens", {}) if own is None else own
    _, found, row = model.KINDS_OF_CALLS[kind]
    return _record(
        model.CallForm,
        block,
        kind=kind,
        expressions=expressions,
        request_source=block.get("request"),
        query_source=block.get("query"),
        found=query(path, answer, (*found, *model.OF_ALL_ANSWERS)),
        row=query((*path, "row"), answer.get("row", {}), row),
        tokens=query(("response", "tokens") if own is None else (*path, "tokens"), tokens, TOKENS),
        packed=query(("calls", kind), block, ("packed",)),
    )


def _filled(name: str, row: Mapping[str, Any], query: _MakeQuery) -> model.Filled:
    when = query(("request", "fill", name), row, ("when",)) if "when" in row else None
    return model.Filled(name, row["value"], when)


def _schemas(block: Mapping[str, Any]) -> model.Schemas:
    forms = {name: model.SchemaForm(**row) for name, row in block.items() if isinstance(row, dict)}
    return _record(model.Schemas, block, **forms)


def _reader(path: Keys, block: Mapping[str, Any], raw: Mapping[str, Any], query: _MakeQuery) -> dict[str, Any]:
    sources = {**block, "detect": raw.get("errors", {}).get("detect")}
    replay = block.get("replay", {})
    return {
        "found": query(path, sources, Found._fields),
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


def _steps(path: str) -> Keys:
    """The steps of a path: ("candidates", 0, "content", "parts") for candidates[0].content.parts."""
    return tuple(
        int(step) if step.isdigit() else step for step in path.replace("[", ".").replace("]", "").split(".") if step
    )


def _response(raw: Mapping[str, Any], query: _MakeQuery) -> model.Response:
    block = raw.get("response", {})
    return _record(
        model.Response,
        block,
        **_reader(("response",), block, raw, query),
        answer=query(("response",), block, ("answer",)),
        think_tags=tuple((opening, closing) for opening, closing in block.get("think_tags", ())),
    )


def _stream(raw: Mapping[str, Any], query: _MakeQuery) -> model.Stream:
    block = raw.get("stream", {})
    rows = block.get("events", {}).items()
    return _record(
        model.Stream,
        block,
        **_reader(("stream",), block, raw, query),
        kind=query(("stream",), block, ("kind",)) if block.get("kind") else None,
        events={name: model.Reader(**_reader(("stream", "events", name), row, raw, query)) for name, row in rows},
    )


def _errors(block: Mapping[str, Any], query: _MakeQuery) -> model.Errors:
    return _record(
        model.Errors,
        block,
        detect=query(("errors",), block, ("detect",)),
        found=query(("errors",), block, FAULT),
        refused=_each("refused", block.get("refused"), query),
        rules=tuple(_rule(name, row, query) for name, row in block.get("rules", {}).items()),
    )


def _each(name: str, value: Any, query: _MakeQuery) -> Query:
    """A query that evaluates every expression of a list, not only up to the first that finds something."""
    if isinstance(value, list):
        return query(("errors", name), dict(enumerate(value)))
    return query(("errors",), {name: value}, (name,))


def _rule(name: str, block: Mapping[str, Any], query: _MakeQuery) -> model.Rule:
    return _record(model.Rule, block, name=name, **_condition(("errors", "rules", name), block, query))


def _condition(path: Keys, block: Mapping[str, Any], query: _MakeQuery) -> dict[str, Any]:
    """The conditions of a rule or a fallback. Without a formula only the phrases decide; without both it never applies."""
    when = block.get("when") or ("`true`" if block.get("says") else "`false`")
    return {
        "when": query(path, {"when": when}, ("when",)),
        "says": tuple(phrase.lower() for phrase in block.get("says", ())),
        "unless": tuple(phrase.lower() for phrase in block.get("unless", ())),
    }


def _fallback(name: str, rows: Mapping[str, Any], query: _MakeQuery) -> model.Fallback:
    block = rows[name]
    return _record(
        model.Fallback,
        block,
        name=name,
        **_condition(("fallbacks", name), block, query),
        **{way: _left_out(block[way], rows) for way in ("leaves_out", "strips") if way in block},
    )


def _left_out(words: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """{parameter or key that a row leaves out: words for it}, without those for which there is a row named without_NAME."""
    return {name: tuple(of_name) for name, of_name in words.items() if PART + name not in rows}
