"""The public methods for all calls but chats, defined once for both clients; each is a row of core.kind_answers.KINDS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from prx.errors import ConfigError, sealed
from prx.session import Options, Run, Session

if TYPE_CHECKING:
    from prx.accounts.choose import ModelRef
    from prx.arguments import Messages

    Model = str | ModelRef | None
    File = str | Path | tuple[str, bytes]

EmbeddingsT = TypeVar("EmbeddingsT")
RankingT = TypeVar("RankingT")
ImagesT = TypeVar("ImagesT")
SpeechT = TypeVar("SpeechT")
TranscriptT = TypeVar("TranscriptT")
ModerationT = TypeVar("ModerationT")
CountT = TypeVar("CountT")
ReplyT = TypeVar("ReplyT")

_LIMITS = ("timeout", "deadline", "retries", "fallbacks")


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
        limits = {name: params.pop(name, None) for name in _LIMITS}
        options = Options(messages, model, tools, params=params, inputs=inputs, **limits)
        return self._changed(self._session.begin_kind(kind, options), change)

    @abstractmethod
    def _changed(self, run: Run, change: Any) -> Any:
        """What the run gives, or what `change` makes of it."""


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
