"""The hooks of a client: functions that are told of each event of its calls. What they raise is logged once, and breaks nothing."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prx.core.exchange import Flow
from prx.errors import ConfigError
from prx.events import Hook, ToolReturned, ToolStarted

_COROUTINE = (
    0x80  # a flag of the code of an async function; `inspect`, which knows it as CO_COROUTINE, is slow to import
)
_numbers = itertools.count(1)


def hooks(on_event: Hook | Sequence[Hook] | None, others: Sequence[Hook] = ()) -> Hooks | None:
    """The hooks that a client was given, and others; None where there are none. Raises ConfigError."""
    given = (*others, *((on_event,) if callable(on_event) else tuple(on_event or ())))
    for hook in given:
        function = hook if hasattr(hook, "__code__") else getattr(hook, "__call__", None)  # noqa: B004 - its code is wanted
        if not callable(hook):
            raise ConfigError(f"on_event has to be a function, and is {type(hook).__name__}")
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE:
            raise ConfigError(
                "on_event is an async function, which nobody would await",
                hint="Give a plain function; it may put the event into an asyncio.Queue with put_nowait.",
            )
    return Hooks(given) if given else None


class Hooks:
    """Calls each hook with each event."""

    def __init__(self, given: Sequence[Hook]) -> None:
        from prx.core.telling import Telling, told  # a client without a hook does not need it

        self.given = given
        self._said = False  # that one has raised
        self._telling, self._told = Telling, told
        self._content = any(getattr(hook, "wants_content", False) for hook in given)

    def told(self, flow: Flow, kind: str, model: str, params: Mapping[str, Any], stated: Mapping[str, Any]) -> Flow:
        """The flow of a call, of which the hooks are told. stated: what the caller has stated in it."""
        content = stated if self._content else None
        numbers = {name: value for name, value in params.items() if type(value) in (int, float)}
        return self._told(
            flow, self._telling(self._tell, time.monotonic, next(_numbers), kind, model, numbers, content)
        )

    @contextmanager
    def tool(self, name: str, identity: str) -> Iterator[None]:
        """A tool is run within it."""
        number, began = next(_numbers), time.monotonic()
        self._tell(ToolStarted(number, 0.0, name, identity))
        error = ""
        try:
            yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            self._tell(ToolReturned(number, time.monotonic() - began, name, identity, error))

    def _tell(self, event: Any) -> dict[str, str] | None:
        """Call the hooks; gives the headers that they want in the request."""
        added: dict[str, str] = {}
        for hook in self.given:
            told = event
            if (
                self._content
                and not getattr(hook, "wants_content", False)
                and getattr(event, "content", None) is not None
            ):
                told = event._replace(content=None)
            try:
                answer = hook(told)
                if isinstance(answer, Mapping):
                    added.update((str(name), str(value)) for name, value in answer.items())
            except Exception as error:  # the call goes on, whatever a hook does
                self._say(hook, error)
        return added or None

    def _say(self, hook: Hook, error: Exception) -> None:
        if not self._said:
            self._said = True
            name = getattr(hook, "__qualname__", type(hook).__name__)
            logging.getLogger("prx").warning(
                "the hook %s raised %s: %s; the calls go on, and this is not said again",
                name,
                type(error).__name__,
                error,
            )
