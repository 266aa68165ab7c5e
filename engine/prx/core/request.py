"""Builds the HttpRequest of a call from the spec. Refuses a call that needs a capability the spec denies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from prx.chat import NO_EXTRA, NONE, Call, Extra, Given
from prx.core import forms, names
from prx.core import messages as shaping
from prx.core.shape import prepared
from prx.errors import CapabilityError, ConfigError, NotFoundError, UnwritableError
from prx.json_text import compact_strict
from prx.lang.template import TemplateError
from prx.secret import Secret
from prx.spec.model import Parameter, Spec
from prx.text import MissingError
from prx.wire import HttpRequest, Target

USER_AGENT = "prx/0.1"
_ACCEPT = {
    "sse": "text/event-stream, application/json",
    "ndjson": "application/x-ndjson, application/json",
    "json_array": "application/json",
    "aws_eventstream": "application/vnd.amazon.eventstream, application/json",
}
_HOLES = {"{model}": "/:@", "{encoded_model}": ""}  # and which characters of the name stay as they are


def build(spec: Spec, call: Call, target: Target) -> HttpRequest:
    """The request of a call. Raises CapabilityError, and UnwritableError for values that JSON cannot express."""
    if "chat" not in spec.endpoints:
        others = ", ".join(spec.calls) or "none"
        raise CapabilityError(f"has no chat (endpoints.chat); its other calls: {others}", provider=spec.id)
    body = chat_body(spec, call)
    path = spec.endpoints.get("stream" if call.stream else "chat") or spec.endpoints["chat"]
    path = with_model(path, call.model, spec)
    return http_request("POST", path, spec, target, body, extra=call.extra, stream=call.stream)


def chat_body(spec: Spec, call: Call) -> bytes:
    """The body of a chat's request. Raises CapabilityError, and UnwritableError for values that JSON cannot express."""
    refuse_unable(spec, call)
    try:
        return compact_strict(build_body(spec, call)).encode()
    except NO_JSON as error:
        raise no_json(error, spec) from None


NO_JSON = (TypeError, ValueError, RecursionError)  # what arises from values that JSON cannot express


def no_json(error: Exception, spec: Spec) -> UnwritableError:
    """The error for a call with values that JSON cannot express."""
    if isinstance(error, UnicodeEncodeError):
        before = f"{error.object[max(0, error.start - 20) : error.start]}\ufffd".rpartition('"')[2]
        return UnwritableError(f"a text of the call is not valid Unicode, after {before!r}", provider=spec.id)
    # Of other classes are those of jmespath, which say what happened in a formula.
    plain = type(error) in (ValueError, RecursionError)
    reason = str(error) if plain else f"a value has not the type that it should have ({error})"
    return UnwritableError(f"the call cannot be written as JSON: {reason}", provider=spec.id)


def encoded(body: Any) -> bytes:
    """A body as JSON. Raises one of NO_JSON."""
    return compact_strict(body).encode()


def with_model(path: str, model: str, spec: Spec) -> str:
    """The path with the model's name in it. A name such as models/x is not put behind models/ a second time."""
    hole = next((hole for hole in _HOLES if hole in path), "")
    if not hole:
        return path
    before = path.partition(hole)[0]
    if {".", ".."} & set(model.split("/")):
        raise ConfigError(f"the model's name {model!r} cannot stand in a URL", provider=spec.id)
    name = model.removeprefix(f"{before.rstrip('/').rpartition('/')[2]}/")
    try:
        return path.replace(hole, quote(name, safe=_HOLES[hole]))
    except UnicodeEncodeError:
        raise ConfigError(
            f"the model's name {model!r} cannot stand in a URL: it is not valid Unicode", provider=spec.id
        ) from None


def build_passed(spec: Spec, call: Call, target: Target) -> HttpRequest:
    """The request for a body that is passed on to the endpoint that it names, with the model's name in it. Raises
    NotFoundError for a provider of another dialect.
    """
    given = call.given
    if given is None or given.dialect != spec.dialect:
        raise NotFoundError("has no such call: neither its dialect nor its file has a form for it", provider=spec.id)
    body = given.body if "{model}" in given.endpoint else {**given.body, "model": call.model}
    content_type, data = in_encoding(given.encoding, body, spec)
    path = with_model(given.endpoint, call.model, spec)
    return http_request(
        "POST", path, spec, target, data, extra=call.extra, stream=call.stream, content_type=content_type,
        accept="*/*" if call.stream else "application/json",
    )  # fmt: skip


