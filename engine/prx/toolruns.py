"""A conversation in which a model calls tools until it answers: who is asked what next. It does no I/O and calls no tool itself.

`steps` is a generator as a call's flow is: it yields AskModel, whose result is a Reply, and CallTools, whose results are texts in
the order of the calls; a driver does both.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from prx import arguments
from prx.chat import Message, Reply, ToolCall, Usage, total
from prx.errors import ConfigError, TooManyTurnsError
from prx.record import Record
from prx.typed.tool import Tool
from prx.typed.values import UnfitValueError

if TYPE_CHECKING:
    from prx.hooks import Hooks

OnCall = Callable[[ToolCall, dict[str, Any]], Any]
_OPEN_CHOICES = (None, "auto", "none")
AT_ONCE = 8  # calls of one turn that an AsyncClient has running at a time


class ToolRun(Record):
    """What came of a conversation with tools.

    reply     the last answer
    messages  the whole conversation, the last answer included; for the next call
    turns     how often the model was asked
    usage     the tokens of all answers, added up; None where none were reported
    pending   calls of tools that are no functions: they are for you to answer, with a message of role "tool" each
    """

    reply: Reply
    messages: list[Message]
    turns: int
    usage: Usage | None = None
    pending: tuple[ToolCall, ...] = ()


class AskModel(Record):
    messages: list[Message]
    tool_choice: Any = None


class CallTools(Record):
    calls: tuple[PendingCall, ...]


class PendingCall(Record):
    """A call of a tool of ours. tool: None where none has this name."""

    call: ToolCall
    tool: Tool | None


class ToolLoop:
    """The conversation. Raises ConfigError for what cannot be run. hooks: of the client."""

    hooks: Hooks | None = None

    def __init__(
        self, messages: Any, tools: Sequence[Mapping[str, Any]], tool_choice: Any, max_turns: int, on_call: OnCall | None, *, raise_errors: bool
    ) -> None:  # fmt: skip
        if isinstance(max_turns, bool) or not isinstance(max_turns, int) or max_turns < 1:
            raise ConfigError(f"max_turns must be a whole number, 1 or more, not {max_turns!r:.60}")
        self._messages = arguments.messages(messages)
        self._choice, self._max_turns = tool_choice, max_turns
        self.on_call, self.raise_errors = on_call, raise_errors
        names = [each.name if isinstance(each, Tool) else _name(each) for each in _checked(tools)]
        doubled = next((name for name in names if name and names.count(name) > 1), None)
        if doubled:
            raise ConfigError(f"two tools are called {doubled!r}")
        self.tools = {each.name: each for each in tools if isinstance(each, Tool)}
        self._others = {*names} - self.tools.keys()

    def refuse_coroutines(self) -> None:
        """Raises ConfigError for a tool that has to be awaited."""
        for tool in self.tools.values():
            if tool.is_async:
                raise ConfigError(
                    f"{tool.name} is a coroutine function, which a Client cannot await", hint="Use an AsyncClient."
                )

    def steps(self) -> Generator[AskModel | CallTools, Any, ToolRun]:
        """Raises TooManyTurnsError."""
        messages, choice = list(self._messages), self._choice
        usages: list[Usage | None] = []
        for turn in range(1, self._max_turns + 1):
            reply: Reply = yield AskModel(list(messages), choice)
            usages.append(reply.usage)
            messages.append(reply.message)
            pending = tuple(call for call in reply.tool_calls if call.name in self._others)
            ours = tuple(
                PendingCall(call, self.tools.get(call.name)) for call in reply.tool_calls if call not in pending
            )
            if ours and turn == self._max_turns:
                raise self._too_many(reply, messages)
            if ours:
                texts = yield CallTools(ours)
                messages += [_result(each.call, text) for each, text in zip(ours, texts, strict=True)]
            if pending or not ours:
                break
            choice = choice if choice in _OPEN_CHOICES else None  # a call that is demanded each time would never end
        return ToolRun(reply, messages, turn, total(usages), pending)

    def _too_many(self, reply: Reply, messages: list[Message]) -> TooManyTurnsError:
        names = ", ".join(dict.fromkeys(call.name for call in reply.tool_calls))
        error = TooManyTurnsError(
            f"the model was asked {self._max_turns} times and still calls tools: {names:.200}",
            provider=reply.provider,
            hint="max_turns allows more; error.messages has the conversation, whose last calls were not made.",
        )
        error.partial, error.messages = reply, messages
        return error

    # -------------------------------------------------------------- one call

    def told(self, pending: PendingCall) -> AbstractContextManager[None]:
        """The tool is run within it, so that hooks are told."""
        call = pending.call
        return self.hooks.tool(call.name, call.id) if self.hooks is not None else nullcontext()

    def begun(self, pending: PendingCall) -> tuple[Tool, dict[str, Any]] | str:
        """The tool and its arguments; or what to tell the model of a call that cannot be made."""
        call, tool = pending.call, pending.tool
        if tool is None:
            return f"There is no tool {call.name!r}. The tools are: {', '.join(self.tools) or 'none'}."
        try:
            return tool, tool.arguments(call.arguments)
        except UnfitValueError as unfit:
            return f"The arguments of {call.name} do not fit: {unfit}. The call was not made."

    @staticmethod
    def failed(pending: PendingCall, error: Exception) -> str:
        """What to tell the model of a tool that raised an exception."""
        return f"{pending.call.name} failed: {type(error).__name__}: {error}"


def _checked(tools: Any) -> Sequence[Mapping[str, Any]]:
    arguments.tools(tools)
    if not tools:
        raise ConfigError("run_tools needs tools", hint="For an answer without tools: chat.")
    listed: Sequence[Mapping[str, Any]] = tools
    return listed


def _name(definition: Mapping[str, Any]) -> str:
    """The name of a definition of any type: under `function`, under the key of its type, or beside it."""
    inner = definition.get(str(definition.get("type")))
    return str((inner if isinstance(inner, Mapping) else definition).get("name") or "")


def _result(call: ToolCall, text: str) -> Message:
    return {"role": "tool", "tool_call_id": call.id, "content": text}


def text_of_result(value: Any) -> str:
    """What a tool gave, for the model: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """A value that JSON has no form for: what the usual classes are made of, and the text of all others."""
    if hasattr(value, "model_dump"):  # of pydantic
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, set | frozenset) else str(value)


