"""Checks the arguments of a call before anything is sent; each fault is one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from prx.accounts.choose import ModelRef
from prx.chat import NO_EXTRA, Extra, Message
from prx.errors import ConfigError
from prx.text import one_slip
from prx.wire import FRAMING, header_fault

LONGEST = 1_000_000  # seconds, 11 days; sockets accept at most 24
Messages = str | Iterable[Message]
# Most values of a call are one of these, and to ask whether one is a Mapping, or to call a function for it, takes longer than
# to copy a small dict.
_ATOMS = frozenset({str, int, float, bool, type(None)})

# {name that is not a parameter: what to use instead}; as a parameter it would get into the body a second time.
_TAKEN = {
    "stream": "call stream() for a stream, chat() for a whole answer",
    "stream_options": "the provider's file decides whether a stream reports its usage",
    "model": "use the argument model",
    "messages": "use the argument messages",
    "tools": "use the argument tools",
    "tool_choice": "use the argument tool_choice",
}


def messages(given: Any) -> list[Message]:
    """The messages as a list of dicts; a text becomes one user message. Raises ConfigError."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}] if given.strip() else []
    try:
        listed = list(given)
    except TypeError:
        listed = [None]
    listed_plain = [plain(message) for message in listed]
    if not all(type(message) is dict for message in listed_plain):
        raise ConfigError('messages must be a text, or a list of messages such as {"role": "user", "content": "hello"}')
    refuse_empty(listed)
    return listed_plain


def refuse_empty(listed: Sequence[Message]) -> None:
    """Raise ConfigError where there are no messages."""
    if not listed:
        raise ConfigError("the prompt is empty", hint="Write what to ask.")


def plain(value: Any) -> Any:
    """A value in JSON's types: mappings as dicts, tuples as lists. Formulas recognise no other types."""
    if type(value) in _ATOMS:
        return value
    if type(value) is dict:
        made = value.copy()
        for name, item in value.items():
            if type(item) not in _ATOMS:
                made[name] = plain(item)
        return made
    if isinstance(value, Mapping):
        return plain(dict(value.items()))
    return list(map(plain, value)) if isinstance(value, list | tuple) else value


def tools(given: Any) -> tuple[dict[str, Any], ...]:
    """Definitions of tools as a tuple of dicts. Raises ConfigError; a tool of an unknown type is not checked."""
    listed = given if isinstance(given, Sequence) and not isinstance(given, str) else () if given is None else None
    if listed is None or not all(isinstance(tool, Mapping) and _named(tool) for tool in listed):
        raise ConfigError(
            'tools must be a list of definitions such as {"type": "function", "function": {"name": …, "parameters": {…}}}',
            hint="A function becomes one with prx.tool(function).",
        )
    return tuple(plain(tool) for tool in listed)


def _named(tool: Mapping[str, Any]) -> bool:
    """Whether a tool has a name, or is of a type other than function."""
    function = tool.get("function")
    return (
        tool.get("type") != "function"
        or "name" in tool
        or (isinstance(function, Mapping) and isinstance(function.get("name"), str) and bool(function["name"]))
    )


