"""The asynchronous client, and the loop that does the I/O of a call: it awaits what the call's flow requires."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from prx import forks
from prx.arguments import Messages
from prx.calls import BatchCalls, Calls, KindCalls, Model, Progress, closed_early
from prx.chat import Delta, ParsedT, Reply
from prx.core.exchange import Ask, Emit, Once, Outside, Read, Send, Wait, Within
from prx.core.kind_results import Embeddings, Images, Moderation, Ranking, Speech, Transcript
from prx.errors import OPENING, ConfigError, Error, ProviderTimeoutError, frameless, sealed_coroutine
from prx.session import Network, Options, Run
from prx.transport.asynchronous import AsyncHttp, AsyncResponse, Deadline
from prx.wire import Head

if TYPE_CHECKING:
    from prx.batch.rows import Terms
    from prx.batch.stream import Results
    from prx.toolruns import ToolLoop, ToolRun


class AsyncClient(
    Calls[
        Coroutine[Any, Any, Reply],
        "AsyncStream",
        Coroutine[Any, Any, list[str]],
        Coroutine[Any, Any, list[dict[str, Any]]],
        Coroutine[Any, Any, "ToolRun"],
    ],
    KindCalls[
        Coroutine[Any, Any, Embeddings],
        Coroutine[Any, Any, Ranking],
        Coroutine[Any, Any, Images],
        Coroutine[Any, Any, Speech],
        Coroutine[Any, Any, Transcript],
        Coroutine[Any, Any, Moderation],
        Coroutine[Any, Any, int],
        Coroutine[Any, Any, Reply],
    ],
    BatchCalls["Results"],
):
    """Calls any provider of its catalogue, on one event loop: the one on which it is first used.

    `chat` and `models` are awaited; `stream` gives an AsyncStream. A cancelled task closes its connection at once.
    """

    _playback: AsyncHttp | None = None  # used in place of the network where recordings are played

    if (
        TYPE_CHECKING
    ):  # `chat` and `stream` as in Calls; with a class as response_format, what they give is of this class

        @overload
        def chat(
            self, messages: Messages, model: Model = None, *, response_format: type[ParsedT], **options: Any
        ) -> Coroutine[Any, Any, Reply[ParsedT]]: ...
        @overload
        def chat(
            self, messages: Messages, model: Model = None, *, tools: Sequence[Mapping[str, Any]] | None = None, tool_choice: Any = None,
            timeout: float | None = None, deadline: float | None = None, retries: int | None = None,
            fallbacks: Sequence[str] | None = None, repair: bool | int = False, **params: Any,
        ) -> Coroutine[Any, Any, Reply]: ...  # fmt: skip
        def chat(self, *args: Any, **options: Any) -> Any: ...

        @overload
        def stream(
            self, messages: Messages, model: Model = None, *, response_format: type[ParsedT], **options: Any
        ) -> AsyncStream[ParsedT]: ...
        @overload
        def stream(
            self, messages: Messages, model: Model = None, *, tools: Sequence[Mapping[str, Any]] | None = None, tool_choice: Any = None,
            timeout: float | None = None, deadline: float | None = None, retries: int | None = None,
            fallbacks: Sequence[str] | None = None, **params: Any,
        ) -> AsyncStream: ...  # fmt: skip
        def stream(self, *args: Any, **options: Any) -> Any: ...

    def _prepare(self) -> None:
        self._https: dict[Network, AsyncHttp] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._made_in = forks.generation  # the process of its loop, once it has one
        self._streams: weakref.WeakSet[AsyncStream] = weakref.WeakSet()  # weak: one without a user is closed
        self.whole: set[AsyncStream | Deadline] = set()  # behind chat and models, or a service
        self._running: dict[Any, asyncio.Task[Any]] = {}  # flows that run once for all calls that need their result

    async def aclose(self) -> None:
        """Close every connection. Running calls of other tasks, and streams that are being read, end with an Error.

        Raises ConfigError on another event loop than the client's, while that one is open.
        """
        if self.can_run:
            self.check_loop()
        for stream in (*self._streams, *self.whole):
            stream.stop()
        https, self._https = self._https, {}
        for http in https.values():
            http.close()
        await asyncio.sleep(0)  # asyncio closes a connection in its loop's next round

    async def __aenter__(self) -> Self:
        self.check_loop()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    @sealed_coroutine
    async def _chat(self, options: Options) -> Reply:
        self.check_loop()
        reply: Reply = await AsyncStream(self._session.begin_chat(options, stream=False), self).whole()
        return reply

    @sealed_coroutine
    async def _changed(self, run: Run, change: Callable[[Any], Any] | None) -> Any:
        self.check_loop()
        result = await AsyncStream(run, self).whole()
        return change(result) if change else result

    @sealed_coroutine
    async def _run_tools(self, loop: ToolLoop, chat: Callable[..., Coroutine[Any, Any, Reply]]) -> ToolRun:
        with OPENING:
            from prx.toolruns import AskModel, call_tools_async
        steps = loop.steps()
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                run: ToolRun = stop.value
                return run
            if isinstance(step, AskModel):
                answer = await chat(step.messages, tool_choice=step.tool_choice)
            else:
                answer = await call_tools_async(loop, step.calls)

    @sealed_coroutine
    async def _models(self, options: Options) -> list[str]:
        return [row["id"] for row in await self._model_rows(options)]

    @sealed_coroutine
    async def _model_rows(self, options: Options) -> list[dict[str, Any]]:
        self.check_loop()
        rows: list[dict[str, Any]] = await AsyncStream(self._session.begin_models(options), self).whole()
        return rows

    def _batch(self, rows: Any, terms: Terms) -> Results:
        from prx.batch.pool import Pool
        from prx.batch.stream import Results

        self.check_loop()
        return Results(Pool(self, terms), rows)

    def finish(self, run: Run) -> Coroutine[Any, Any, Any]:
        """What a call gives that was begun with the client's session; for programs that make their calls in their own way."""
        self.check_loop()
        return AsyncStream(run, self).whole()

    def _stream(self, run: Run) -> AsyncStream:
        stream = AsyncStream(run, self)
        self._streams.add(stream)
        return stream

    async def once(self, ask: Once, asked: Run, deadline: Deadline) -> Any:
        """The result of a flow that runs once for all calls that ask for it meanwhile: in a task of its own, so that it goes on
        where the call that has begun it is cancelled.
        """
        task = self._running.get(ask.key)
        if task is None:
            stream = AsyncStream(Run(ask.begin(), asked.network, asked.timeout, None, lambda _: None), self)
            task = self._running[ask.key] = asyncio.get_running_loop().create_task(stream.whole())
            task.add_done_callback(partial(self._ran, ask.key))
        try:
            await deadline.within(math.inf, partial(asyncio.wait, [task]))
        except TimeoutError:
            if deadline.stopped:
                raise closed_early() from None
            raise ProviderTimeoutError("the deadline passed while waiting for a key") from None
        return task.result()

    def _ran(self, key: Any, task: asyncio.Task[Any]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at: asyncio would log it where all who waited have gone

    def http(self, network: Network) -> AsyncHttp:
        """The transport for all accounts with these network settings, made at the first call."""
        http = self._https.get(network) if self._playback is None else self._playback
        if http is None:
            proxy, ca_file, cert = network
            http = self._https[network] = AsyncHttp(proxy.reveal(), ca_file, self.env, cert)
        return http

    def check_loop(self) -> None:
        """Raises ConfigError where the running event loop is not this client's, or none runs."""
        if self._loop is not None and self._made_in != forks.generation:  # asyncio says there that no loop runs
            raise ConfigError(
                "this AsyncClient was used before a fork",
                hint="In the child of a fork, make an AsyncClient of its own.",
            )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "AsyncClient is used where no asyncio event loop runs",
                hint="Use it in a coroutine that asyncio.run, or anyio with its asyncio backend, runs.",
            ) from None
        if self._loop is None:
            self._loop, self._made_in = loop, forks.generation
        if self._loop is not loop:
            raise ConfigError(
                "this AsyncClient is of another event loop", hint="Make an AsyncClient for each event loop."
            )

    @property
    def can_run(self) -> bool:
        """Whether its event loop is still open, and of this process."""
        return self._loop is not None and not self._loop.is_closed() and self._made_in == forks.generation


