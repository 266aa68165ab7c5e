"""A function as a tool: its definition for a model, and its arguments from the JSON that the model wrote."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, overload

from prx.errors import ConfigError
from prx.typed import hints
from prx.typed.docstrings import described
from prx.typed.hints import NEEDED, Member, bare, note
from prx.typed.schema import Json, schema_of_members
from prx.typed.schema import strict as closed
from prx.typed.values import UnfitValueError, members_of

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Tool(Mapping[str, Any]):
    """A tool that was made of a function: a definition as `tools` takes it, which can also be called, as the function.

    name, description, parameters   as the model is told; parameters: a JSON Schema
    function                        what it was made of
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        description: str | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """strict: the model is held to the schema, which requires every parameter. Raises ConfigError."""
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"a tool is made of a function, not of {function!r:.80}")
        texts = described(hints.own_docstring(function))
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        self.description = texts.text if description is None else description
        self.members = _members(function, self.name, texts.of)
        schema = {"properties": {}, **schema_of_members(self.name, self.members)}
        self.parameters = _strict(self.name, schema) if strict else schema
        told = {"description": self.description} if self.description else {}
        held = {"strict": True} if strict else {}
        self._definition: Json = {
            "type": "function",
            "function": {"name": self.name, **told, "parameters": self.parameters, **held},
        }

    @property
    def is_async(self) -> bool:
        """Whether its function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004 - of an object that is called as a function
        )

    def arguments(self, text: str) -> dict[str, Any]:
        """The arguments of a call, by name, each of its type. Raises UnfitValueError for what does not fit."""
        try:
            found = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            raise UnfitValueError("", f"they are no JSON: {error}") from None
        return members_of(self.members, found, closed=True)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.function(*args, **named)

    def __getitem__(self, key: str) -> Any:
        return self._definition[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._definition)

    def __len__(self) -> int:
        return len(self._definition)

    def __repr__(self) -> str:
        return f"Tool({self.name}({', '.join(member.name for member in self.members)}))"


@overload
def tool(
    function: Callable[..., Any], *, name: str | None = None, description: str | None = None, strict: bool = False
) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, strict: bool = False
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool = False,
) -> Any:
    """A Tool of a function, for `tools=[…]`; also as a decorator, with or without options.

    Its parameters' types make the schema; its docstring says what it does, and what each parameter is, as `Annotated` does.
    strict: providers hold the model to the schema, which requires every parameter then. Raises ConfigError.
    """
    if function is None:
        return lambda given: Tool(given, name, description, strict=strict)
    return Tool(function, name, description, strict=strict)


def _members(function: Callable[..., Any], name: str, texts: Mapping[str, str]) -> tuple[Member, ...]:
    named = function if hasattr(function, "__name__") else type(function).__call__
    types = hints.hints_of(named)
    made = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in _NAMED:
            _refuse(name, parameter)
        hint = types.get(parameter.name, Any)
        default = NEEDED if parameter.default is parameter.empty else parameter.default
        made.append(Member(parameter.name, bare(hint), note(hint) or texts.get(parameter.name, ""), default))
    return tuple(made)


def _refuse(name: str, parameter: inspect.Parameter) -> NoReturn:
    raise ConfigError(
        f"{name}: a model cannot give {parameter}: it gives arguments by their names, which a schema lists"
    )


def _strict(name: str, schema: Json) -> Json:
    made = closed(schema)
    if made is None:
        raise ConfigError(
            f"{name}: strict=True is not possible: a parameter is a dict, an Any or a tuple of different types",
            hint="Leave strict out, or say which keys there are with a dataclass or a TypedDict.",
        )
    return made