def in_encoding(encoding: str, body: Mapping[str, Any], spec: Spec) -> tuple[str, bytes]:
    """(content type, data) of a body. Raises ConfigError for a name that a form cannot have, and one of NO_JSON."""
    if encoding != "multipart":
        return "application/json", encoded(body)
    try:
        return forms.written(body)
    except ValueError as error:
        if isinstance(error, UnicodeError):
            raise
        raise ConfigError(str(error), provider=spec.id) from None


def build_models(spec: Spec, _call: Call, target: Target) -> HttpRequest:
    """The request for the list of models. Raises CapabilityError where the provider has no list."""
    if not spec.can("models") or "models" not in spec.endpoints:
        raise CapabilityError("has no list of its models", provider=spec.id)
    return http_request("GET", spec.endpoints["models"], spec, target)


def http_request(
    method: str,
    path: str,
    spec: Spec,
    target: Target,
    body: bytes = b"",
    *,
    extra: Extra = NO_EXTRA,
    stream: bool = False,
    query: Sequence[tuple[str, str]] = (),
    content_type: str = "application/json",
    accept: str = "",
) -> HttpRequest:
    """The request to an endpoint, with the headers, the query and the key of the spec and the target."""
    headers: dict[str, str | Secret] = {
        "user-agent": USER_AGENT,
        "accept": accept or (_ACCEPT[spec.stream.framing] if stream else "application/json"),
        "accept-encoding": "identity" if stream else "gzip",
    }
    if body:
        headers["content-type"] = content_type
    for name, text in spec.request.headers.items():
        if name.lower() not in target.headers:
            headers[name.lower()] = _expanded(text, target, spec)
    headers.update(target.headers)
    auth, in_query = _auth(spec, target), spec.auth.style == "query" and target.signer is None
    if extra.headers or extra.query or query:
        _refuse_key(spec, auth, {*extra.query, *dict(query)} if in_query else map(str.lower, extra.headers))
        headers.update({name.lower(): text for name, text in extra.headers.items()})
    if not in_query:
        headers.update(auth)
    plain, secret = _query(spec, target, extra)
    plain += [(name, text) for name, text in query if name not in extra.query]
    if in_query:
        secret.update(auth)
    url = endpoint_url(target.base_url, path, target.endpoints, tuple(plain))
    return HttpRequest(method, url, headers, body, secret, stream)


def _refuse_key(spec: Spec, auth: Mapping[str, Secret], names: Iterable[str]) -> None:
    if not auth.keys().isdisjoint(names):
        raise ConfigError(
            f"{spec.auth.name} carries the key; extra_headers and extra_query cannot set it", provider=spec.id
        )


def _query(spec: Spec, target: Target, extra: Extra) -> tuple[list[tuple[str, str]], dict[str, Secret]]:
    """(plain parameters of the URL, those that may hold a key)."""
    plain: list[tuple[str, str]] = [*extra.query.items()]
    secret: dict[str, Secret] = {}
    for name, text in spec.request.query.items():
        if name in extra.query:
            continue
        value = _expanded(text, target, spec)
        if isinstance(value, Secret):
            secret[name] = value
        else:
            plain.append((name, value))
    return plain, secret


def _auth(spec: Spec, target: Target) -> Mapping[str, Secret]:
    """{header or parameter: key} for this variant of the spec: overrides may have another auth."""
    if target.signer is not None:
        return target.auth
    secret = next(iter(target.auth.values()), None)
    return {} if secret is None or spec.auth.style == "none" else {spec.auth.name: secret.within(spec.auth.template)}