class AsyncStream(Progress[ParsedT]):
    """The pieces of an answer, as they arrive: an asynchronous iterator of Delta, and a context manager.

    The request is sent on `async with`, or when the first piece is read. Leaving it early closes the connection, which
    stops the provider. `reply` is set after the end, `partial` at any time.
    """

    def __init__(self, run: Run, client: AsyncClient) -> None:
        self._run, self._client = run, client
        self._pending: deque[Delta] = deque()
        self._answer: Any = None  # the result that the flow waits for
        self._response: AsyncResponse | None = None
        self._deadline: Deadline | None = None
        self._over = False
        self._cut = False  # closed before its end
        self._is_read = False  # whether a task is reading it at this moment

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while not self._pending:
            if self._cut:
                raise closed_early()
            if self._over:
                raise StopAsyncIteration
            self._client.check_loop()
            await self._advance("deltas")
        return self._pending.popleft()

    async def __aenter__(self) -> Self:
        while self._response is None and not self._over and not self._pending:
            self._client.check_loop()
            await self._advance("head")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading. A stream that has ended is not changed; reading any other one afterwards raises an Error."""
        if self._client.can_run:
            self._client.check_loop()
        self.stop()

    def stop(self) -> None:
        """As `aclose`, without awaiting; a task that is waiting in the stream gets an Error."""
        self._pending.clear()
        if self._over:
            return
        if self._is_read and self._deadline is not None and self._client.can_run:
            self._deadline.stop()
            return
        self._cut = True
        self._end()

    async def whole(self) -> Any:
        """The result of the call, without its pieces. Raises Error."""
        self._client.whole.add(self)
        try:
            await self._advance("end")
        finally:
            self._client.whole.discard(self)
        return self._result

    async def _advance(self, until: Literal["head", "deltas", "end"]) -> None:
        """Run the flow up to the head of a response, to the next deltas or to the end. Raises Error."""
        if self._is_read:
            raise ConfigError(
                "another task reads this stream", hint="A stream is read by one task; any task may close it."
            )
        self._is_read = True
        try:
            await self._do_next(until)
        except Error as error:
            self._end()
            self._run.on_end(error)
            # The frames below hold the provider's raw answer, which may repeat a key, and are of no use to a caller.
            raise frameless(error) from None
        except BaseException:  # the task was cancelled
            self._cut = True
            self._end()
            raise
        finally:
            self._is_read = False

    async def _do_next(self, until: Literal["head", "deltas", "end"]) -> None:
        deadline = self._deadline = self._deadline or Deadline(self._run.deadline)
        flow, failed = self._run.flow, None
        while True:
            try:
                ask = flow.throw(failed) if failed is not None else flow.send(self._answer)
            except StopIteration as stop:
                return await self._finish(stop.value)
            self._answer = failed = None
            if type(ask) is Emit:
                self._so_far = ask.so_far
                if until == "end":
                    continue
                self._pending.extend(ask.deltas)
                return None
            if type(ask) is Within:
                deadline.begin_part(ask.seconds)
                continue
            try:
                self._answer = await self._done(ask, deadline)
            except Error as error:
                failed = error
            if until == "head" and type(ask) is Send and failed is None:
                return None

    def _done(self, ask: Ask, deadline: Deadline) -> Awaitable[Any]:
        """The awaitable of the result. This is not a coroutine function, since each one between the flow and the socket costs
        time at every piece.
        """
        if type(ask) is Read:
            assert self._response is not None
            if deadline.stopped:
                raise closed_early()
            return self._response.read()
        if type(ask) is Once:
            return self._client.once(ask, self._run, deadline)
        if type(ask) is Outside:
            return asyncio.to_thread(ask.function, lambda: self._over or deadline.fired)
        return deadline.wait(ask.seconds) if type(ask) is Wait else self._send(ask, deadline)  # type: ignore[arg-type]

    async def _send(self, ask: Send, deadline: Deadline) -> Head:
        if self._response is not None:
            await self._response.finish()
            self._response = None
        http = self._client.http(ask.network or self._run.network)
        self._response = await http.send(ask.request, self._run.limits(ask.limits), deadline)
        return self._response.head

    async def _finish(self, result: Any) -> None:
        self._result, self._over = result, True
        self._run.on_end(result)
        if self._response is not None:
            await self._response.finish()
            self._response = None

    def _end(self) -> None:
        """Close the connection and the flow."""
        self._over = True
        if self._response is not None:
            self._response.abort()
            self._response = None
        self._run.flow.close()

    def __del__(self) -> None:
        # A stream without a user that was not closed. The garbage collector may run in another thread than the loop.
        loop = self._client._loop  # noqa: SLF001 - the two classes are one subject
        if self._response is not None and loop is not None and self._client.can_run:
            loop.call_soon_threadsafe(self._response.abort)
