"""Files read fast and without checks: packaged ones, and what others say of themselves to their neighbours."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from prx.errors import starved
from prx.spec.files import data_of
from prx.spec.resolve import Raw

_MAX_DEPTH = 100  # libyaml's composer calls itself at each level, and a stack that is used up ends the process


def key_names(raw: Raw) -> list[str]:
    """The environment variables that a file's mapping names for its key."""
    names = (raw.get("auth") or {}).get("env") or []
    return [names] if isinstance(names, str) else list(names)


def parsed(data: bytes) -> Any:
    """The value of a YAML text, by libyaml where it is there. Raises ValueError, or whatever YAML raises."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(data, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            raise ValueError("nested too deep, or an alias")
    return yaml.load(data, Loader=loader)  # noqa: S506 - both are safe loaders


def glance(path: Path, take: Callable[[Path], bytes] = data_of) -> Raw:
    """A file's mapping, read fast and without checks; empty where it cannot be read. `take` gives its bytes."""
    try:
        return mapping(take(path))
    except OSError as error:
        if starved(error):
            raise
        return {}


@lru_cache(maxsize=256)
def mapping(data: bytes) -> Raw:
    """The mapping that is in a file's bytes. Nobody changes it."""
    return read(data)


def read(data: bytes) -> Raw:
    """As `mapping`, for who keeps it: a file that changes often would fill the memory with what it was."""
    try:
        raw = parsed(data)
    except Exception as error:  # a tag that its constructor stumbles over raises whatever Python raises there
        if starved(error):
            raise
        return {}
    return _tidy(raw) if isinstance(raw, dict) else {}


def _tidy(raw: Raw) -> Raw:
    """Without what is not of its type among the keys that one file's neighbours look at."""
    for key in ("aliases", "former_urls"):
        if not isinstance(raw.get(key, []), list) or not all(isinstance(item, str) for item in raw.get(key, [])):
            del raw[key]
    if not isinstance(raw.get("base_url", ""), str):
        del raw["base_url"]
    return raw
