"""The log of the service: lines of text or of JSON, one for each call. No line has a key, and only `log_bodies` shows bodies."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from prx import log_lines
from prx.mask import Mask

_LOG = logging.getLogger("prx.serve")
_MOST = 100_000  # characters of a body in a line
request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the request that is being answered


def log_event(event: Any) -> None:
    """A hook that logs each event of a call, with the id of the request that it is made for."""
    log_lines.log_event(event, request_id=request_id.get())


def set_up(level: str, form: str, mask: Callable[[], Mask]) -> None:
    """Log to standard error from now on. form: text or json. mask: gives one of all keys that are known by then."""
    handler = logging.StreamHandler()
    handler.setFormatter(log_lines.FORMS[form](mask))
    root = logging.getLogger()
    for earlier in [*root.handlers]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    logging.getLogger("prx").setLevel(level.upper())


class Told:
    """What the line of a call says; what is not known is not in it. is_shown: whether the log has such lines."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.bodies: dict[str, Any] = {}
        self.is_shown = _LOG.isEnabledFor(logging.INFO)

    def add(self, **facts: Any) -> None:
        if not self.is_shown:
            return
        for name, value in facts.items():
            if value is not None and value != "":
                self.facts[name] = value

    def write(self, mask: Callable[[], Mask] | None) -> None:
        """Write the line. mask: for the bodies, which are not shown without one."""
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
