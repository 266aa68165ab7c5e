"""The public methods of both clients and both streams, defined once; the clients differ in how answers are waited for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from prx.accounts.account import Account
from prx.accounts.choose import Accounts, ModelRef
from prx.accounts.config import Config
from prx.arguments import Messages, refuse_near_misses
from prx.chat import NONE, Call, ParsedT, Reply
from prx.errors import OPENING, ConfigError, TruncatedError, sealed
from prx.session import Options, Run, Session
from prx.spec.files import Reload
from prx.spec.loader import Loader

if TYPE_CHECKING:
    from prx.batch.rows import Terms
    from prx.events import Hook
    from prx.toolruns import OnCall, ToolLoop

ReplyT = TypeVar("ReplyT")
StreamT = TypeVar("StreamT")
NamesT = TypeVar("NamesT")
RowsT = TypeVar("RowsT")
EmbeddingsT = TypeVar("EmbeddingsT")
RankingT = TypeVar("RankingT")
ImagesT = TypeVar("ImagesT")
SpeechT = TypeVar("SpeechT")
TranscriptT = TypeVar("TranscriptT")
ModerationT = TypeVar("ModerationT")
CountT = TypeVar("CountT")
ToolRunT = TypeVar("ToolRunT")
ResultsT = TypeVar("ResultsT")

Model = str | ModelRef | None
File = str | Path | tuple[str, bytes]
_LIMITS = ("timeout", "deadline", "retries", "fallbacks")


class Calls(ABC, Generic[ReplyT, StreamT, NamesT, RowsT, ToolRunT]):
    """The public methods of a client."""

    @sealed
    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | None = None,
        providers: str | Path | Sequence[str | Path] | None = None,
        env: Mapping[str, str] | None = None,
        *,
        watch: bool = False,
        on_event: Hook | Sequence[Hook] | None = None,
    ) -> None:
        """Read the configuration; no request is sent.

        config      path of a config.toml, or a mapping of the same shape; None = $PRX_CONFIG, ~/.config/prx/config.toml
        providers   further folder(s) of provider files; they replace files of the same name in all other folders
        env         mapping to use in place of os.environ
        watch       look for changed, new and removed files at each call, and reload them
        on_event    a function, or several, called with each event of each call: see prx.events. It is called within the call
                    and on its thread, so it should be quick; an exception of it is logged once and changes nothing
        Raises ConfigError for a configuration with faults.
        """
        self._session = Session(config, providers, env, watch=watch, on_event=on_event)
        self._prepare()

    @classmethod
    def sharing(cls, session: Session) -> Self:
        """A client of the same configuration, accounts and memory as another one, whose session this is."""
        client = cls.__new__(cls)
        client._session = session  # noqa: SLF001 - it is of this class
        client._prepare()  # noqa: SLF001
        return client

    @property
    def session(self) -> Session:
        """What decides for this client; for `prx serve`, which makes its calls in its own way."""
        return self._session

    @property
    def env(self) -> Mapping[str, str]:
        """The environment that keys and settings are taken from."""
        return self._session.env

    @property
    def accounts(self) -> Accounts:
        """The accounts, as they are now; a reload replaces them together with configuration and catalogue."""
        return self._session.accounts

    @property
    def config(self) -> Config:
        """The configuration, as it is now."""
        return self._session.config

    @property
    def catalog(self) -> Loader:
        """The provider files, as they are now."""
        return self._session.catalog

    @sealed
    def chat(
        self,
        messages: Messages,
        model: str | ModelRef | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        fallbacks: Sequence[str] | None = None,
        repair: bool | int = False,
        **params: Any,
    ) -> ReplyT:
        """One whole answer, a Reply.

        messages    a text, or OpenAI-shaped messages
        model       "provider/model", a routed name, or None for the default
        timeout     seconds without a byte, in every phase
        deadline    seconds for the whole call
        retries     attempts beyond the first
        fallbacks   None = the provider's; () = none; names = only those, such as "responses", "without_temperature", or
                    "without_parameter" for all of that row
        repair      where response_format is a class: how often to ask again if the answer is no instance of it (True: once)
        params      OpenAI's names: temperature, max_tokens, stop, response_format, reasoning_effort, …; and extra_body,
                    extra_headers, extra_query: mappings that go into the request as they are. response_format may be a
                    dataclass, a TypedDict or a class of pydantic: `reply.parsed` is an instance of it then
        Raises Error.
        """
        if params:
            refuse_near_misses(params)
        options = Options(
            messages, model, tools, tool_choice, timeout, deadline, retries, fallbacks, params, repair=repair
        )
        return self._chat(options)

    @sealed
    def stream(
        self,
        messages: Messages,
        model: str | ModelRef | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        fallbacks: Sequence[str] | None = None,
        **params: Any,
    ) -> StreamT:
        """As `chat`, but gives the answer in pieces as they arrive: an iterator of Delta, with `reply` after its end.

        Raises Error, here or while the stream is read.
        """
        if params:
            refuse_near_misses(params)
            if "repair" in params:
                raise ConfigError("a stream cannot ask again: its pieces are with you already; use chat")
        options = Options(messages, model, tools, tool_choice, timeout, deadline, retries, fallbacks, params)
        return self._stream(self._session.begin_chat(options, stream=True))

    @sealed
    def run_tools(
        self,
        messages: Messages,
        model: str | ModelRef | None = None,
        *,
        tools: Sequence[Mapping[str, Any]],
        tool_choice: Any = None,
        max_turns: int = 10,
        on_call: OnCall | None = None,
        raise_errors: bool = False,
        **options: Any,
    ) -> ToolRunT:
        """A ToolRun: chats, with the calls that the model makes and their results, until it answers.

        tools         made by prx.tool; a definition without a function ends the run where the model calls it, see `pending`
        tool_choice   of the first turn; one that demands a call does so in this turn alone
        max_turns     how often the model may be asked
        on_call       called with a ToolCall and its arguments before a tool is; a text that it returns is the result in place of
                      the tool's. Of an AsyncClient it may be a coroutine function
        raise_errors  an exception of a tool ends the run; otherwise the model is told of it
        options       as of `chat`, for each turn
        Raises TooManyTurnsError, and Error as `chat` does.
        """
        with OPENING:
            from prx.toolruns import ToolLoop  # most programs run no tools
        loop = ToolLoop(messages, tools, tool_choice, max_turns, on_call, raise_errors=raise_errors)
        loop.hooks = self._session.hooks
        return self._run_tools(loop, partial(self.chat, model=model, tools=tools, **options))

    @sealed
    def models(self, provider: str | None = None, *, timeout: float | None = 20.0) -> NamesT:
        """The provider's own list of its models, as names.

        provider    id, alias or name in the configuration; None for the default
        timeout     seconds without a byte, in every phase
        Not retried. Raises Error.
        """
        return self._models(Options(model=provider, timeout=timeout, retries=0))

    @sealed
    def model_rows(self, provider: str | None = None, *, timeout: float | None = 20.0) -> RowsT:
        """As `models`, with what the list says of each model: {"id": its name, "data": its entry as it came, or None}."""
        return self._model_rows(Options(model=provider, timeout=timeout, retries=0))

    @sealed
    def plan(
        self,
        messages: Messages,
        model: str | ModelRef | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        params: Mapping[str, Any] | None = None,
        stream: bool = False,
    ) -> tuple[Account, Call]:
        """(account, call) that `chat` or `stream` would use; nothing is sent. Raises ConfigError or SpecError."""
        options = Options(messages, model, tools, tool_choice, params=params or NONE)
        return self._session.plan(options, stream=stream)

    @sealed
    def reload(self) -> Reload:
        """Read the configuration and the provider files again. Running calls are not affected.

        A faulty file changes nothing: its last good version stays in use, and `problems` has the reason.
        """
        return self._session.reload()

    @abstractmethod
    def _prepare(self) -> None:
        """Import and make what connections need; none is opened."""

    @abstractmethod
    def _chat(self, options: Options) -> ReplyT: ...

    @abstractmethod
    def _run_tools(self, loop: ToolLoop, chat: Callable[..., ReplyT]) -> ToolRunT:
        """Do what the loop asks for. chat: all but the messages and the tool_choice are set."""

    @abstractmethod
    def _models(self, options: Options) -> NamesT: ...

    @abstractmethod
    def _model_rows(self, options: Options) -> RowsT: ...

    @abstractmethod
    def _stream(self, run: Run) -> StreamT: ...


class KindCalls(ABC, Generic[EmbeddingsT, RankingT, ImagesT, SpeechT, TranscriptT, ModerationT, CountT, ReplyT]):
    """Calls that are no chats. All take, besides what is named, timeout, deadline, retries, fallbacks and extra_… as `chat`
    does, and further parameters by OpenAI's names; and all raise Error.
    """

    _session: Session

    @sealed
    def embed(
        self, input: Any, model: Model = None, *, dimensions: int | None = None, input_type: str | None = None,  # noqa: A002 - as others call it
        as_numpy: bool = False, **params: Any,
    ) -> EmbeddingsT:  # fmt: skip
        """Embeddings: one vector for each input, in the order of the inputs.

        input       a text, or a list of texts; more than one request takes are sent in several, one after the other
        dimensions  how long the vectors are to be, where the model can choose
        input_type  "query" or "document", where the model makes a difference
        as_numpy    `vectors` as a numpy array of float32, which needs numpy
        """
        if as_numpy:
            _numpy()
        inputs = {"input": input, "dimensions": dimensions, "input_type": input_type}
        result: EmbeddingsT = self._kind("embed", model, inputs, params, to_array if as_numpy else None)
        return result

    @sealed
    def rerank(
        self, query: str, documents: Sequence[Any], model: Model = None, *, top_n: int | None = None, **params: Any
    ) -> RankingT:
        """Ranking: the documents in the order in which they fit the query. top_n: only the best of them."""
        result: RankingT = self._kind("rerank", model, {"query": query, "documents": documents, "top_n": top_n}, params)
        return result

    @sealed
    def image(
        self, prompt: str, model: Model = None, *, n: int | None = None, size: str | None = None, **params: Any
    ) -> ImagesT:
        """Images: n pictures of a size such as "1024x1024"."""
        result: ImagesT = self._kind("image", model, {"prompt": prompt, "n": n, "size": size}, params)
        return result

    @sealed
    def speech(
        self, text: str, model: Model = None, *, voice: str | None = None, format: str | None = None,  # noqa: A002
        **params: Any,
    ) -> SpeechT:  # fmt: skip
        """Speech: the text, spoken. format: such as "mp3" or "wav"."""
        result: SpeechT = self._kind("speech", model, {"text": text, "voice": voice, "format": format}, params)
        return result

    @sealed
    def transcribe(self, file: File, model: Model = None, *, language: str | None = None, **params: Any) -> TranscriptT:
        """Transcript: what is said in a recording. file: its path, or its name and its bytes."""
        result: TranscriptT = self._kind("transcribe", model, {"file": read_file(file), "language": language}, params)
        return result

    @sealed
    def moderate(self, input: Any, model: Model = None, **params: Any) -> ModerationT:  # noqa: A002
        """Moderation: whether a text, or one of several, is harmful."""
        result: ModerationT = self._kind("moderate", model, {"input": input}, params)
        return result

    @sealed
    def count_tokens(
        self,
        messages: Messages,
        model: Model = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **params: Any,
    ) -> CountT:
        """How many tokens a chat with these messages and tools would read, as the provider counts them."""
        result: CountT = self._kind("count_tokens", model, {}, params, _count, messages=messages, tools=tools)
        return result

    @sealed
    def complete(self, prompt: Any, model: Model = None, *, suffix: str | None = None, **params: Any) -> ReplyT:
        """A Reply that goes on with a text. suffix: what comes after it, so that the middle is filled in."""
        result: ReplyT = self._kind("complete", model, {"prompt": prompt, "suffix": suffix}, params)
        return result

    @sealed
    def call(
        self, kind: str, model: Model, inputs: Mapping[str, Any], params: dict[str, Any], messages: Any = None
    ) -> Any:
        """What a call of a kind gives, by the kind's name; of count_tokens a TokenCount. For programs that choose the kind."""
        return self._kind(kind, model, inputs, params, None, messages)

    def _kind(
        self, kind: str, model: Model, inputs: Mapping[str, Any], params: dict[str, Any], change: Any = None,
        messages: Any = None, tools: Any = None,
    ) -> Any:  # fmt: skip
        refuse_near_misses(params)
        limits = {name: params.pop(name, None) for name in _LIMITS}
        options = Options(messages, model, tools, params=params, inputs=inputs, **limits)
        return self._changed(self._session.begin_kind(kind, options), change)

    @abstractmethod
    def _changed(self, run: Run, change: Any) -> Any:
        """What the run gives, or what `change` makes of it."""


