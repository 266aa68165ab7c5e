"""After a fork. A lock that another thread of the parent had would never be free again in the child; and what one of the
two reads of a connection that both have, the other will miss, so the child lets go of all of them.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # to make a protocol costs more than the rest of this
    from typing import Protocol

    class HasLocks(Protocol):
        def unlock(self) -> None:
            """Have new locks, and nothing that is the parent's."""


_all: weakref.WeakSet[HasLocks] = weakref.WeakSet()
# How many forks lie between this process and the first one: what was made in an earlier one is the parent's.
generation = 0


def register(one: HasLocks) -> None:
    """Have its locks made anew in every child."""
    _all.add(one)


def _in_child() -> None:
    global generation  # noqa: PLW0603 - a process has one
    generation += 1
    for one in list(_all):
        one.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