# ------------------------------------------------------------------ what a driver does


def call_tool(loop: ToolLoop, pending: PendingCall) -> str:
    """The text of a result, of a tool that is called here and now."""
    begun = loop.begun(pending)
    if isinstance(begun, str):
        return begun
    tool, given = begun
    instead = loop.on_call(pending.call, given) if loop.on_call else None
    if isinstance(instead, str):
        return instead
    try:
        with loop.told(pending):
            return text_of_result(tool.function(**given))
    except Exception as error:
        if loop.raise_errors:
            raise
        return loop.failed(pending, error)


async def call_tools_async(loop: ToolLoop, calls: Sequence[PendingCall]) -> list[str]:
    """The texts of results in the order of the calls, of tools that run at the same time; plain functions run in threads."""
    import asyncio

    free = asyncio.Semaphore(AT_ONCE)

    async def called(pending: PendingCall) -> str:
        async with free:
            return await _call_async(loop, pending)

    tasks = [asyncio.ensure_future(called(pending)) for pending in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _call_async(loop: ToolLoop, pending: PendingCall) -> str:
    import asyncio
    import inspect

    begun = loop.begun(pending)
    if isinstance(begun, str):
        return begun
    tool, given = begun
    instead = loop.on_call(pending.call, given) if loop.on_call else None
    if inspect.isawaitable(instead):
        instead = await instead
    if isinstance(instead, str):
        return instead
    try:
        with loop.told(pending):
            value = await tool.function(**given) if tool.is_async else await asyncio.to_thread(tool.function, **given)
            return text_of_result(value)
    except Exception as error:
        if loop.raise_errors:
            raise
        return loop.failed(pending, error)
