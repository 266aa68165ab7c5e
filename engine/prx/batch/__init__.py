"""Many calls: rows in, one result for each, within what each account allows; as iterators, or from file to file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prx.batch.worker import Worker

__all__ = ("Worker",)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'prx.batch' has no attribute {name!r}")
    return getattr(import_module("prx.batch.worker"), name)  # a batch from file to file needs none
