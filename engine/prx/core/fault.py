"""Makes a typed error from a response, by the spec's rules: status first, body second, text last.

Rules and fallback conditions are formulas over a view of the error, a dict that stays with it as `Error.view`:
status, code, type, message, text (message, code and type in lower case), headers, body, stage, call, kind.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

from prx.chat import Call
from prx.core.messages import SYSTEM_ROLES
from prx.core.names import in_words
from prx.core.refusals import texts
from prx.errors import KINDS, Error, ProtocolError, ServerError
from prx.json_text import parsed
from prx.lang.codegen import Function
from prx.secret import Secret, redact, redact_json, redact_value
from prx.spec.model import Fallback, Rule, Spec
from prx.text import clean
from prx.wire import Head, Target

Stage = Literal["status", "body", "stream"]  # where the error was found

_MAX_BODY = 1 << 20
_MAX_WRAPPED = 16  # how many values are looked into, where errors are wrapped in one another
_MAX_NAMES = 100  # of the parameters and keys that an error names
_WITHOUT_ERROR = ("", "{}", "[DONE]")  # data of events that cannot describe an error
_MAX_MESSAGE = 2000  # characters of the provider's words that an error repeats


def refused(spec: Spec, call: Call, target: Target, head: Head, body: bytes, stage: Stage) -> Error:
    """The error of a response whose status is not 2xx. body: of the response, as bytes."""
    if 300 <= head.status < 400:
        return _redirect(spec, call, target, head)
    safe, text = redact_json(_event_data(body.decode("utf-8", "replace")), target.secrets)
    return classify(spec, call, head, safe, text, stage)


def _redirect(spec: Spec, call: Call, target: Target, head: Head) -> Error:
    """A redirect is an error: to follow it would send the key and the prompt to another address."""
    location = redact(head.headers.get("location", "nowhere"), target.secrets)[:200]
    error = protocol(spec, call, head, f"redirects to {location}")
    error.status = head.status
    error.hint = "prx does not follow redirects. If the new address is right, set it as api_url."
    return error


def without_keys(error: Error, secrets: Sequence[Secret]) -> Error:
    """The same error, with every key in its message, hint and view masked: servers repeat keys in bodies, headers and
    status lines.
    """
    error.message, error.hint = redact(error.message, secrets), redact(error.hint, secrets)
    error.args = (error.message,)
    error.view = redact_value(error.view, secrets)
    return error


def classify(spec: Spec, call: Call, head: Head, body: Any, text: str, stage: Stage) -> Error:
    """The error in a body. body: parsed, or a text; text: the body as text. Both are without secrets."""
    message, reason, code, type_, status_in_body, pause = safely(spec.errors.found.run, body, spec)
    if isinstance(body, str):
        message = body
    names = [*texts(safely(spec.errors.refused.run, text if body is None else body, spec))]
    full, wrapped_codes = _unwrapped(spec, message, reason, names)
    full = clean(full or excerpt(text, head))
    searched = [full if message or wrapped_codes else text[:_MAX_MESSAGE], _text(code), _text(type_), *wrapped_codes]
    status = head.status if stage == "status" else _status(status_in_body) or _status(code) or 200
    view = {
        "status": status, "code": code, "type": type_, "message": full, "text": "\n".join(searched).lower(),
        "refused": names[:_MAX_NAMES], "headers": dict(head.headers), "body": body, "stage": stage, "call": _call_view(call),
    }  # fmt: skip
    rule = next((rule for rule in spec.errors.rules if _applies(rule, view, spec)), None)
    error = _error(spec, call, rule, status, full, view)
    error.status = head.status if stage == "status" else (status if status != 200 else None)
    seconds = retry_after(head)
    error.retry_after = _seconds(pause) if seconds is None else seconds
    return error


def _unwrapped(spec: Spec, message: Any, reason: Any, names: list[str]) -> tuple[str, list[str]]:
    """(the message with those of the errors wrapped in it, the codes and types of those errors). Adds what they refuse to `names`.

    A gateway wraps the error of the server behind it, as text, as an object, or as JSON in a text; sometimes more than once.
    """
    codes: list[str] = []
    messages: list[str] = []
    wrapped = deque([message, reason])
    for _ in range(_MAX_WRAPPED):
        value = wrapped.popleft() if wrapped else None
        before, inner, after = _json_in(value) if isinstance(value, str) else ("", value, "")
        if isinstance(inner, dict):
            is_error, further = _wrapped_error(spec, inner, codes)
            names += texts(safely(spec.errors.refused.run, inner, spec))
            wrapped.extendleft(reversed([*further, after] if is_error else []))
            value = before if is_error else value if isinstance(value, str) else None
        text = _text(value)
        if text and not any(text in other for other in messages):
            messages.append(text)
    return ": ".join(messages or [_text(message)])[:_MAX_MESSAGE], codes


def _wrapped_error(spec: Spec, inner: dict[str, Any], codes: list[str]) -> tuple[bool, list[Any]]:
    """(whether an object is an error, [its message, its reason]). Adds its code and its type to `codes`."""
    message, reason, code, type_, *_ = safely(spec.errors.found.run, inner, spec)
    codes += [_text(code), _text(type_)]
    return bool(_text(message) or reason), [message, reason]


def _json_in(text: str) -> tuple[str, Any, str]:
    """(text before, object, text after) of the JSON object in a text, or of the first one of a list; the object is None
    where the text has none.
    """
    start, end = text.find("{"), text.rfind("}") + 1
    value = parsed(text[start:end]) if 0 <= start < end else None
    before = text[: max(start, 0)].removesuffix("b'").rstrip(" \n:-'[")
    return before, value, text[end:].strip(" \n.,;'\"]")


def _event_data(text: str) -> str:
    """The body of an error; where a server sends it as events of a stream, the data of the first one that has content."""
    if not text.lstrip("\ufeff \r\n\t").startswith(("data:", "event:", "error:", "id:", "retry:", ":")):
        return text
    from prx.core.framing import SseFramer, frames_in

    framer = SseFramer(_MAX_BODY)
    data = [frame.data for frame in (*frames_in(framer, text.encode()), *framer.tail())]
    objects = [each for each in data if isinstance(parsed(each), dict) and parsed(each)]
    return next(iter(objects or [each for each in data if each.strip() not in _WITHOUT_ERROR]), text)


def _error(spec: Spec, call: Call, rule: Rule | None, status: int, message: str, view: dict[str, Any]) -> Error:
    statuses = spec.errors.statuses
    kind = rule.kind if rule else statuses.get(str(status)) or statuses.get(f"{status // 100}xx")
    cls = KINDS[kind] if kind else (ServerError if view["stage"] != "status" else ProtocolError)
    message = in_words(message, call, spec.request.tool_names)
    error = cls(message, provider=spec.id, retryable=rule.retryable if rule else None, hint=rule.hint if rule else "")
    error.view = {**view, "kind": error.kind}
    return error


def protocol(spec: Spec, call: Call, head: Head, message: str) -> ProtocolError:
    """The error of an answer that does not have the form that the spec describes."""
    error = ProtocolError(message, provider=spec.id)
    error.view = {
        "status": head.status, "code": None, "type": None, "message": message, "text": message.lower(), "refused": [],
        "headers": dict(head.headers), "body": None, "stage": "body", "call": _call_view(call), "kind": "protocol",
    }  # fmt: skip
    return error


def holds(row: Fallback, error: Error, spec: Spec) -> bool:
    """Whether a fallback's conditions hold for an error; False for an error without a response, which has no view."""
    return bool(error.view) and _applies(row, error.view, spec)


