"""A call whose answer is to be an instance of a class: what is sent for it, how the answer is read, and asking once again."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from functools import lru_cache
from typing import Any

from prx.chat import Call, JsonText, Reply, total
from prx.core import fault
from prx.core.exchange import exchange
from prx.core.kinds import CHAT, CallKind
from prx.errors import ConfigError, ContentFilterError, Error, TruncatedError, UnfitReplyError
from prx.record import Record
from prx.typed import hints
from prx.typed.schema import Json, schema_of, strict
from prx.typed.values import UnfitValueError, value_of
from prx.wire import Target

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL | re.IGNORECASE)
_AGAIN = "This does not fit what was asked for: {}. Answer once more, with the whole corrected JSON and nothing else."
_NAME = 64  # characters of a schema's name that APIs take


class AnswerForm(Record):
    """The class that an answer is to be of. sent: the parameter response_format for it. repairs: how often to ask again."""

    cls: Any
    sent: Json
    repairs: int = 0


def answer_form(wanted: Any, repair: Any) -> AnswerForm:
    """Raises ConfigError for what is no class that has a schema."""
    if not (hints.is_pydantic(wanted) or hints.is_class_with_members(wanted)):
        raise ConfigError(
            f"response_format must be a mapping, or a dataclass, a TypedDict or a class of pydantic, not {wanted!r:.80}",
            hint="An instance is no class: response_format=Person, not Person(…).",
        )
    if not isinstance(repair, int) or repair < 0:
        raise ConfigError(f"repair must be True, False or a whole number, not {repair!r:.60}")
    return AnswerForm(wanted, _sent(wanted), int(repair))


@lru_cache(maxsize=256)  # a program has few classes, and asks for each of them often
def _sent(cls: Any) -> Json:
    schema = schema_of(cls)
    closed = strict(schema)
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", cls.__name__)[:_NAME]
    held = {"schema": schema} if closed is None else {"schema": closed, "strict": True}
    return {"type": "json_schema", "json_schema": {"name": name, **held}}


def kind_of(form: AnswerForm) -> CallKind:
    """The chat whose reply has its value."""

    def flow(variants: Any, call: Call, target: Target, policy: Any, kind: CallKind) -> Generator[Any, Any, Reply]:
        return _checked(form, variants, call, target, policy, kind)

    return CHAT._replace(flow=flow)


def _checked(
    form: AnswerForm, variants: Any, call: Call, target: Target, policy: Any, kind: CallKind
) -> Generator[Any, Any, Reply]:
    """As core.exchange.exchange; a reply that does not fit is an error, or a reason to ask again."""
    replies: list[Reply] = []
    while True:
        before = sum(reply.attempts for reply in replies)
        try:
            replies.append((yield from exchange(variants, call, target, policy, kind)))
        except Error as error:
            error.attempts += before
            raise
        reply = replies[-1]
        try:
            return _together(replies)._replace(parsed=parsed(form.cls, reply))
        except Error as error:
            fault.without_keys(error, target.secrets)
            error.partial, error.provider = _together(replies), reply.provider
            error.attempts, error.fallbacks = before + reply.attempts, reply.fallbacks
            if len(replies) > form.repairs or not isinstance(error, UnfitReplyError):
                raise
            again = {"role": "user", "content": _AGAIN.format(error.message)}
        call = call._replace(messages=(*call.messages, reply.message, again))


def _together(replies: list[Reply]) -> Reply:
    """The last reply, with the requests and the tokens of all."""
    last = replies[-1]
    if len(replies) == 1:
        return last
    return last._replace(
        attempts=sum(reply.attempts for reply in replies), usage=total(reply.usage for reply in replies)
    )


def parsed(cls: Any, reply: Reply) -> Any:
    """The value of a reply; None where it calls tools, since the answer comes after their results. Raises Error."""
    if reply.tool_calls:
        return None
    if reply.refusal is not None or reply.finish_reason == "content_filter":
        raise ContentFilterError(f"the model refused to answer: {reply.refusal or 'its answer was filtered'}")
    try:
        return value_of(cls, _json(reply.content))
    except UnfitValueError as unfit:
        if reply.finish_reason == "length":
            raise TruncatedError(
                f"the answer ended before its {cls.__name__} did: no more tokens were allowed",
                retryable=False,
                hint="Allow more with max_tokens.",
            ) from None
        raise UnfitReplyError(f"the answer is no {cls.__name__}: {unfit}", hint=_HINT) from None


_HINT = "error.partial has the reply. repair=True asks the model once again, with this message."


def _json(content: str) -> Any:
    """The value of a JSON text, which may stand in a fence of Markdown: some models write one whatever they are told."""
    if isinstance(content, JsonText):
        return content.value
    fenced = _FENCED.fullmatch(content)
    try:
        return json.loads(fenced[1] if fenced else content)
    except (ValueError, RecursionError) as error:
        what = "it is empty" if not content.strip() else f"it is no JSON: {error}"
        raise UnfitValueError("", what) from None
