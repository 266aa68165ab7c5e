"""From a refusal to a typed error, by the spec's rules: status first, body second, text last.

`view` is what rules and fallback conditions look at, and stays with the error.
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

Stage = Literal["status", "body", "stream"]

_MAX_BODY = 1 << 20
_MAX_WRAPPED = 16  # texts and objects in one another that are looked into
_MAX_NAMES = 100  # of what a refusal names
_SAYS_NOTHING = ("", "{}", "[DONE]")
_MAX_MESSAGE = 2000  # characters of the provider's words that an error repeats


def refused(spec: Spec, call: Call, target: Target, head: Head, body: bytes, stage: Stage) -> Error:
    """The error that a response is: by its status, or by an error object in a 200."""
    if 300 <= head.status < 400:
        return _elsewhere(spec, call, target, head)
    safe, text = redact_json(_unframed(body.decode("utf-8", "replace")), target.secrets)
    return classify(spec, call, head, safe, text, stage)


def _elsewhere(spec: Spec, call: Call, target: Target, head: Head) -> Error:
    """A redirect: prx follows none, since the key and the prompt would go along."""
    where = redact(head.headers.get("location", "nowhere"), target.secrets)[:200]
    error = protocol(spec, call, head, f"redirects to {where}")
    error.status = head.status
    error.hint = "prx follows no redirect; if the new address is right, make it the api_url."
    return error


def without_keys(error: Error, secrets: Sequence[Secret]) -> Error:
    """The same error, without the keys in all that it says: a status line or a header may repeat one as well as a body."""
    error.message, error.hint = redact(error.message, secrets), redact(error.hint, secrets)
    error.args = (error.message,)
    error.view = redact_value(error.view, secrets)
    return error


def classify(spec: Spec, call: Call, head: Head, body: Any, text: str, stage: Stage) -> Error:
    """The error in a body (parsed, and as text without secrets)."""
    message, reason, code, kind_text, inner, pause = safely(spec.errors.found.run, body, spec)
    if isinstance(body, str):
        message = body
    names = [*texts(safely(spec.errors.refused.run, text if body is None else body, spec))]
    words, behind = _behind(spec, message, reason, names)
    words = clean(words or _excerpt(text, head))
    said = [words if message or behind else text[:_MAX_MESSAGE], _words(code), _words(kind_text), *behind]
    status = head.status if stage == "status" else _status(inner) or _status(code) or 200
    seen = {
        "status": status, "code": code, "type": kind_text, "message": words, "text": "\n".join(said).lower(),
        "refused": names[:_MAX_NAMES], "headers": dict(head.headers), "body": body, "stage": stage, "call": _call_view(call),
    }  # fmt: skip
    rule = next((rule for rule in spec.errors.rules if _applies(rule, seen, spec)), None)
    error = _error(spec, call, rule, status, words, seen)
    error.status = head.status if stage == "status" else (status if status != 200 else None)
    asked = retry_after(head)
    error.retry_after = _seconds(pause) if asked is None else asked
    return error


def _behind(spec: Spec, message: Any, reason: Any, names: list[str]) -> tuple[str, list[str]]:
    """The message with what stands behind it, and the codes and types that were found on the way. What is refused there joins `names`.

    A gateway wraps what the server behind it said: as text, as an object, or as JSON in a text, and sometimes more than once.
    """
    codes: list[str] = []
    told: list[str] = []
    wrapped = deque([message, reason])
    for _ in range(_MAX_WRAPPED):
        value = wrapped.popleft() if wrapped else None
        before, inner, after = _json_in(value) if isinstance(value, str) else ("", value, "")
        if isinstance(inner, dict):
            found, further = _inside(spec, inner, codes)
            names += texts(safely(spec.errors.refused.run, inner, spec))
            wrapped.extendleft(reversed([*further, after] if found else []))
            value = before if found else value if isinstance(value, str) else None
        words = _words(value)
        if words and not any(words in other for other in told):
            told.append(words)
    return ": ".join(told or [_words(message)])[:_MAX_MESSAGE], codes


def _inside(spec: Spec, inner: dict[str, Any], codes: list[str]) -> tuple[bool, list[Any]]:
    """Whether an object is an error, and what in it may say why. Its code and type are added to `codes`."""
    message, reason, code, kind_text, *_ = safely(spec.errors.found.run, inner, spec)
    codes += [_words(code), _words(kind_text)]
    return bool(_words(message) or reason), [message, reason]


def _json_in(text: str) -> tuple[str, Any, str]:
    """The object (or the first of a list) that stands in a text, with the words before and after it; None where there is none."""
    start, end = text.find("{"), text.rfind("}") + 1
    value = parsed(text[start:end]) if 0 <= start < end else None
    before = text[: max(start, 0)].removesuffix("b'").rstrip(" \n:-'[")
    return before, value, text[end:].strip(" \n.,;'\"]")


def _unframed(text: str) -> str:
    """The body of an error; of one that came as events of a stream, which it was to be, the data that says something."""
    if not text.lstrip("\ufeff \r\n\t").startswith(("data:", "event:", "error:", "id:", "retry:", ":")):
        return text
    from prx.core.framing import SseFramer, frames_in

    framer = SseFramer(_MAX_BODY)
    data = [frame.data for frame in (*frames_in(framer, text.encode()), *framer.tail())]
    objects = [each for each in data if isinstance(parsed(each), dict) and parsed(each)]
    return next(iter(objects or [each for each in data if each.strip() not in _SAYS_NOTHING]), text)


def _error(spec: Spec, call: Call, rule: Rule | None, status: int, words: str, seen: dict[str, Any]) -> Error:
    statuses = spec.errors.statuses
    kind = rule.kind if rule else statuses.get(str(status)) or statuses.get(f"{status // 100}xx")
    cls = KINDS[kind] if kind else (ServerError if seen["stage"] != "status" else ProtocolError)
    words = in_words(words, call, spec.request.tool_names)
    error = cls(words, provider=spec.id, retryable=rule.retryable if rule else None, hint=rule.hint if rule else "")
    error.view = {**seen, "kind": error.kind}
    return error


def protocol(spec: Spec, call: Call, head: Head, message: str) -> ProtocolError:
    """The answer is not what the spec describes."""
    error = ProtocolError(message, provider=spec.id)
    error.view = {
        "status": head.status, "code": None, "type": None, "message": message, "text": message.lower(), "refused": [],
        "headers": dict(head.headers), "body": None, "stage": "body", "call": _call_view(call), "kind": "protocol",
    }  # fmt: skip
    return error


def holds(row: Fallback, error: Error, spec: Spec) -> bool:
    """Whether a fallback's conditions hold for an error. Without a response there is nothing to hold."""
    return bool(error.view) and _applies(row, error.view, spec)


