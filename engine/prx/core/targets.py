"""One call to several targets, one after the other until one answers: a flow made of theirs (see core.exchange)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prx.core.exchange import Ask, Emit, Flow, Send, Within
from prx.core.watched import watched
from prx.errors import Error
from prx.record import Record


class Attempt(Record):
    """A target that is asked: its flow; how each of its requests is changed before it is sent; what to call at its end; and the
    seconds that it has, or None.
    """

    flow: Flow
    adapt: Callable[[Send], Send]
    ended: Callable[[Any], None]
    deadline: float | None = None


def first_answer(attempts: Iterable[Attempt], falls: Callable[[Error], bool]) -> Flow:
    """The flow of the first attempt that answers. The next one is begun where one fails before its first output with an
    error that `falls` is true of; the last error is raised.
    """
    failed: Error | None = None
    sent = 0
    for attempt in attempts:
        asked = _Asked(attempt, failed)
        yield Within(attempt.deadline)
        try:
            return (yield from asked.flow())
        except Error as error:
            sent += error.attempts
            error.attempts = sent
            if asked.emitted or not falls(error):
                raise
            failed = error.with_traceback(None)
    assert failed is not None
    raise failed


class _Asked:
    def __init__(self, attempt: Attempt, after: Error | None) -> None:
        """after: the error of the target before it."""
        self._attempt, self._after = attempt, after
        self.emitted = False

    def flow(self) -> Flow:
        result: Any = None
        try:
            result = yield from watched(self._attempt.flow, self._before)
        except Error as error:
            result = error
            raise
        else:
            return result
        finally:
            self._attempt.ended(result)
            del result  # an error's traceback has this frame

    def _before(self, ask: Ask) -> Ask:
        self.emitted = self.emitted or type(ask) is Emit
        return self._adapted(ask) if type(ask) is Send else ask

    def _adapted(self, send: Send) -> Send:
        changed = self._attempt.adapt(send)
        return changed if send.after is not None or self._after is None else changed._replace(after=self._after)
