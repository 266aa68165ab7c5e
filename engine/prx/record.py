"""Immutable values with named fields, compared by their fields, and cheap to import.

Alternatives: a frozen dataclass generates and compiles six methods when its class is made, a NamedTuple two; for thirty
classes that takes longer than the rest of `import prx`. A Record compiles nothing; type checkers treat it as a dataclass. The few classes of which
every call makes a value are declared `often=True`: for them a constructor is generated, which is twice as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class Record:
    """The fields are the annotations of the class and of its bases, in order; a value beside an annotation is the default."""

    _fields: ClassVar[tuple[str, ...]] = ()
    _known: ClassVar[frozenset[str]] = frozenset()
    _needed: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, *, often: bool = False) -> None:
        super().__init_subclass__()
        cls._fields = (*cls._fields, *cls.__annotations__)
        cls._known = frozenset(cls._fields)
        cls._needed = frozenset(name for name in cls._fields if not hasattr(cls, name))
        if often:
            cls.__init__ = _constructor(cls)  # type: ignore[method-assign]

    def __init__(self, *args: Any, **named: Any) -> None:
        values, fields = self.__dict__, self._fields
        values.update(zip(fields, args, strict=False))
        if not named and len(args) == len(fields):
            return
        values.update(named)
        fits = self._needed <= values.keys() <= self._known and len(values) == len(args) + len(named)
        if not fits or len(args) > len(fields):
            raise TypeError(f"{type(self).__name__} requires {sorted(self._needed)} and takes {sorted(self._known)}")

    def _replace(self, **named: Any) -> Self:
        """A copy with some fields changed."""
        known, copy = self._known, object.__new__(type(self))
        if not named.keys() <= known:
            raise TypeError(f"{type(self).__name__} has no {min(named.keys() - known)!r}; it takes {sorted(known)}")
        # Beside the fields stand cached properties, which may follow from what is changed.
        copy.__dict__.update([(name, value) for name, value in self.__dict__.items() if name in known], **named)
        return copy

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"


def _constructor(cls: type[Record]) -> Callable[..., None]:
    """An `__init__` with one parameter for each field of a class, compiled from source."""
    defaults = {f"default_{name}": getattr(cls, name) for name in cls._fields if name not in cls._needed}
    parameters = [name if name in cls._needed else f"{name}=default_{name}" for name in cls._fields]
    lines = [f"def __init__(self, {', '.join(parameters)}):", "values = self.__dict__"]
    for name in cls._fields:
        own = isinstance(defaults.get(f"default_{name}"), dict)  # a dict may be changed, so each record gets its own
        lines.append(f"values[{name!r}] = {name}" + (f".copy() if {name} is default_{name} else {name}" if own else ""))
    namespace: dict[str, Any] = {}
    exec("\n ".join(lines), defaults, namespace)  # noqa: S102 - of a source that is written above, from names of fields
    constructor: Callable[..., None] = namespace["__init__"]
    return constructor
