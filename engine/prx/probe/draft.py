"""The draft of a provider's file: what is known so far, as the mapping that will be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Draft:
    """A draft and the base URL at which it is tried. raw: the file's mapping, without base_url."""

    id: str
    base_url: str
    raw: Mapping[str, Any]

    @staticmethod
    def of(name: str, dialect: str, base_url: str, auth: Mapping[str, Any], endpoint: str = "") -> Draft:
        """A new draft. endpoint: the path of a chat below the base URL, "" for the dialect's own."""
        paths = {"endpoints": {"chat": endpoint}} if endpoint else {}
        return Draft(name, base_url, {"spec": 1, "id": name, "extends": dialect, "auth": dict(auth), **paths})

    @property
    def auth(self) -> dict[str, Any]:
        return dict(self.raw["auth"])

    def over(self, overlay: Mapping[str, Any]) -> Draft:
        """The draft with an overlay merged over it."""
        return replace(self, raw=lay(self.raw, overlay))

    def speaking(self, dialect: str) -> Draft:
        """A new draft with the same base URL and auth in another dialect, without anything else that was learned."""
        return Draft.of(self.id, dialect, self.base_url, self.auth)

    def with_auth(self, auth: Mapping[str, Any]) -> Draft:
        return replace(self, raw={**self.raw, "auth": dict(auth)})


def lay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` merged on top of `base`. Nulls are kept, unlike in resolve.merge: in a file they remove inherited keys."""
    laid = dict(base)
    for key, value in over.items():
        below = laid.get(key)
        laid[key] = lay(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return laid