def _applies(rule: Rule | Fallback, seen: dict[str, Any], spec: Spec) -> bool:
    text = seen["text"]
    if rule.says and not any(phrase in text for phrase in rule.says):
        return False
    if any(phrase in text for phrase in rule.unless):
        return False
    (found,) = safely(rule.when.run, seen, spec)
    return bool(found)


def safely(function: Function, value: Any, spec: Spec) -> Any:
    """Run an expression of the spec; whatever it stumbles over becomes a ProtocolError that names it."""
    try:
        return function(value)
    except Exception as error:  # jmespath's own errors, and Python's where types do not compare
        words = clean(str(error)).partition("\n")[0] or type(error).__name__
        raise ProtocolError(f"an expression of the file failed on this answer: {words}", provider=spec.id) from None


def retry_after(head: Head) -> float | None:
    """Seconds to wait, from retry-after-ms or from either form of Retry-After; None where neither makes sense."""
    milliseconds = _seconds(head.headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    seconds = _seconds(head.headers.get("retry-after"))
    return _until(head) if seconds is None else seconds


def _seconds(value: Any) -> float | None:
    """Seconds, from a number or from a text such as "7.66s"; None for what is no number that a clock could show."""
    try:
        seconds = float(value.removesuffix("s") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(head: Head) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(head.headers["retry-after"]).timestamp()
    except (ValueError, KeyError, OverflowError):
        return None
    return max(0.0, then - head.received)


def _words(value: Any) -> str:
    """A message as text: a list in lines, an object as JSON."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, map(_words, value)))[:_MAX_MESSAGE]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.strip()[:_MAX_MESSAGE]


def _excerpt(text: str, head: Head) -> str:
    kind = head.headers.get("content-type", "")
    if "html" in kind or text.lstrip()[:1] == "<":
        return f"answered with a web page, not with JSON: {' '.join(text.split())[:200]}"
    return " ".join(text.split())[:500] or "answered with an empty body"


def _status(value: Any) -> int | None:
    """A number from 400 to 599, also where it comes as text."""
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
