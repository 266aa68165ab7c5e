"""A call whose key has to be got first, and is got anew where the provider refuses it: a flow made of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prx.core.exchange import Emit, Flow, Policy, pause
from prx.errors import Error
from prx.spec.model import Spec
from prx.wire import Target

if TYPE_CHECKING:  # at import, creating a Protocol class takes as long as the rest of this module
    from typing import Protocol

    class KeySource(Protocol):
        """Gives the target of a call, with its key."""

        def obtain(self, now: float) -> Flow:
            """The flow that gives the Target. now: the time, in seconds since 1970."""

        def refused(self, target: Target) -> bool:
            """The provider has refused the key of this target. Gives whether another one may be better."""


def with_key(
    source: KeySource, begin: Callable[[Target], Flow], clock: Callable[[], float], spec: Spec, policy: Policy
) -> Flow:
    """The flow of a call. begin: gives it for a target. Where the provider answers 401 before any output, the call is begun
    once more with another key.
    """
    renewed = False
    while True:
        target = yield from _obtained(source, clock, spec, policy)
        asked = _Asked(begin(target))
        try:
            return (yield from asked.flow())
        except Error as error:
            if renewed:
                error.attempts += 1
            if renewed or asked.emitted or error.status != 401 or not source.refused(target):
                raise
            renewed = True


def _obtained(source: KeySource, clock: Callable[[], float], spec: Spec, policy: Policy) -> Flow:
    """The target; where that fails in a way that may pass, it is tried as often as a call."""
    retries, failures = spec.retry.times if policy.retries is None else policy.retries, list[Error]()
    while True:
        try:
            return (yield from source.obtain(clock()))
        except Error as error:
            failures.append(error.with_traceback(None))
            if len(failures) > retries or not (yield from pause(spec, error, len(failures) - 1, policy)):
                error.history = tuple(failure.summary() for failure in failures)
                raise


class _Asked:
    """A flow, and whether anything of it was handed to the caller."""

    def __init__(self, flow: Flow) -> None:
        self._flow, self.emitted = flow, False

    def flow(self) -> Flow:
        flow, answer, failed = self._flow, None, None
        try:
            while True:
                try:
                    ask = flow.throw(failed) if failed is not None else flow.send(answer)
                except StopIteration as stop:
                    return stop.value
                self.emitted = self.emitted or type(ask) is Emit
                answer = failed = None
                try:
                    answer = yield ask
                except Error as error:
                    failed = error
        finally:
            flow.close()
            del answer, failed