def params(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters in JSON's types. Raises ConfigError for a name of _TAKEN."""
    refuse_taken(given)
    return {name: plain(value) for name, value in given.items() if name not in EXTRA}


def refuse_taken(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a parameter with a name of _TAKEN."""
    if not _TAKEN.keys().isdisjoint(given):
        name = next(name for name in given if name in _TAKEN)
        raise ConfigError(f"{name!r} is not a parameter of a call: {_TAKEN[name]}")


# The options of a call that are prx's own: no provider is sent them.
_OWN = (
    "timeout",
    "deadline",
    "retries",
    "fallbacks",
    "repair",
    "tool_choice",
    "extra_body",
    "extra_headers",
    "extra_query",
)
# {name that other libraries use for one of them, and no provider's API as a parameter: prx's own name}
_ELSEWHERE = {"retry": "retries", "maxretries": "retries", "requesttimeout": "timeout", "fallback": "fallbacks"}


def refuse_near_misses(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a parameter whose name is nearly that of an option of prx: it would be sent to the provider."""
    for name in given:
        own = _meant(name)
        if own:
            raise ConfigError(
                f"{name!r} is not an option of a call; did you mean {own!r}?",
                hint=f"If the provider has a parameter of this name: extra_body={{{name!r}: …}}.",
            )


@lru_cache(maxsize=512)  # the same few names come in every call
def _meant(name: str) -> str:
    """The option of prx that a name is nearly the name of, or ""."""
    word = name.lower().replace("_", "").replace("-", "")
    near = (own for own in _OWN if one_slip(word, own.replace("_", "")))
    return "" if name in _OWN else _ELSEWHERE.get(word) or next(near, "")


# As in the OpenAI SDK: added to the request unchanged.
EXTRA = ("extra_body", "extra_headers", "extra_query")
_RESERVED = ("messages", "model", "stream")  # keys of the body on which the reading of the answer depends
_KEYS_HEADERS = ("authorization", "proxy-authorization")


def extras(given: Mapping[str, Any]) -> Extra:
    """extra_body, extra_headers and extra_query of a call. Raises ConfigError."""
    if given.keys().isdisjoint(EXTRA):
        return NO_EXTRA
    body, headers, query = (_mapping(name, given.get(name)) for name in EXTRA)
    for name in body:
        if name in _RESERVED:
            raise ConfigError(f"extra_body: {name!r} is set by the call itself", hint=f"{name}: {_TAKEN[name]}.")
    return Extra(
        plain(body),
        {name: _header(name, value) for name, value in headers.items()},
        {name: _in_query(name, value) for name, value in query.items()},
    )


def _mapping(name: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
        return given
    raise ConfigError(f"{name} must be a mapping from names to values, not {given!r:.60}")


def _header(name: str, value: Any) -> str:
    if name.lower() in _KEYS_HEADERS:
        raise ConfigError(
            f"extra_headers: {name} carries a key", hint="Set keys in the configuration: api_key, or headers."
        )
    if name.lower() in FRAMING:
        raise ConfigError(f"extra_headers: prx sets {name} itself, from the length of the request; remove it")
    if not isinstance(value, str) or header_fault(name, value):
        raise ConfigError(f"extra_headers: {name!r:.60} and its value must be printable ASCII text")
    return value


def _in_query(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(f"extra_query: the value of {name!r:.60} must be a text or a number, not {value!r:.60}")


def model(given: Any) -> str | ModelRef | None:
    """A model's name or None. Raises ConfigError."""
    if given is None or isinstance(given, ModelRef) or (isinstance(given, str) and given.strip()):
        return given
    raise ConfigError(
        f'model must be a name such as "provider/model", not {given!r}', hint="Leave it out for the configured default."
    )


def seconds(name: str, given: Any) -> float | None:
    """A limit in seconds, or None for none. Raises ConfigError."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not (0 < given <= LONGEST):
        raise ConfigError(f"{name} must be a number of seconds above 0 and up to {LONGEST}, not {_short(given)}")
    return float(given)


def _short(given: Any) -> str:
    """A value for an error message; Python refuses to write a number of more than 4,300 digits."""
    return "a larger one" if isinstance(given, int) and given > LONGEST else f"{given!r:.60}"


def retries(given: Any) -> int | None:
    """A number of further attempts, or None for that of the provider's file. Raises ConfigError."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    raise ConfigError(f"retries must be a whole number, 0 or more, not {given!r}")


def fallbacks(given: Any) -> tuple[str, ...] | None:
    """Names of fallbacks, or None for those of the provider's file. Raises ConfigError."""
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable) or not all(isinstance(name, str) for name in given):
        raise ConfigError(f"fallbacks must be a list of names, not {given!r}")
    return tuple(given)
