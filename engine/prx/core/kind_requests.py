"""Builds the request of a call that is no chat, by the file's `calls.KIND`: templates over the call's arguments, for path, query and body."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from prx.chat import Call
from prx.core.request import NO_JSON, build_body, encoded, http_request, in_encoding, no_json, with_model
from prx.errors import CapabilityError, ConfigError
from prx.lang.template import TemplateError
from prx.spec.model import KINDS_OF_CALLS, MODEL_PLACES, PLACE, CallForm, Spec
from prx.wire import HttpRequest, Target

_ACCEPT = {"speech": "*/*"}  # of the others the answer is read as JSON
_FILE = {"name", "media_type", "data"}  # the keys of a file among the values of a template
_ELEMENTS = {
    "embed": ("input", "input"),
    "rerank": ("document", "documents"),
}  # {kind: (name in a row, the list of them)}


def form_of(spec: Spec, kind: str) -> CallForm:
    """How the provider is asked for a kind of call. Raises CapabilityError where its file does not say."""
    form = spec.calls.get(kind)
    if form is None:
        others = ", ".join(spec.calls) or "none but chat"
        raise CapabilityError(
            f"cannot be asked for {kind}: its file has no calls.{kind}; it has {others}",
            provider=spec.id, hint="Use another provider, or add the call to its file if it has one.",
        )  # fmt: skip
    return form


def view(spec: Spec, call: Call, form: CallForm) -> dict[str, Any]:
    """The names that the templates and formulas of a call can read, with their values."""
    params = {name: value for name, value in call.params.items() if value is not None}
    names: dict[str, Any] = {"model": call.model, "params": params, **call.inputs}
    if "rows" in KINDS_OF_CALLS[form.kind][0]:  # for bodies with an object for each input: `each` sees only its element
        name, elements = _ELEMENTS[form.kind]
        names["rows"] = [{**names, name: each} for each in call.inputs[elements]]
    if "body" in KINDS_OF_CALLS[form.kind][0]:  # the body that a chat with the same messages would have
        names |= {"messages": list(call.messages), "tools": list(call.tools) or None, "body": build_body(spec, call)}
    return names


def build_kind(kind: str, spec: Spec, call: Call, target: Target) -> HttpRequest:
    """The request of a call. Raises CapabilityError, and ConfigError for what cannot be sent."""
    form = form_of(spec, kind)
    values = view(spec, call, form)
    try:
        body, query = _body(spec, call, form, values), _query(form, values)
        content_type, data = _file(body) if form.encoding == "file" else in_encoding(form.encoding, body, spec)
        path = _path(spec, call, form, values)
    except TemplateError as error:
        raise CapabilityError(f"the dialect {spec.dialect} cannot express this: {error}", provider=spec.id) from None
    except NO_JSON as error:
        raise no_json(error, spec) from None
    return http_request(
        "POST", path, spec, target, data, extra=call.extra, query=query,
        content_type=content_type, accept=_ACCEPT.get(kind, "application/json"),
    )  # fmt: skip


def _path(spec: Spec, call: Call, form: CallForm, values: Mapping[str, Any]) -> str:
    """The path of a call, with its arguments in it."""
    constant = isinstance(form.endpoint, str) and form.endpoint.startswith("/")
    path = form.endpoint if constant else (form.path(values) or {}).get("endpoint")
    if not isinstance(path, str) or not path.startswith("/"):
        raise TemplateError((), f"calls.{form.kind}.endpoint gives no path for it, but {path!r:.80}")
    for name in PLACE.findall(path):
        if name not in MODEL_PLACES:
            path = path.replace(f"{{{name}}}", _in_path(name, values.get(name), spec))
    return with_model(path, call.model, spec)


def _in_path(name: str, value: Any, spec: Spec) -> str:
    if not isinstance(value, str) or value in ("", ".", ".."):
        raise ConfigError(f"{name} must be a text that can stand in the URL, not {value!r:.60}", provider=spec.id)
    return quote(value, safe="")


def _query(form: CallForm, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parameters of the URL. A list becomes several of one name."""
    query: dict[str, Any] = (form.query(values) or {}) if form.query_source else {}
    if form.encoding == "file":
        query = {**query, **_unplaced(form, values)}
    listed = [(name, value if isinstance(value, list) else [value]) for name, value in query.items()]
    return [(name, _in_query(item)) for name, items in listed for item in items]


def _in_query(value: Any) -> str:
    text = value if isinstance(value, str) else encoded(value).decode()
    text.encode()  # raises UnicodeEncodeError for what no URL can have
    return text


def _body(spec: Spec, call: Call, form: CallForm, values: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = form.request(values) or {}
    if form.encoding == "file":
        if call.extra.body:
            raise ConfigError("extra_body has no place: the body is the file", provider=spec.id)
        return body
    return {**body, **_unplaced(form, values), **call.extra.body}


def _unplaced(form: CallForm, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the call that none of the templates reads."""
    rest = {} if "*" in form.placed or "body" in values else values["params"]
    return {name: value for name, value in rest.items() if name not in form.placed}


def _file(body: Mapping[str, Any]) -> tuple[str, bytes]:
    """(content type, data) of a body that is a file."""
    file = body.get("file")
    if not isinstance(file, dict) or file.keys() != _FILE:
        raise TemplateError(("request",), "its request has no file")
    return file["media_type"], base64.b64decode(file["data"])
