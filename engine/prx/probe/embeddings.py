"""Asks for an embedding: of a few models that are named like embedding models, or of the model of the chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prx.errors import Error
from prx.probe.doors import no_such_path
from prx.probe.findings import Finding, refuses, said, told
from prx.probe.line import Answer, Ask, How
from prx.probe.names import for_embeddings

NAME = "embeddings"
KIND: How = "embed"  # of the call, as the key below `calls`
_MOST = 3  # so many models are asked
_SHORTEST = 2  # numbers; no embedding is shorter


def candidates(listed: Sequence[str], chat: str) -> list[str]:
    """The models to ask: those that are named like embedding models, or else the model of the chat."""
    return for_embeddings(listed)[:_MOST] or [chat]


def found(ask: Callable[[Ask], Answer], listed: Sequence[str], chat: str) -> Finding:
    """The finding of the first model that gives a vector, or of all that were asked. Where the server has no such path,
    further models are not asked.
    """
    models = candidates(listed, chat)
    for model in models:
        answer = ask(Ask({"input": "hello"}, KIND, model=model))
        if answer.error is None and not _fault(answer):
            how = f"{told(model)} gave a vector of {len(answer.vectors[0])} numbers"
            return Finding(NAME, "yes", how, answer.asked, overlay={"calls": {KIND: {}}})
        if no_such_path(answer):
            break
    return _without(answer, models, is_refused=no_such_path(answer) or _is_refused(answer.error, listed))


def _fault(answer: Answer) -> str:
    """What shows that a vector is no embedding, or ""."""
    (vector,) = answer.vectors
    if len(vector) < _SHORTEST:
        return f"a vector of {len(vector)} number{'s' * (len(vector) != 1)} came, which is no embedding"
    return "" if any(vector) else f"a vector of {len(vector)} zeros came, which is no embedding"


def _is_refused(error: Error | None, listed: Sequence[str]) -> bool:
    """Whether an error refuses embeddings, and there is no other model that might make them."""
    return error is not None and len(listed) <= 1 and refuses(error, ("embed",))


def _without(answer: Answer, models: Sequence[str], *, is_refused: bool) -> Finding:
    reason = said(answer.error) if answer.error else _fault(answer)
    if is_refused:
        return Finding(NAME, "no", f"refused: {reason}", answer.asked)
    return Finding(NAME, "open", f"none from {', '.join(map(told, models))}: {reason}", answer.asked)
