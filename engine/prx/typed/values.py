"""From a value of JSON to a value of a type, with the place of the first thing that does not fit."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, get_args, get_origin, is_typeddict

from prx.typed import hints
from prx.typed.hints import NEEDED, Member, bare, name_of
from prx.typed.schema import LISTS, MAPPINGS, SETS


class UnfitValueError(Exception):
    """A value that is not of its type. path: where it stands; sentence: what it must be."""

    def __init__(self, path: str, sentence: str) -> None:
        self.path, self.sentence = path, sentence
        super().__init__(f"{path}: {sentence}" if path else sentence)


def value_of(hint: Any, value: Any, path: str = "") -> Any:
    """The value as one of this type. Raises UnfitValueError."""
    hint = bare(hint)
    if hint in (Any, object):
        return value
    if hints.is_pydantic(hint):
        return _of_pydantic(hint, value, path)
    if hints.is_class_with_members(hint):
        return _of_class(hint, value, path)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _of_enum(hint, value, path)
    atom = _ATOMS.get(hint) if isinstance(hint, Hashable) else None
    if atom is not None:
        return _atom(hint, value, path, *atom)
    origin = get_origin(hint) or hint
    make = next(make for kinds, make in _CONTAINERS if origin in kinds)
    return make(get_args(hint), value, path)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _atom(
    hint: Any, value: Any, path: str, types: tuple[type, ...], words: str, make: Callable[[Any], Any] | None
) -> Any:
    if type(value) not in types or (hint is int and type(value) is float and not value.is_integer()):
        raise UnfitValueError(path, f"must be {words}, not {_short(value)}")
    try:
        return make(value) if make else value
    except ValueError:
        raise UnfitValueError(path, f"must be {words}, not {_short(value)}") from None


# {type: (its types in JSON, what it is called, what makes it)}
_ATOMS: Mapping[Any, tuple[tuple[type, ...], str, Callable[[Any], Any] | None]] = {
    str: ((str,), "a text", None),
    int: ((int, float), "a whole number", int),
    float: ((int, float), "a number", float),
    bool: ((bool,), "true or false", None),
    type(None): ((type(None),), "null", None),
    None: ((type(None),), "null", None),
    dt.datetime: ((str,), "a date with a time, such as 2026-01-31T12:00:00Z", dt.datetime.fromisoformat),
    dt.date: ((str,), "a date, such as 2026-01-31", dt.date.fromisoformat),
    dt.time: ((str,), "a time, such as 12:00:00", dt.time.fromisoformat),
    uuid.UUID: ((str,), "a UUID", uuid.UUID),
}


# ------------------------------------------------------------------ classes


def _of_pydantic(cls: Any, value: Any, path: str) -> Any:
    try:
        return hints.adapter(cls).validate_python(value)
    except Exception as error:  # of pydantic, or of the program's own validators
        raise UnfitValueError(*_told(error, path)) from None


def _told(error: Exception, path: str) -> tuple[str, str]:
    """(path, sentence) of the first fault that pydantic found, and how many more there are."""
    listed = error.errors(include_url=False) if hasattr(error, "errors") else []
    if not listed:
        return path, f"is refused: {type(error).__name__}: {error}"
    first, more = listed[0], len(listed) - 1
    at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    return f"{path}{at}".lstrip("."), first["msg"] + (f" (and {more} more)" if more else "")


def _of_class(cls: Any, value: Any, path: str) -> Any:
    given = members_of(hints.members(cls), value, path, nulls_are_missing=is_typeddict(cls))
    try:
        return cls(**given)
    except Exception as error:  # of the program's own __post_init__
        raise UnfitValueError(path, f"is refused by {cls.__name__}: {type(error).__name__}: {error}") from None


def members_of(
    members: tuple[Member, ...], value: Any, path: str = "", *, nulls_are_missing: bool = False, closed: bool = False
) -> dict[str, Any]:
    """The members of an object, each of its type. Raises UnfitValueError.

    nulls_are_missing   null stands for a key that may be missing
    closed              a key that is no member is refused; otherwise it is ignored
    """
    if not isinstance(value, dict):
        raise UnfitValueError(path, f"must be an object, not {_short(value)}")
    names = [member.name for member in members]
    unknown = [name for name in value if name not in names] if closed else []
    if unknown:
        raise UnfitValueError(path, f"{unknown[0]!r:.60} is none of its keys: {', '.join(names) or 'it has none'}")
    made = {}
    for member in members:
        optional = member.default is not NEEDED
        if member.name in value and not (
            optional and nulls_are_missing and value[member.name] is None and not hints.takes_null(member.hint)
        ):
            made[member.name] = value_of(member.hint, value[member.name], f"{path}.{member.name}".lstrip("."))
        elif not optional:
            raise UnfitValueError(path, f"{member.name!r} is missing")
    return made


def _of_enum(cls: type[enum.Enum], value: Any, path: str) -> Any:
    try:
        return cls(value)
    except ValueError:
        known = ", ".join(repr(member.value) for member in cls)
        raise UnfitValueError(path, f"must be one of {known}, not {_short(value)}") from None


# ------------------------------------------------------------------ containers


def _rows(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise UnfitValueError(path, f"must be a list, not {_short(value)}")
    return value


def _list(args: tuple[Any, ...], value: Any, path: str) -> list[Any]:
    hint = args[0] if args else Any
    return [value_of(hint, each, f"{path}[{place}]") for place, each in enumerate(_rows(value, path))]


def _set(args: tuple[Any, ...], value: Any, path: str) -> set[Any]:
    return set(_frozen_set(args, value, path))


def _frozen_set(args: tuple[Any, ...], value: Any, path: str) -> frozenset[Any]:
    rows = _list(args, value, path)
    try:
        return frozenset(rows)
    except TypeError:
        raise UnfitValueError(path, "has elements that cannot be in a set") from None


def _tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not args or args[-1] is ...:
        return tuple(_list(args[:1], value, path))
    rows = _rows(value, path)
    if len(rows) != len(args):
        raise UnfitValueError(path, f"must have {len(args)} elements, not {len(rows)}")
    return tuple(
        value_of(hint, each, f"{path}[{place}]") for place, (hint, each) in enumerate(zip(args, rows, strict=True))
    )


def _mapping(args: tuple[Any, ...], value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnfitValueError(path, f"must be an object, not {_short(value)}")
    hint = args[1] if args else Any
    return {name: value_of(hint, each, f"{path}.{name}".lstrip(".")) for name, each in value.items()}


def _literal(args: tuple[Any, ...], value: Any, path: str) -> Any:
    for known in args:
        plain = known.value if isinstance(known, enum.Enum) else known
        if type(plain) is type(value) and plain == value:
            return known
    raise UnfitValueError(path, f"must be one of {', '.join(map(repr, args))}, not {_short(value)}")


def _union(args: tuple[Any, ...], value: Any, path: str) -> Any:
    """Of the members that take the value, one of its very type before one that it is changed for (1 is an int, and a float)."""
    faults, taken = list[UnfitValueError](), list[Any]()
    for hint in args:
        try:
            taken.append(value_of(hint, value, path))
        except UnfitValueError as fault:
            faults.append(fault)
    if taken:
        return next((each for each in taken if type(each) is type(value)), taken[0])
    deepest = max(faults, key=lambda fault: len(fault.path))
    if deepest.path != path:
        raise deepest
    raise UnfitValueError(path, f"must be {' or '.join(map(name_of, args))}, not {_short(value)}")


_CONTAINERS: tuple[tuple[tuple[Any, ...], Callable[[tuple[Any, ...], Any, str], Any]], ...] = (
    (LISTS, _list),
    ((frozenset,), _frozen_set),
    (SETS, _set),
    ((tuple,), _tuple),
    (MAPPINGS, _mapping),
    ((Literal,), _literal),
    (hints.UNIONS, _union),
)
