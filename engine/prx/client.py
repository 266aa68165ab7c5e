"""The blocking client, and the loop that does the I/O of a call: it sends, reads and waits as the call's flow requires."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from threading import get_ident
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Self, overload

from prx import forks
from prx.arguments import Messages
from prx.calls import BatchCalls, Calls, KindCalls, Model, Progress, closed_early
from prx.chat import Delta, ParsedT, Reply
from prx.core.exchange import Ask, Emit, Once, Outside, Read, Send, Wait, Within
from prx.errors import OPENING, ConfigError, Error, ProviderTimeoutError, frameless
from prx.session import Network, Options, Run

if TYPE_CHECKING:
    from prx.batch.results import BatchResult
    from prx.batch.rows import Terms
    from prx.core.kind_results import Embeddings, Images, Moderation, Ranking, Speech, Transcript  # noqa: F401 - in texts
    from prx.toolruns import ToolLoop, ToolRun
    from prx.transport.blocking import Http
    from prx.transport.response import Response
    from prx.transport.watchdog import Guard, Watchdog

_LOOK = 0.01  # seconds between two looks at whether another call has got what this one needs, too
_START_SECONDS = 1.0  # the longest time between the first step of a stream in another thread and its guard


class Client(
    Calls[Reply, "Stream", list[str], list[dict[str, Any]], "ToolRun"],
    KindCalls["Embeddings", "Ranking", "Images", "Speech", "Transcript", "Moderation", int, Reply],
    BatchCalls["Iterator[BatchResult]"],
):
    """Calls any provider of its catalogue. Safe to share between threads."""

    _playback: Http | None = None  # used in place of the network by conformance, see conformance.run

    if (
        TYPE_CHECKING
    ):  # `chat` and `stream` as in Calls; with a class as response_format, what they give is of this class

        @overload
        def chat(
            self, messages: Messages, model: Model = None, *, response_format: type[ParsedT], **options: Any
        ) -> Reply[ParsedT]: ...
        @overload
        def chat(
            self, messages: Messages, model: Model = None, *, tools: Sequence[Mapping[str, Any]] | None = None, tool_choice: Any = None,
            timeout: float | None = None, deadline: float | None = None, retries: int | None = None,
            fallbacks: Sequence[str] | None = None, repair: bool | int = False, **params: Any,
        ) -> Reply: ...  # fmt: skip
        def chat(self, *args: Any, **options: Any) -> Any: ...

        @overload
        def stream(
            self, messages: Messages, model: Model = None, *, response_format: type[ParsedT], **options: Any
        ) -> Stream[ParsedT]: ...
        @overload
        def stream(
            self, messages: Messages, model: Model = None, *, tools: Sequence[Mapping[str, Any]] | None = None, tool_choice: Any = None,
            timeout: float | None = None, deadline: float | None = None, retries: int | None = None,
            fallbacks: Sequence[str] | None = None, **params: Any,
        ) -> Stream: ...  # fmt: skip
        def stream(self, *args: Any, **options: Any) -> Any: ...

    def _prepare(self) -> None:
        with OPENING:  # imported when a client is made, not in a call: see session._LATE
            from prx.transport.blocking import Http
            from prx.transport.watchdog import Watchdog
        self._new_http: Callable[[str, str, Mapping[str, str], tuple[str, ...]], Http] = Http
        self._https: dict[Network, Http] = {}
        self._watchdog = Watchdog()
        self._lock = threading.Lock()
        self._running: dict[Any, _Running] = {}
        forks.register(self)

    def close(self) -> None:
        """Close every connection. Running calls of other threads, and streams that are being read, end with an Error."""
        self._watchdog.stop_all()
        https, self._https = self._https, {}  # without the lock: a signal handler may interrupt a thread that holds it
        for http in list(https.values()):
            http.close()

    def unlock(self) -> None:
        """In the child of a fork: a lock that another thread of the parent holds would never be released."""
        self._lock = threading.Lock()
        self._running = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _chat(self, options: Options) -> Reply:
        reply: Reply = self._whole(self._session.begin_chat(options, stream=False))
        return reply

    def _changed(self, run: Run, change: Callable[[Any], Any] | None) -> Any:
        result = self._whole(run)
        return change(result) if change else result

    def _run_tools(self, loop: ToolLoop, chat: Callable[..., Reply]) -> ToolRun:
        with OPENING:
            from prx.toolruns import AskModel, call_tool
        loop.refuse_coroutines()
        steps = loop.steps()
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                run: ToolRun = stop.value
                return run
            if isinstance(step, AskModel):
                answer = chat(step.messages, tool_choice=step.tool_choice)
            else:
                answer = [call_tool(loop, pending) for pending in step.calls]

    def _models(self, options: Options) -> list[str]:
        return [row["id"] for row in self._model_rows(options)]

    def _model_rows(self, options: Options) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._whole(self._session.begin_models(options))
        return rows

    def _batch(self, rows: Any, terms: Terms) -> Iterator[BatchResult]:
        with OPENING:
            from prx.batch import blocking
        return blocking.results(self._session, blocking.iterable(rows), terms)

    def _whole(self, run: Run) -> Any:
        stream = self._stream(run)
        for _ in stream:
            pass
        return stream.reply

    def _stream(self, run: Run) -> Stream:
        return Stream(run, self._http(run.network), self._watchdog, self._http, self._once)

    def _once(self, ask: Once, asked: Run, guard: Guard) -> Any:
        """The result of a flow that runs once for all calls that ask for it meanwhile: in the first one's thread. Where that
        call is stopped or comes to its deadline, the next one begins it anew.
        """
        while True:
            with self._lock:
                running = self._running.get(ask.key)
                if running is None:
                    own = self._running[ask.key] = _Running()
            if running is None:
                return self._lead(own, ask, asked, guard)
            while not running.over:
                if not guard.wait(_LOOK):
                    raise (
                        closed_early()
                        if guard.stopped
                        else ProviderTimeoutError("the deadline passed while waiting for a key")
                    )
            if not running.given_up:
                return running.outcome()

    def _lead(self, running: _Running, ask: Once, asked: Run, guard: Guard) -> Any:
        left = None if guard.remaining == math.inf else max(0.0, guard.remaining)
        try:
            running.result = self._whole(Run(ask.begin(), asked.network, asked.timeout, left, lambda _: None))
        except Error as error:
            running.given_up = guard.fired or guard.remaining <= 0
            running.error = error
        except BaseException:
            running.given_up = True
            raise
        finally:
            with self._lock:
                self._running.pop(ask.key, None)
            running.over = True
        return running.outcome()

    def _http(self, network: Network) -> Http:
        """The transport for all accounts with these network settings, made at the first call."""
        http = self._https.get(network) if self._playback is None else self._playback
        if http is None:
            proxy, ca_file, cert = network
            with self._lock:
                http = self._https.setdefault(network, self._new_http(proxy.reveal(), ca_file, self.env, cert))
        return http


class _Running:
    """A flow that one call runs, and for which others wait. given_up: that call has ended first, which says nothing of it."""

    over = given_up = False
    result: Any = None
    error: Error | None = None

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class Stream(Progress[ParsedT]):
    """The pieces of an answer, as they arrive: an iterator of Delta and a context manager.

    The request is sent on `with`, or when the first piece is read. Leaving the `with` early closes the connection, which
    stops the provider. `reply` is set after the end, `partial` at any time.
    """

    def __init__(
        self, run: Run, http: Http, watchdog: Watchdog, others: Callable[[Network], Http],
        once: Callable[[Once, Run, Guard], Any],
    ) -> None:  # fmt: skip
        """others: gives the transport of a request that has a network of its own; once: does what an Once asks for."""
        self._asked, self._http, self._watchdog, self._others, self._once = run, http, watchdog, others, once
        self._response: Response | None = None
        self._guard: Guard | None = None
        self._deltas: GeneratorType[Any, None, None] = self._run()
        self._started = False
        self._cut = False  # closed before its end
        self._reader = self._looper = 0  # ids: of the thread that has read last; of the thread that iterates over it

    def __iter__(self) -> Iterator[Delta]:
        me = get_ident()
        if self._looper or self._deltas.gi_running:
            self._refuse_second_reader()
        self._reader = self._looper = me
        self._start()
        if self._cut:
            raise closed_early()
        return self._deltas

    def __next__(self) -> Delta:
        self._reader = me = get_ident()
        if self._looper not in (0, me):
            self._refuse_second_reader()
        self._start()
        try:
            delta: Delta = next(self._deltas)
        except ValueError:  # "generator already executing"; all errors of the call itself are Errors
            raise _another_reads() from None
        except StopIteration:
            if self._cut:
                raise closed_early() from None
            raise
        return delta

    def __enter__(self) -> Self:
        self._reader = get_ident()
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading. A stream that has ended is not changed; reading any other one afterwards raises an Error."""
        if self._guard is not None and self._reader != get_ident() and self._runs_in(self._reader):
            self._guard.stop()  # the reading thread closes the stream: it may be about to read the next piece
            return
        unread = self._deltas.gi_frame is not None
        try:
            self._deltas.close()
            self._cut = self._cut or unread
        except ValueError:  # another thread is reading: end its wait, and it closes the stream
            until = time.monotonic() + _START_SECONDS
            while self._deltas.gi_running and self._guard is None and time.monotonic() < until:
                time.sleep(0)  # it has just started, and has no guard yet
            if (guard := self._guard) is not None:
                guard.stop()

    def _runs_in(self, reader: int) -> bool:
        """Whether the stream has not ended, and the thread that reads it is alive."""
        return self._deltas.gi_frame is not None and any(thread.ident == reader for thread in threading.enumerate())

    def _refuse_second_reader(self) -> None:
        """Raise ConfigError where another thread iterates over this stream: each would miss what the other reads."""
        if self._deltas.gi_running or (self._looper not in (0, get_ident()) and self._runs_in(self._looper)):
            raise _another_reads()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            try:
                next(self._deltas)  # the None that _run yields after the head of the first response
            except ValueError:
                raise _another_reads() from None
            except StopIteration:
                if self._result is None:
                    raise closed_early() from None

    def _run(self) -> Any:
        """Yields None when the head of the first response has come, and then the deltas."""
        deadline = self._asked.deadline
        self._guard = self._watchdog.guard(deadline) if deadline is not None else self._watchdog.unwatched()
        try:
            yield from self._pump()
        except Error as error:
            self._asked.on_end(error)
            # The frames below hold the provider's raw answer, which may repeat a key, and are of no use to a caller.
            raise frameless(error) from None
        finally:
            if self._guard is not None:
                self._watchdog.cancel(self._guard)
            if self._response is not None:
                self._response.close(complete=self._result is not None)
            if self._result is None:
                self._asked.flow.close()  # a stream that was closed early: its hooks are told now, not when it is freed

    def _pump(self) -> Generator[Any, None, None]:
        answer: Any = None
        failed: Error | None = None
        headless = True
        while True:
            try:
                ask = self._asked.flow.throw(failed) if failed is not None else self._asked.flow.send(answer)
            except StopIteration as stop:
                self._result = stop.value
                self._asked.on_end(stop.value)
                return
            answer = failed = None
            if type(ask) is Emit:
                self._so_far = ask.so_far
                yield from ask.deltas
                continue
            if type(ask) is Within:
                assert self._guard is not None
                self._guard = self._watchdog.part_of(self._guard, ask.seconds)
                continue
            try:
                answer = self._do(ask)
            except Error as error:
                failed = error
            if headless and self._response is not None:
                headless = False
                yield None

    def _outside(self, ask: Outside) -> Any:
        guard = self._guard
        assert guard is not None
        try:
            return ask.function(lambda: guard.fired or guard.remaining <= 0)
        except ProviderTimeoutError:
            if guard.stopped:
                raise closed_early() from None
            raise

    def _do(self, ask: Ask) -> Any:
        if type(ask) is Read:
            assert self._response is not None
            if self._guard is not None and self._guard.stopped:
                raise closed_early()
            return self._response.read()
        if type(ask) is Wait:
            assert self._guard is not None
            return self._guard.wait(ask.seconds)
        if type(ask) is Once:
            assert self._guard is not None
            return self._once(ask, self._asked, self._guard)
        if type(ask) is Outside:
            return self._outside(ask)
        assert type(ask) is Send
        if self._response is not None:
            self._response.close(complete=True)
            self._response = None
        http = self._http if ask.network is None else self._others(ask.network)
        self._response = http.send(ask.request, self._asked.limits(ask.limits), self._guard)
        return self._response.head


def _another_reads() -> ConfigError:
    return ConfigError(
        "another thread is reading this stream", hint="Read a stream in one thread only; any thread may close it."
    )