def _applies(rule: Rule | Fallback, view: dict[str, Any], spec: Spec) -> bool:
    text = view["text"]
    if rule.says and not any(phrase in text for phrase in rule.says):
        return False
    if any(phrase in text for phrase in rule.unless):
        return False
    (found,) = safely(rule.when.run, view, spec)
    return bool(found)


def safely(function: Function, value: Any, spec: Spec) -> Any:
    """Run a compiled expression of the spec. Any exception in it becomes a ProtocolError with the exception's text."""
    try:
        return function(value)
    except Exception as error:  # jmespath's own errors, and Python's where types cannot be compared
        problem = clean(str(error)).partition("\n")[0] or type(error).__name__
        raise ProtocolError(f"an expression of the file failed on this answer: {problem}", provider=spec.id) from None


def retry_after(head: Head) -> float | None:
    """Seconds to wait, from retry-after-ms or from either form of Retry-After; None where there is no valid one."""
    milliseconds = _seconds(head.headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    seconds = _seconds(head.headers.get("retry-after"))
    return _until(head) if seconds is None else seconds


def _seconds(value: Any) -> float | None:
    """Seconds, from a number or from a text such as "7.66s"; None for anything else, infinity and NaN included."""
    try:
        seconds = float(value.removesuffix("s") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(head: Head) -> float | None:
    """Seconds until the date in Retry-After, from when the response was received; None where it is not a date."""
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(head.headers["retry-after"]).timestamp()
    except (ValueError, KeyError, OverflowError):
        return None
    return max(0.0, then - head.received)


def _text(value: Any) -> str:
    """A message, code or type as text: the elements of a list with "; " between them, an object as JSON."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, map(_text, value)))[:_MAX_MESSAGE]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.strip()[:_MAX_MESSAGE]


def excerpt(text: str, head: Head) -> str:
    """What a body without a message of its own says, in short."""
    kind = head.headers.get("content-type", "")
    if "html" in kind or text.lstrip()[:1] == "<":
        return f"answered with a web page instead of JSON: {' '.join(text.split())[:200]}"
    return " ".join(text.split())[:500] or "answered with an empty body"


def _status(value: Any) -> int | None:
    """The value as a status from 400 to 599, also where it comes as text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def _call_view(call: Call) -> dict[str, Any]:
    roles = [str(message.get("role")) for message in call.messages]
    places = [place for place, role in enumerate(roles) if role in SYSTEM_ROLES]
    return {
        "stream": call.stream, "tools": bool(call.tools), "params": dict(call.params), "model": call.model, "roles": list(dict.fromkeys(roles)),
        "system": bool(places), "systems": len(places), "system_inside": places != list(range(len(places))),
    }  # fmt: skip
