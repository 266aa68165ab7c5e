"""The log of the service: lines of text or of JSON, one for each call. No line has a key, and only `log_bodies` shows bodies."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from prx.mask import Mask

_LOG = logging.getLogger("prx.serve")
_MOST = 100_000  # characters of a body in a line


def set_up(level: str, form: str, mask: Callable[[], Mask]) -> None:
    """Log to standard error from now on. form: text or json. mask: gives one of all keys that are known by then."""
    handler = logging.StreamHandler()
    handler.setFormatter((_AsJson if form == "json" else _AsText)(mask))
    root = logging.getLogger()
    for earlier in [*root.handlers]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    logging.getLogger("prx").setLevel(level.upper())


class Told:
    """What the line of a call says; what is not known is not in it."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.bodies: dict[str, Any] = {}

    def add(self, **facts: Any) -> None:
        self.facts.update((name, value) for name, value in facts.items() if value not in (None, ""))

    def write(self, mask: Callable[[], Mask] | None) -> None:
        """Write the line. mask: for the bodies, which are not shown without one."""
        if not _LOG.isEnabledFor(logging.INFO):
            return
        facts = {name: self.facts[name] for name in _ORDER if name in self.facts}
        if mask is not None:
            known = mask()
            facts |= {name: _shown(known.value(_read(body))) for name, body in self.bodies.items()}
        _LOG.info("call", extra={"facts": facts})


_ORDER = (
    "request_id", "asked", "caller", "face", "model", "provider", "status", "error", "attempts", "fallbacks", "dropped",
    "seconds", "first_token_seconds", "input_tokens", "output_tokens", "left",
)  # fmt: skip


def _read(body: Any) -> Any:
    return body.decode("utf-8", "replace") if isinstance(body, bytes) else body


def _shown(body: Any) -> str:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= _MOST else f"{text[:_MOST]}… ({len(text)} characters)"


class _Masked(logging.Formatter):
    def __init__(self, mask: Callable[[], Mask]) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return self._mask().text(self.line(at, record, facts, trace))

    def line(self, at: str, record: logging.LogRecord, facts: Mapping[str, Any], trace: str) -> str:
        raise AssertionError  # each kind has its own


class _AsJson(_Masked):
    def line(self, at: str, record: logging.LogRecord, facts: Mapping[str, Any], trace: str) -> str:
        row = {"time": at, "level": record.levelname.lower(), "message": record.getMessage(), **facts}
        return json.dumps(row | ({"traceback": trace} if trace else {}), default=str)


class _AsText(_Masked):
    def line(self, at: str, record: logging.LogRecord, facts: Mapping[str, Any], trace: str) -> str:
        said = "".join(f" {name}={_plain(value)}" for name, value in facts.items())
        message = _one_line(record.getMessage())
        return f"{at} {record.levelname} {record.name} {message}{said}" + (f"\n{trace}" if trace else "")


def _plain(value: Any) -> str:
    """A value as it is, or quoted where it could be taken for something else."""
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    bare = text.isascii() and text.isprintable() and not set(' "=') & set(text)
    return text if text and bare else json.dumps(text)


def _one_line(text: str) -> str:
    """A text that commands no terminal and makes no second line of the log."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
