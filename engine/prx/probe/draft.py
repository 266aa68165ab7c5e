"""A provider's file on the way: what is known so far, as the mapping that will be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Draft:
    """A file and where it is tried. raw: the file without its address."""

    id: str
    base_url: str
    raw: Mapping[str, Any]

    @staticmethod
    def of(name: str, dialect: str, base_url: str, auth: Mapping[str, Any]) -> Draft:
        return Draft(name, base_url, {"spec": 1, "id": name, "extends": dialect, "auth": dict(auth)})

    @property
    def auth(self) -> dict[str, Any]:
        return dict(self.raw["auth"])

    def over(self, overlay: Mapping[str, Any]) -> Draft:
        """With an overlay's keys in place of its own."""
        return replace(self, raw=lay(self.raw, overlay))

    def speaking(self, dialect: str) -> Draft:
        """The same place and key, in another dialect, and with nothing else that was learned of this one."""
        return Draft.of(self.id, dialect, self.base_url, self.auth)

    def with_auth(self, auth: Mapping[str, Any]) -> Draft:
        return replace(self, raw={**self.raw, "auth": dict(auth)})


def lay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, its nulls kept: in the file they take away what is inherited."""
    laid = dict(base)
    for key, value in over.items():
        below = laid.get(key)
        laid[key] = lay(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return laid