def _expanded(text: str, target: Target, spec: Spec) -> str | Secret:
    """A text of the spec with the values of its ${NAME}s. A text that has any becomes a Secret: such values may be keys."""
    try:
        return Secret.filled(text, target.values)
    except MissingError as missing:
        hint = (
            f"Set it: export {missing.name}=…. To an api_url of your own it is not sent from the environment; there, set"
            " the header in the provider's table of config.toml."
        )
        raise ConfigError(
            f"the provider's file needs the environment variable {missing.name}, which is not set",
            provider=spec.id, hint=hint,
        ) from None  # fmt: skip


@lru_cache(maxsize=256)  # to put a URL together takes as long as the rest of a request
def endpoint_url(base_url: str, path: str, known: tuple[str, ...] = (), query: tuple[tuple[str, str], ...] = ()) -> str:
    """A base URL with an endpoint's path appended, unless the URL ends in that path already.

    The base URL's query is kept, and so is a slash after a full path. known: endpoints that a base URL may end in, which
    are replaced. query: parameters to add, where the base URL does not have them. An endpoint beside the base URL
    begins with /../
    """
    base = urlsplit(base_url)
    path, _, path_query = path.partition("?")
    base_path = base.path.rstrip("/")
    full = base.path if base_path.endswith(path) else _without_endpoint(base_path, known) + path
    full = _climbed(full) if "/../" in path else full
    present = {name for name, _ in parse_qsl(base.query, keep_blank_values=True)}
    added = urlencode([(name, value) for name, value in query if name not in present])
    pairs = [part for part in (base.query, path_query, added) if part]
    return urlunsplit((base.scheme, base.netloc, full, "&".join(pairs), ""))


def _climbed(path: str) -> str:
    """A path with its /../ resolved: each removes the step before it, if there is one."""
    steps: list[str] = []
    for step in path.split("/")[1:]:
        steps[-1:] = [] if step == ".." else [*steps[-1:], step]
    return f"/{'/'.join(steps)}"


def endpoint_pattern(path: str) -> str:
    """A regular expression that matches an endpoint's path with any name in place of {model}."""
    return "[^/]+".join(map(re.escape, re.split("|".join(map(re.escape, _HOLES)), path)))


def _without_endpoint(path: str, known: tuple[str, ...]) -> str:
    """A path without the known endpoint that it ends in, if it ends in one."""
    for endpoint in known:
        match = re.search(f"{endpoint_pattern(endpoint)}$", path)
        if match:
            return path[: match.start()]
    return path


# ------------------------------------------------------------------ body


def build_body(spec: Spec, call: Call) -> dict[str, Any]:
    """The JSON body as a dict. Raises CapabilityError where the dialect has no form for a part of the call."""
    given = call.given
    passes = given is not None and spec.plain and given.dialect == spec.dialect
    body = _passing(spec, call, given) if given is not None and passes else _built(spec, call)
    return {**body, **call.extra.body} if call.extra.body else body


def _passing(spec: Spec, call: Call, given: Given) -> dict[str, Any]:
    """The caller's own body, with the provider's name of the model, and with what it lacks of the keys that are always sent."""
    added = ("model", *(key for key in given.adds if key not in given.body))
    template = spec.request.body.only(added)
    params = adapt(spec.request.parameters, call.params) if template.params else NONE
    return {**given.body, **(template(view(call, params, template.reads)) or {})}


def _built(spec: Spec, call: Call) -> dict[str, Any]:
    request = spec.request
    if request.schemas is not None and (call.tools or "response_format" in call.params):
        from prx.core import schemas  # imported here: most providers accept any schema, and most calls have none

        call = schemas.outgoing(call, spec)
    call = names.outgoing(call, request)
    params = adapt(request.parameters, call.params)
    template = request.body
    try:
        body: dict[str, Any] = template(view(prepared(call, request), params, template.reads)) or {}
    except TemplateError as error:
        raise CapabilityError(f"the dialect {spec.dialect} cannot express this: {error}", provider=spec.id) from None
    # Parameters that the template does not place itself go to the top of the body; "*" means that it places all.
    placed = template.params
    rest: Mapping[str, Any] = (
        {} if "*" in placed else {name: value for name, value in params.items() if name not in placed}
    )
    rest = {request.other_parameters: rest} if rest and request.other_parameters else rest
    for name, value in rest.items():
        body[name] = _joined(body.get(name), value)
    return body


