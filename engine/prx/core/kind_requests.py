"""Builds the request of a call that is no chat, by the file's `calls.KIND`: a template over the call's arguments, as JSON or as a form."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from prx.chat import Call
from prx.core.request import NO_JSON, build_body, encoded, http_request, no_json, with_model
from prx.errors import CapabilityError, ConfigError
from prx.lang.template import TemplateError
from prx.spec.model import KINDS_OF_CALLS, CallForm, Spec
from prx.wire import HttpRequest, Target

_ACCEPT = {"speech": "*/*"}  # of the others the answer is read as JSON
_FILE = {"name", "media_type", "data"}  # the keys of a file among the values of a template


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
        names["rows"] = [{**names, "input": each} for each in call.inputs["input"]]
    if "body" in KINDS_OF_CALLS[form.kind][0]:  # the body that a chat with the same messages would have
        names |= {"messages": list(call.messages), "tools": list(call.tools) or None, "body": build_body(spec, call)}
    return names


def build_kind(kind: str, spec: Spec, call: Call, target: Target) -> HttpRequest:
    """The request of a call. Raises CapabilityError, and ConfigError for what cannot be sent."""
    form = form_of(spec, kind)
    try:
        body = _body(spec, call, form)
        content_type, data = _multipart(body, spec) if form.encoding == "multipart" else ("", encoded(body))
    except TemplateError as error:
        raise CapabilityError(f"the dialect {spec.dialect} cannot express this: {error}", provider=spec.id) from None
    except NO_JSON as error:
        raise no_json(error, spec) from None
    path = with_model(form.endpoint, call.model, spec)
    return http_request(
        "POST", path, spec, target, data, extra=call.extra,
        content_type=content_type or "application/json", accept=_ACCEPT.get(kind, "application/json"),
    )  # fmt: skip


def _body(spec: Spec, call: Call, form: CallForm) -> dict[str, Any]:
    values = view(spec, call, form)
    body: dict[str, Any] = form.request(values) or {}
    placed = form.request.params
    rest = {} if "*" in placed or "body" in values else values["params"]
    return {**body, **{name: value for name, value in rest.items() if name not in placed}, **call.extra.body}


def _multipart(body: Mapping[str, Any], spec: Spec) -> tuple[str, bytes]:
    """(content type, data) of a form. A list becomes several fields called NAME[]; a mapping with the keys of a file, a file."""
    parts: list[bytes] = []
    for name, value in _fields(body):
        head = f'form-data; name="{_quoted(name, spec)}"'
        if isinstance(value, dict) and value.keys() == _FILE:
            head += f'; filename="{_quoted(value["name"], spec)}"\r\nContent-Type: {value["media_type"]}'
            content = base64.b64decode(value["data"])
        else:
            content = value.encode() if isinstance(value, str) else encoded(value)
        parts.append(f"Content-Disposition: {head}\r\n\r\n".encode() + content)
    # Made of the content, so that the same call makes the same request; a text that is in the content is no boundary.
    boundary = hashlib.sha256(b"".join(parts)).hexdigest()[:40]
    while any(boundary.encode() in part for part in parts):
        boundary = hashlib.sha256(boundary.encode()).hexdigest()[:40]
    lines = [b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts]
    return f"multipart/form-data; boundary={boundary}", b"".join(lines) + b"--%b--\r\n" % boundary.encode()


def _fields(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if isinstance(value, list):
            yield from ((f"{name}[]", item) for item in value)
        elif value is not None:
            yield name, value


def _quoted(text: str, spec: Spec) -> str:
    if not text.isprintable():
        raise ConfigError(f"a name in the form has characters that cannot be sent: {text!r:.80}", provider=spec.id)
    return text.replace("\\", "%5C").replace('"', "%22")
