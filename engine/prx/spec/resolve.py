"""Inheritance: merges a file with what it extends and with its overlays into one plain mapping.

`merge` is used for all of them: `extends`, overrides by model, fallbacks, and the settings of config.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from prx.spec.document import Keys

Raw = dict[str, Any]
Find = Callable[[str], Raw]

# Keys that belong to the provider and not to the dialect that it speaks: they stay when an overlay changes the dialect.
OWN = (
    "spec", "id", "name", "docs", "telemetry_name", "source", "former_urls", "retired", "aliases", "base_url", "auth", "capabilities", "evidence",
    "retry", "transport",
)  # fmt: skip
_FILES_OWN = (
    "aliases",
    "former_urls",
    "retired",
    "source",
    "name",
    "docs",
    "telemetry_name",
    "evidence",
    "serve",
)  # never inherited
OWN_REQUEST = ("headers", "query", "schemas")
_ADDED = ("strip",)  # lists that extend the inherited one: kept as mappings from a name to whether it counts
PART = "without_"  # how the name of a fallback begins that leaves out one parameter or key: without_NAME
_WAYS = ("then", "leaves_out", "strips")  # keys of a fallback, of which it has exactly one
# Taken over whole, with their nulls: a fallback's overlay, which is merged only when the fallback is used; and how a dialect is
# served, which no other file inherits, and whose templates have nulls of their own.
_WHOLE = ("then", "serve")
_ROOT = "dialect"  # key of a resolved mapping: the id of the dialect that its chain of `extends` ends in
# Keys of a resolved mapping: whether it makes the same bodies of calls as its dialect does, and reads answers in the same way.
_PLAIN, _READS_PLAINLY = "plain", "reads_plainly"
# Key of a resolved mapping: {kind of call that a file below the dialect names: whether it asks or reads it in another way}.
_OWN_CALLS = "own_calls"
_NOT_BODY = ("headers", "query")  # keys of `request` that change no body
# Keys of a row of `calls` that change neither its bodies nor its answers.
_NOT_SHAPE = ("endpoint", "most", "most_tokens")
_READING = ("response", "stream")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Raw:
    """`over` on top of `base`: mappings are merged, null removes a key, every other value replaces.

    The keys of `over` come first: rules and fallbacks are tried in the order of their keys.
    """
    merged: Raw = {}
    for key, given in over.items():
        below = base.get(key)
        if given is None:
            continue
        value = dict.fromkeys(given, True) if key in _ADDED and isinstance(given, list) else given
        joins = isinstance(value, dict) and key not in _WHOLE
        merged[key] = merge(below if isinstance(below, dict) else {}, value) if joins else value
    replaced = () if over.keys().isdisjoint(_WAYS) else _WAYS
    merged.update({key: value for key, value in base.items() if key not in over and key not in replaced})
    return merged


def resolve(raw: Raw, find: Find, *, is_dialect: bool = False) -> Raw:
    """A file's mapping merged with everything it extends. `find` gives a resolved mapping by its name."""
    base = find(raw["extends"]) if raw.get("extends") else {}
    inherited = {key: value for key, value in base.items() if key not in _FILES_OWN}
    resolved = merge(inherited, raw)
    resolved[_PLAIN] = is_dialect or (base.get(_PLAIN, False) and not _reshapes(raw))
    resolved[_READS_PLAINLY] = is_dialect or (base.get(_READS_PLAINLY, False) and raw.keys().isdisjoint(_READING))
    resolved[_OWN_CALLS] = {} if is_dialect else _own_calls(base.get(_OWN_CALLS, {}), raw)
    resolved[_ROOT] = raw["id"] if is_dialect else base.get(_ROOT, raw.get("id", ""))
    return resolved