def view(call: Call, params: Mapping[str, Any], wanted: set[str]) -> dict[str, Any]:
    """The names that a body's formulas can read, with their values. Those that take work are made only if `wanted`."""
    messages = list(call.messages)
    names: dict[str, Any] = {
        "model": call.model,
        "messages": messages,
        "tools": list(call.tools) or None,
        "tool_choice": call.tool_choice,
        "stream": call.stream,
        "params": dict(params),
    }
    if "system" in wanted:
        names["system"] = shaping.system_text(messages) or None
    if "system_parts" in wanted:
        names["system_parts"] = shaping.system_parts(messages)
    if "turns" in wanted:
        names["turns"] = shaping.turns(messages, call.model)
    if "sides" in wanted:
        names["sides"] = shaping.sides(messages, call.model)
    if "choice" in wanted:
        names["choice"] = _choice(call.tool_choice)
    return names


def _choice(tool_choice: Any) -> dict[str, Any] | None:
    """tool_choice as {mode: auto | none | required | named | other, name}."""
    if tool_choice is None or isinstance(tool_choice, str):
        return {"mode": tool_choice} if tool_choice else None
    function = tool_choice.get("function") if isinstance(tool_choice, dict) else None
    return (
        {"mode": "named", "name": function["name"]}
        if isinstance(function, dict) and "name" in function
        else {"mode": "other"}
    )


def adapt(rows: tuple[Parameter, ...], params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a call, changed by the rows of the spec's request.parameters. null counts as not given."""
    adapted = {name: value for name, value in params.items() if value is not None}
    for row in rows:
        value = _adapted(row, adapted.pop(row.name, row.default))
        if value is not None and not row.drop:
            _place(adapted, row.rename or row.name, value)
    return adapted


def _adapted(row: Parameter, value: Any) -> Any:
    if isinstance(value, str | bool):
        value = row.values.get(value if isinstance(value, str) else compact_strict(value), value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = value if row.min is None else max(value, row.min)
        value = value if row.max is None else min(value, row.max)
    return value


def _place(params: dict[str, Any], name: str, value: Any) -> None:
    """Set a value under a name such as a.b, whose dots lead into objects; objects on the way are copied, not changed."""
    *above, last = name.split(".")
    for key in above:
        inner = params.get(key)
        params[key] = params = dict(inner) if isinstance(inner, dict) else {}
    params[last] = _joined(params.get(last), value)


def _joined(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new


# ------------------------------------------------------------------ capabilities


def refuse_unable(spec: Spec, call: Call) -> None:
    """Raise CapabilityError for the first capability that the call needs and the spec denies."""
    for capability, needs, feature in _NEEDS if spec.unable else ():
        if capability in spec.unable and needs(call):
            raise CapabilityError(
                f"does not support {feature}: its file says capabilities.{capability}: false{_age(spec, call, capability)}",
                provider=spec.id,
                hint="Leave it out, use another provider, or set the capability to true if the file is wrong.",
            )


def _age(spec: Spec, call: Call, rule: str) -> str:
    date = spec.dated(rule, call.model)
    return f", by a source of {date}" if date else ""


def _part_kinds(call: Call) -> Iterator[Any]:
    for message in call.messages:
        content = message.get("content")
        yield from (part.get("type") for part in content if isinstance(part, dict)) if isinstance(content, list) else ()


def _wants_schema(call: Call) -> bool:
    wanted = call.params.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_schema"


# (capability, whether a call needs it, its name in the error)
_NEEDS: tuple[tuple[str, Callable[[Call], Any], str], ...] = (
    ("tools", lambda call: call.tools, "tools"),
    ("tool_choice", lambda call: call.tools and call.tool_choice not in (None, "auto", "none"), "a forced tool_choice"),
    ("parallel_tools", lambda call: call.params.get("parallel_tool_calls"), "parallel_tool_calls"),
    ("vision", lambda call: "image_url" in _part_kinds(call), "pictures"),
    ("audio", lambda call: "input_audio" in _part_kinds(call), "audio"),
    ("json_schema", _wants_schema, "a response_format of type json_schema"),
    ("reasoning", lambda call: call.params.get("reasoning_effort") not in (None, "none"), "reasoning_effort"),
)
