"""Events of calls as lines of Python's logging, and lines as text or JSON. No line has a key or a body.

Nothing is logged of itself: `log_event` is a hook like any other, which a program gives to its client, and a command with -v.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from prx.events import (
    Began,
    Ended,
    FellBack,
    FirstOutput,
    Responded,
    Retried,
    Sent,
    ToolNamed,
    ToolReturned,
    ToolStarted,
)
from prx.mask import Mask

_LOG = logging.getLogger("prx.call")
# Of each event: its level, its word, and which of its fields the line has, in this order. The last are for debug only.
_LINES: dict[type, tuple[int, str, tuple[str, ...], tuple[str, ...]]] = {
    Began: (logging.DEBUG, "call begins", ("kind", "model"), ()),
    Sent: (
        logging.INFO, "request", ("attempt", "kind", "provider", "model", "method", "url", "dialect", "stream", "fallbacks"),
        ("headers",),
    ),
    Responded: (logging.DEBUG, "response", ("attempt", "status", "took", "request_id", "headers"), ()),
    Retried: (logging.INFO, "retry", ("attempt", "error", "status", "wait"), ()),
    FellBack: (logging.INFO, "fallback", ("attempt", "error", "status", "to", "target"), ()),
    FirstOutput: (logging.DEBUG, "first output", ("attempt",), ()),
    ToolNamed: (logging.DEBUG, "tool", ("name", "id"), ()),
    ToolStarted: (logging.DEBUG, "tool starts", ("name", "id"), ()),
    ToolReturned: (logging.INFO, "tool run", ("name", "id", "error"), ()),
    Ended: (
        logging.INFO, "end", ("kind", "error", "status", "provider", "model", "finish_reason", "attempts", "fallbacks",
        "first_output", "request_id"), (),
    ),
}  # fmt: skip
_NAMES = {"request_id": "provider_request_id"}  # the service has a request_id of its own
_TOKENS = {
    "input_tokens": "prompt_tokens", "output_tokens": "completion_tokens", "cached_tokens": "cached_tokens",
    "reasoning_tokens": "reasoning_tokens",
}  # fmt: skip


def log_event(event: Any, **more: Any) -> None:
    """A hook that logs each event under "prx.call": requests, retries, fallbacks and ends at INFO, the others at DEBUG.

    more   further facts for the line
    """
    level, word, fields, of_debug = _LINES[type(event)]
    if not _LOG.isEnabledFor(level):
        return
    shown = fields + of_debug if _LOG.isEnabledFor(logging.DEBUG) else fields
    facts = {
        **more,
        "call": event.call,
        **{_NAMES.get(name, name): getattr(event, name) for name in shown},
        "seconds": event.seconds,
    }
    if isinstance(event, Ended) and event.usage is not None:
        facts |= {name: getattr(event.usage, field) for name, field in _TOKENS.items()}
    known = {name: _short(value) for name, value in facts.items() if value not in (None, "", (), False)}
    _LOG.log(level, word, extra={"facts": known})


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return round(value, 3) if isinstance(value, float) else value


# ------------------------------------------------------------------ lines


class _Masked(logging.Formatter):
    def __init__(self, mask: Callable[[], Mask]) -> None:
        """mask: gives one of all keys that are known by then."""
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return self._mask().text(self.line(at, record, facts, trace))

    def line(self, at: str, record: logging.LogRecord, facts: Mapping[str, Any], trace: str) -> str:
        raise AssertionError  # each kind has its own


class AsJson(_Masked):
    """A line is an object of JSON."""

    def line(self, at: str, record: logging.LogRecord, facts: Mapping[str, Any], trace: str) -> str:
        row = {"time": at, "level": record.levelname.lower(), "message": record.getMessage(), **facts}
        return json.dumps(row | ({"traceback": trace} if trace else {}), default=str)


class AsText(_Masked):
    """A line is a time, a level, a name, a message and name=value of each fact."""

    def line(self, at: str, record: logging.LogRecord, facts: Mapping[str, Any], trace: str) -> str:
        said = "".join(f" {name}={_plain(value)}" for name, value in facts.items())
        message = _one_line(record.getMessage())
        return f"{at} {record.levelname} {record.name} {message}{said}" + (f"\n{trace}" if trace else "")


FORMS: dict[str, Callable[[Callable[[], Mask]], logging.Formatter]] = {"text": AsText, "json": AsJson}


def _plain(value: Any) -> str:
    """A value as it is, or quoted where it could be taken for something else."""
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    bare = text.isascii() and text.isprintable() and not set(' "=') & set(text)
    return text if text and bare else json.dumps(text)


def _one_line(text: str) -> str:
    """A text that commands no terminal and makes no second line of the log."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