class BatchCalls(ABC, Generic[ResultsT]):
    """Many calls."""

    @sealed
    def batch(
        self,
        rows: Any,
        model: Model = None,
        *,
        kind: str = "chat",
        prompt: str | None = None,
        system: str | None = None,
        in_flight: int = 32,
        ordered: bool = True,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int = 5,
        patience: float = 3600.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        **params: Any,
    ) -> ResultsT:
        """An iterator with a BatchResult for each row, whose error is there in place of an exception.

        rows       texts, or mappings with "prompt", "messages" or "input", and an "id" and parameters where wanted; a row is
                   drawn only when there is room for it, so that there may be any number
        kind       "chat", "embed" or "complete"
        prompt     a template, such as "The mood of: {text}"; then a row is a mapping of columns. system: the same
        in_flight  rows that are worked on at once, at most
        ordered    results in the order of the rows; otherwise as they come
        deadline   seconds for each attempt
        retries    further attempts after an error that may pass; refusals for the rate are not counted
        patience   seconds for which a row that is refused for the rate is asked again
        requests_per_minute, tokens_per_minute   of each account, besides what the provider says
        Raises ConfigError; and what drawing a row raises.
        """
        from prx.batch.rows import Template, Terms  # few programs have batches

        templates: dict[str, Any] = {
            name: Template(text, name) if text is not None else None
            for name, text in (("prompt", prompt), ("system", system))
        }
        per_minute = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        terms = Terms(
            model, kind, **templates, params=params, in_flight=in_flight, ordered=ordered, timeout=timeout,
            deadline=deadline, retries=retries, patience=patience, per_minute=per_minute,
        )  # fmt: skip
        terms.check()
        return self._batch(rows, terms)

    @abstractmethod
    def _batch(self, rows: Any, terms: Terms) -> ResultsT: ...


