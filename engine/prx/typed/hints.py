"""What Python's own types say: the fields of a class, the members of a union, what is written beside a type.

pydantic's classes are recognised by what they have, and pydantic is imported only for one of them.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from prx.errors import ConfigError
from prx.record import Record
from prx.typed.docstrings import described

NEEDED = object()  # the default of a field that has none
UNIONS = (Union, types.UnionType)


class Member(Record):
    """A field of a class, or a parameter of a function. default: NEEDED where there is none, a value or a function otherwise."""

    name: str
    hint: Any
    description: str = ""
    default: Any = NEEDED


def is_pydantic(hint: Any) -> bool:
    return isinstance(hint, type) and hasattr(hint, "__pydantic_validator__")


def adapter(hint: Any) -> Any:
    """What pydantic makes schemas and values of one of its classes with."""
    return import_module("pydantic").TypeAdapter(hint)


def is_class_with_members(hint: Any) -> bool:
    """Whether a type is a dataclass, a TypedDict or a NamedTuple."""
    return isinstance(hint, type) and (
        dataclasses.is_dataclass(hint) or is_typeddict(hint) or (issubclass(hint, tuple) and hasattr(hint, "_fields"))
    )


def members(cls: Any) -> tuple[Member, ...]:
    """The fields of a dataclass, a TypedDict or a NamedTuple. Raises ConfigError."""
    hints, texts = hints_of(cls), described(own_docstring(cls))
    rows: Mapping[str, tuple[Any, str]] = dict.fromkeys(hints, (NEEDED, ""))
    if dataclasses.is_dataclass(cls):
        rows = {
            field.name: (_default(field), field.metadata.get("description", ""))
            for field in dataclasses.fields(cls)
            if field.init
        }
    elif not is_typeddict(cls):
        rows = {name: (cls._field_defaults.get(name, NEEDED), "") for name in cls._fields}
    elif is_typeddict(cls):
        rows = {name: (NEEDED if _is_required(cls, name, hint) else None, "") for name, hint in hints.items()}
    return tuple(
        Member(name, bare(hints[name]), text or note(hints[name]) or texts.of.get(name, ""), default)
        for name, (default, text) in rows.items()
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    missing = dataclasses.MISSING
    return NEEDED if field.default is missing and field.default_factory is missing else field.default


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    return get_origin(hint) is Required or (name in cls.__required_keys__ and get_origin(hint) is not NotRequired)


def hints_of(owner: Any) -> dict[str, Any]:
    """The types that a class or a function names. Raises ConfigError."""
    try:
        return get_type_hints(owner, localns={owner.__name__: owner}, include_extras=True)
    except Exception as error:  # whatever the program's own annotations raise
        raise ConfigError(
            f"{owner.__name__}: its types cannot be read: {error}",
            hint="Types that are named in quotes, or under `from __future__ import annotations`, must stand at the top of their module.",
        ) from None


def bare(hint: Any) -> Any:
    """A type without Annotated, Required, NotRequired, and without the name that was given to it."""
    while True:
        if get_origin(hint) in (Annotated, Required, NotRequired):
            hint = get_args(hint)[0]
        elif hasattr(hint, "__value__"):  # `type Name = …`
            hint = hint.__value__
        elif hasattr(hint, "__supertype__"):  # NewType
            hint = hint.__supertype__
        else:
            return hint


def takes_null(hint: Any) -> bool:
    return hint in (None, type(None), Any, object) or type(None) in get_args(hint)


def note(hint: Any) -> str:
    """The first text that Annotated has beside a type."""
    while get_origin(hint) in (Required, NotRequired):
        hint = get_args(hint)[0]
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    texts = (extra if isinstance(extra, str) else getattr(extra, "description", None) for extra in extras)
    return next((text for text in texts if isinstance(text, str)), "")


def own_docstring(owner: Any) -> str:
    """The docstring of a class or a function; of a dataclass without one Python writes the signature, which is left out."""
    text = vars(owner).get("__doc__") if isinstance(owner, type) else owner.__doc__
    made = isinstance(owner, type) and (str(text).startswith(f"{owner.__name__}("))
    return "" if made or not isinstance(text, str) else text


def name_of(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
