"""What the child of a fork has to renew: locks, since one that another thread of the parent holds is never released in the
child; and connections, since parent and child would each miss what the other reads from a shared one.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at import, creating a Protocol class takes longer than the rest of this module
    from typing import Protocol

    class HasLocks(Protocol):
        def unlock(self) -> None:
            """Make new locks, and drop the parent's connections."""


_all: weakref.WeakSet[HasLocks] = weakref.WeakSet()
# How many forks lie between this process and the first one. A connection of another generation belongs to the parent.
generation = 0


def register(holder: HasLocks) -> None:
    """Call `unlock` of this object in every child."""
    _all.add(holder)


def _in_child() -> None:
    global generation  # noqa: PLW0603 - a process has one
    generation += 1
    for holder in list(_all):
        holder.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
