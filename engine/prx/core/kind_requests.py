"""Builds the request of a call that is no chat, by the file's `calls.KIND`: a template over the call's arguments, as JSON or as a form."""

from __future__ import annotations

from typing import Any

from prx.chat import Call
from prx.core.request import NO_JSON, build_body, http_request, in_encoding, no_json, with_model
from prx.errors import CapabilityError
from prx.lang.template import TemplateError
from prx.spec.model import KINDS_OF_CALLS, CallForm, Spec
from prx.wire import HttpRequest, Target

_ACCEPT = {"speech": "*/*"}  # of the others the answer is read as JSON


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
        content_type, data = in_encoding(form.encoding, body, spec)
    except TemplateError as error:
        raise CapabilityError(f"the dialect {spec.dialect} cannot express this: {error}", provider=spec.id) from None
    except NO_JSON as error:
        raise no_json(error, spec) from None
    path = with_model(form.endpoint, call.model, spec)
    return http_request(
        "POST", path, spec, target, data, extra=call.extra,
        content_type=content_type, accept=_ACCEPT.get(kind, "application/json"),
    )  # fmt: skip


def _body(spec: Spec, call: Call, form: CallForm) -> dict[str, Any]:
    values = view(spec, call, form)
    body: dict[str, Any] = form.request(values) or {}
    placed = form.request.params
    rest = {} if "*" in placed or "body" in values else values["params"]
    return {**body, **{name: value for name, value in rest.items() if name not in placed}, **call.extra.body}
