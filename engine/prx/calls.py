"""The public methods of both clients and both streams, defined once; the clients differ in how answers are waited for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from prx.accounts.account import Account
from prx.accounts.choose import Accounts, ModelRef
from prx.accounts.config import Config
from prx.arguments import Messages
from prx.chat import NONE, Call, Reply
from prx.errors import ConfigError, TruncatedError, sealed
from prx.session import Options, Run, Session
from prx.spec.files import Reload
from prx.spec.loader import Loader

ReplyT = TypeVar("ReplyT")
StreamT = TypeVar("StreamT")
NamesT = TypeVar("NamesT")
RowsT = TypeVar("RowsT")


class Calls(ABC, Generic[ReplyT, StreamT, NamesT, RowsT]):
    """The public methods of a client."""

    @sealed
    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | None = None,
        providers: str | Path | Sequence[str | Path] | None = None,
        env: Mapping[str, str] | None = None,
        *,
        watch: bool = False,
    ) -> None:
        """Read the configuration; no request is sent.

        config      path of a config.toml, or a mapping of the same shape; None = $PRX_CONFIG, ~/.config/prx/config.toml
        providers   further folder(s) of provider files; they replace files of the same name in all other folders
        env         mapping to use in place of os.environ
        watch       look for changed, new and removed files at each call, and reload them
        Raises ConfigError for a configuration with faults.
        """
        self._session = Session(config, providers, env, watch=watch)
        self._prepare()

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
        params      OpenAI's names: temperature, max_tokens, stop, response_format, reasoning_effort, …; and extra_body,
                    extra_headers, extra_query: mappings that go into the request as they are
        Raises Error.
        """
        return self._chat(Options(messages, model, tools, tool_choice, timeout, deadline, retries, fallbacks, params))

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
        options = Options(messages, model, tools, tool_choice, timeout, deadline, retries, fallbacks, params)
        return self._stream(self._session.begin_chat(options, stream=True))

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
    def _models(self, options: Options) -> NamesT: ...

    @abstractmethod
    def _model_rows(self, options: Options) -> RowsT: ...

    @abstractmethod
    def _stream(self, run: Run) -> StreamT: ...


class Progress:
    """The result of a stream.

    reply     the Reply, after the end of the stream; before it, and where there is none, raises ConfigError
    partial   the Reply with what has arrived so far
    """

    _result: Any = None
    _so_far: Callable[[], Reply] = Reply

    @property
    def reply(self) -> Reply:
        if self._result is None:
            raise ConfigError(
                "the stream has no reply: it has not ended yet, or ended with an error, or was closed",
                hint="Read it to its end first; stream.partial has what has arrived so far.",
            )
        reply: Reply = self._result
        return reply

    @property
    def partial(self) -> Reply:
        return self._result or self._so_far()


def closed_early() -> TruncatedError:
    """The error for reading a stream that was closed before its end."""
    return TruncatedError("the stream was closed before its end", retryable=False)