def _count(result: Any) -> int:
    count: int = result.count
    return count


def _numpy() -> Any:
    try:
        return import_module("numpy")  # only where it is asked for
    except ImportError:
        raise ConfigError("as_numpy=True needs numpy, which is not installed", hint="pip install numpy") from None


def to_array(result: Any) -> Any:
    """Embeddings with their vectors as a numpy array."""
    numpy = _numpy()
    return result._replace(vectors=numpy.array(result.vectors, dtype=numpy.float32))


def read_file(file: Any) -> Any:
    """A file's name and bytes, from its path. Raises ConfigError."""
    if not isinstance(file, str | Path):
        return file
    try:
        return Path(file).name, Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from None


class Progress(Generic[ParsedT]):
    """The result of a stream.

    reply     the Reply, after the end of the stream; before it, and where there is none, raises ConfigError
    partial   the Reply with what has arrived so far
    """

    _result: Any = None
    _so_far: Callable[[], Reply[ParsedT]] = Reply

    @property
    def reply(self) -> Reply[ParsedT]:
        if self._result is None:
            raise ConfigError(
                "the stream has no reply: it has not ended yet, or ended with an error, or was closed",
                hint="Read it to its end first; stream.partial has what has arrived so far.",
            )
        reply: Reply[ParsedT] = self._result
        return reply

    @property
    def partial(self) -> Reply[ParsedT]:
        return self._result or self._so_far()


def closed_early() -> TruncatedError:
    """The error for reading a stream that was closed before its end."""
    return TruncatedError("the stream was closed before its end", retryable=False)
