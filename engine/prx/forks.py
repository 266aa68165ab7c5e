"""After a fork: a lock that another thread of the parent had would never be free again in the child."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # to make a protocol costs more than the rest of this
    from typing import Protocol

    class HasLocks(Protocol):
        def unlock(self) -> None:
            """Have new locks."""


_all: weakref.WeakSet[HasLocks] = weakref.WeakSet()


def register(one: HasLocks) -> None:
    """Have its locks made anew in every child."""
    _all.add(one)


def _in_child() -> None:
    for one in list(_all):
        one.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
