"""Whether a JSON value is of a type, strictly and to its depths: TypedDicts, pydantic models and plain annotations.

pydantic itself validates an Iterable when somebody reads it, ignores keys that it does not know, and turns
"1" into 1. A request that a server refuses for such a thing passes there; here it does not.
"""

from __future__ import annotations

import base64
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Literal, NamedTuple, Union

import pydantic
import typing_extensions

STANDS_FOR: dict[Any, Any] = {}  # a class that writes itself as something else -> what it writes
_WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired, typing_extensions.Required)
_WRAPPERS += (typing_extensions.NotRequired, typing_extensions.ReadOnly)
_UNIONS = (Union, types.UnionType)
_PLAIN: dict[Any, Any] = {
    str: str,
    int: int,
    float: (int, float),
    type(None): type(None),
    object: object,
    dict: dict,
    Mapping: dict,
    list: list,
    Sequence: list,
    Iterable: list,
}


class Problem(NamedTuple):
    """Where in a body (`messages[0].content`), and what about it."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path or 'body'}: {self.what}"


def problems(value: Any, shape: Any, path: str = "") -> list[Problem]:
    """All that keeps a JSON value from being of a type. A union answers for its nearest branch."""
    shape = _bare(shape)
    if _origin(shape) in _UNIONS:
        return _nearest(value, _branches(shape), path)
    known = fields(shape)
    if known is not None and isinstance(value, dict):
        return list(_in_fields(value, known, path))
    if known is None and _fits(value, shape):
        return [
            problem for place, item, inner in _items(value, shape) for problem in problems(item, inner, path + place)
        ]
    name = shape.__name__ if isinstance(shape, type) else str(shape).replace("typing.", "")
    return [Problem(path, f"{str(value)[:60]!r} is no {name[:120]}")]


def _bare(shape: Any) -> Any:
    """A type without Required[…], Annotated[…] and the like around it, and without what only stands for it."""
    while _origin(shape) in _WRAPPERS:
        shape = typing_extensions.get_args(shape)[0]
    return STANDS_FOR.get(shape, shape) if isinstance(shape, type) else shape


def _origin(shape: Any) -> Any:
    return typing_extensions.get_origin(shape)


def _items(value: Any, shape: Any) -> list[tuple[str, Any, Any]]:
    """[(path from here, item, its type), …] of a list or mapping."""
    inner = typing_extensions.get_args(shape)[-1:]
    if not inner or _origin(shape) is Literal:
        return []
    if isinstance(value, dict):
        return [(f".{key}", item, inner[0]) for key, item in value.items()]
    return [(f"[{place}]", item, inner[0]) for place, item in enumerate(value)]


def _fits(value: Any, shape: Any) -> bool:
    """Whether a value is of a type, whatever is in it."""
    base = _origin(shape) or shape
    if base is Literal:
        return any(value == each and type(value) is type(each) for each in typing_extensions.get_args(shape))
    if base is bytes:
        return isinstance(value, str) and _is_base64(value)
    if isinstance(base, type) and issubclass(base, Enum):
        return isinstance(value, str) and value.upper() in {str(each.value).upper() for each in base}
    if isinstance(value, bool):
        return base in (bool, object, Any)
    return base is Any or isinstance(value, _PLAIN.get(base, ()))


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        return False
    return True


@cache
def fields(shape: Any) -> dict[str, tuple[Any, bool]] | None:
    """{name on the wire: (annotation, required)} of a TypedDict or a pydantic model; None of any other type."""
    if typing_extensions.is_typeddict(shape):
        hints = typing_extensions.get_type_hints(shape, include_extras=True)
        return {name: (hint, _is_required(hint, name in shape.__required_keys__)) for name, hint in hints.items()}
    if isinstance(shape, type) and issubclass(shape, pydantic.BaseModel):
        # A tag has a default in the class, yet it is by its tag that a server knows an object.
        return {
            field.alias or name: (field.annotation, field.is_required() or _origin(field.annotation) is Literal)
            for name, field in shape.model_fields.items()
        }
    return None


def _is_required(hint: Any, default: bool) -> bool:
    while _origin(hint) in _WRAPPERS:
        if _origin(hint) is not typing.Annotated:
            return _origin(hint) in (typing.Required, typing_extensions.Required)
        hint = typing_extensions.get_args(hint)[0]
    return default


def _in_fields(value: dict[str, Any], known: dict[str, tuple[Any, bool]], path: str) -> Iterator[Problem]:
    for name, (annotation, required) in known.items():
        if name in value:
            yield from problems(value[name], annotation, f"{path}.{name}".lstrip("."))
        elif required:
            yield Problem(path, f"lacks {name!r}")
    for name in sorted(value.keys() - known.keys()):
        yield Problem(f"{path}.{name}".lstrip("."), "no such field")


def _branches(union: Any) -> list[Any]:
    """A union's alternatives, without those that are there for a caller's comfort: response models beside
    TypedDicts, anything beside named words, any mapping beside a model.
    """
    bare = [_bare(each) for each in typing_extensions.get_args(union)]
    flat = [inner for each in bare for inner in (_branches(each) if _origin(each) in _UNIONS else [each])]
    typed = any(typing_extensions.is_typeddict(each) for each in flat)
    closed = typed or any(fields(each) or _origin(each) is Literal for each in flat)
    models = [each for each in flat if not typing_extensions.is_typeddict(each) and fields(each) is not None]
    return [
        each
        for each in flat
        if not (typed and each in models) and not (closed and each is Any) and not (models and _origin(each) is Mapping)
    ]


def _nearest(value: Any, branches: list[Any], path: str) -> list[Problem]:
    found = [problems(value, branch, path) for branch in branches]
    tags = {f"{path}.{tag}".lstrip(".") for tag in ("type", "role")} | {path}

    def distance(branch: list[Problem]) -> tuple[bool, int]:
        return any(each.path in tags and not each.what.startswith("lacks") for each in branch), len(branch)

    return min(found, key=distance, default=[])
