"""A flow that goes through somebody's hands: see core.exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prx.core.exchange import Ask, Flow
from prx.errors import Error


def watched(flow: Flow, before: Callable[[Any], Ask], after: Callable[[Any, Any], None] | None = None) -> Flow:
    """The same flow. before: is given each ask, and gives the one for the driver; after: is given that and its result, None
    where it failed.
    """
    answer: Any = None
    failed: Error | None = None
    try:
        while True:
            try:
                ask = flow.throw(failed) if failed is not None else flow.send(answer)
            except StopIteration as stop:
                return stop.value
            answer = failed = None
            ask = before(ask)
            try:
                answer = yield ask
            except Error as error:
                failed = error
            if after is not None:
                after(ask, answer)
    finally:
        flow.close()
        del answer, failed  # an error's traceback has this frame