def lay_over(resolved: Raw, overlay: Mapping[str, Any], find: Find) -> Raw:
    """A resolved mapping merged with an overlay; `extends` in the overlay replaces the dialect."""
    rest = {key: value for key, value in overlay.items() if key not in ("extends", "model")}
    dialect = overlay.get("extends")
    if dialect and dialect != resolved.get(_ROOT):
        own = {key: resolved[key] for key in OWN if key in resolved}
        request = {key: value for key, value in resolved.get("request", {}).items() if key in OWN_REQUEST}
        base = find(dialect)
        rows = _fallbacks(resolved.get("fallbacks", {}), base.get("fallbacks", {}))
        plain = base.get(_PLAIN, False) and not _reshapes({"request": request})
        merged = merge(base, {**own, "request": request})
        own_calls = base.get(_OWN_CALLS, {})
        resolved = {**merged, "fallbacks": rows, _ROOT: base[_ROOT], _PLAIN: plain, _OWN_CALLS: own_calls}
    reads_plainly = resolved.get(_READS_PLAINLY, False) and rest.keys().isdisjoint(_READING)
    plain = resolved.get(_PLAIN, False) and not _reshapes(rest)
    own_calls = _own_calls(resolved.get(_OWN_CALLS, {}), rest)
    return {**merge(resolved, rest), _PLAIN: plain, _READS_PLAINLY: reads_plainly, _OWN_CALLS: own_calls}


def _reshapes(raw: Mapping[str, Any]) -> bool:
    """Whether a mapping has anything by which the body of a call would differ from its dialect's."""
    return not set(raw.get("request") or ()).issubset(_NOT_BODY)


def _own_calls(before: Mapping[str, bool], raw: Mapping[str, Any]) -> dict[str, bool]:
    """The kinds of call that files have named so far, with those that a further mapping names."""
    rows = {kind: row for kind, row in (raw.get("calls") or {}).items() if row is not None}
    return {
        **before,
        **{kind: before.get(kind, False) or not row.keys() <= {*_NOT_SHAPE} for kind, row in rows.items()},
    }


def _fallbacks(own: Mapping[str, Any], base: Mapping[str, Any]) -> Raw:
    """The fallbacks of another dialect, with the provider's own values of `enabled`; none if the provider has none."""
    used = {name: {"enabled": row["enabled"]} for name, row in own.items() if "enabled" in row and name in base}
    return merge(base, used) if own else {}


def overlays(raw: Mapping[str, Any]) -> Iterator[tuple[Keys, Mapping[str, Any]]]:
    """(path, overlay) of everything that may be laid over a mapping: each override, and the `then` of each fallback."""
    for place, row in enumerate(raw.get("overrides") or ()):
        yield ("overrides", place), row
    for name, row in (raw.get("fallbacks") or {}).items():
        if changes := then(row):
            yield ("fallbacks", name, "then"), changes


def then(fallback: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The overlay of a fallback; {} for one that a file has set to null to remove it."""
    return (fallback or {}).get("then") or {}


def by_name(rows: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The overlay of the fallback with this name: the `then` of its row, or one that leaves out a parameter or key."""
    if name in rows:
        return then(rows[name])
    left_out = name.removeprefix(PART)
    row = next(
        row for row in rows.values() if left_out in row.get("leaves_out", ()) or left_out in row.get("strips", ())
    )
    if left_out in row.get("leaves_out", ()):
        return {"request": {"parameters": {left_out: {"drop": True}}}}
    return {"request": {"strip": {left_out: True}}}


def overlay_names(raw: Mapping[str, Any]) -> list[str]:
    """The names that a mapping's overrides and fallbacks extend."""
    return [overlay["extends"] for _, overlay in overlays(raw) if overlay.get("extends")]


def fits(patterns: str | Iterable[str], model: str) -> bool:
    """Whether a model's name fits a pattern of an override, or one of several."""
    return any(fnmatchcase(model, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))


def for_model(resolved: Raw, model: str, find: Find) -> Raw:
    """A resolved mapping with every override whose pattern fits the model."""
    for row in resolved.get("overrides") or ():
        if fits(row["model"], model):
            resolved = lay_over(resolved, row, find)
    return resolved
