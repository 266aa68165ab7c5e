"""A call whose key has to be got first, and is got anew where the provider refuses it: a flow made of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prx.core.exchange import Ask, Emit, Flow, Policy, pause
from prx.core.watched import watched
from prx.errors import Error
from prx.spec.model import Spec
from prx.wire import Target

if TYPE_CHECKING:  # at import, creating a Protocol class takes as long as the rest of this module
    from typing import Protocol

    class KeyChoice(Protocol):
        """The keys of one call, one after the other.

        hands_on   kinds of errors after which there is another key at once, so that the call does not wait with this one
        """

        @property
        def hands_on(self) -> tuple[str, ...]: ...

        def obtain(self, now: float) -> Flow:
            """The flow that gives the Target, with the next key. now: the time, in seconds since 1970."""

        def other(self, error: Error, now: float) -> bool:
            """The call has failed with the key that was got last. Gives whether another one may be better."""


def with_key(
    keys: KeyChoice, begin: Callable[[Target, Policy], Flow], clock: Callable[[], float], spec: Spec, policy: Policy
) -> Flow:
    """The flow of a call. begin: gives it for a target. Where its error says something about the key, and comes before any
    output, the call is begun once more with another key, if there is one.
    """
    attempts = 0
    while True:
        try:
            target = yield from _obtained(keys, clock, spec, policy)
        except Error as error:
            error.attempts += attempts
            raise
        hands_on = keys.hands_on
        asked = _Asked(begin(target, policy._replace(hands_on=hands_on) if hands_on else policy))
        try:
            reply = yield from asked.flow()
            return (
                reply._replace(attempts=reply.attempts + attempts) if attempts and hasattr(reply, "attempts") else reply
            )
        except Error as error:
            again = not asked.emitted and keys.other(error, clock())
            attempts = error.attempts = error.attempts + attempts
            if not again:
                raise


def _obtained(keys: KeyChoice, clock: Callable[[], float], spec: Spec, policy: Policy) -> Flow:
    """The target; where that fails in a way that may pass, it is tried as often as a call."""
    retries, failures = spec.retry.times if policy.retries is None else policy.retries, list[Error]()
    while True:
        try:
            return (yield from keys.obtain(clock()))
        except Error as error:
            failures.append(error.with_traceback(None))
            if keys.other(error, clock()):
                continue
            if len(failures) > retries or not (yield from pause(spec, error, len(failures) - 1, policy)):
                error.history = tuple(failure.summary() for failure in failures)
                raise


class _Asked:
    """A flow, and whether anything of it was handed to the caller."""

    def __init__(self, flow: Flow) -> None:
        self._flow, self.emitted = flow, False

    def flow(self) -> Flow:
        return watched(self._flow, self._before)

    def _before(self, ask: Ask) -> Ask:
        self.emitted = self.emitted or type(ask) is Emit
        return ask
