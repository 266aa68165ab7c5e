"""What a caller hands over, checked: each fault is one sentence, and nothing has been sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prx.accounts.choose import ModelRef
from prx.chat import Extra, Message
from prx.errors import ConfigError
from prx.wire import FRAMING, header_fault

LONGEST = 1_000_000  # seconds; a socket takes no more than 24 days
Messages = str | Iterable[Message]
# Most values of a call are one of these, and to ask whether one is a Mapping takes longer than to copy a small dict.
_ATOMS = frozenset({str, int, float, bool, type(None)})

# What a call says elsewhere, and where; as a parameter it would reach the body twice.
_TAKEN = {
    "stream": "call stream() for a stream, chat() for a whole answer",
    "stream_options": "usage of a stream is asked for where the provider's file says so",
    "model": "it is the second argument",
    "messages": "they are the first argument",
    "tools": "they are an argument of their own",
    "tool_choice": "it is an argument of its own",
}


def messages(given: Any) -> list[Message]:
    """A text as one user message, messages as a list. Raises ConfigError."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}] if given.strip() else []
    try:
        listed = list(given)
    except TypeError:
        listed = [None]
    made = [plain(message) for message in listed]
    if not all(type(message) is dict for message in made):
        raise ConfigError('messages is a text, or a list of messages such as {"role": "user", "content": "hello"}')
    if not listed:
        raise ConfigError("the prompt is empty", hint="Write what to ask.")
    return made


def plain(value: Any) -> Any:
    """A value with its mappings as dicts and its sequences as lists, JSON's own types: formulas look at no others."""
    if type(value) in _ATOMS:
        return value
    if type(value) is dict or isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def tools(given: Any) -> tuple[dict[str, Any], ...]:
    """Definitions of tools. Raises ConfigError for what is none; of an unknown type, they pass."""
    listed = given if isinstance(given, Sequence) and not isinstance(given, str) else () if given is None else None
    if listed is None or not all(isinstance(tool, Mapping) and _named(tool) for tool in listed):
        raise ConfigError(
            'tools is a list of definitions such as {"type": "function", "function": {"name": …, "parameters": {…}}}'
        )
    return tuple(plain(tool) for tool in listed)


def _named(tool: Mapping[str, Any]) -> bool:
    """Whether a function has the name it is called by."""
    function = tool.get("function")
    return (
        tool.get("type") != "function"
        or "name" in tool
        or (isinstance(function, Mapping) and isinstance(function.get("name"), str) and bool(function["name"]))
    )


def params(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parameters, none of which is said elsewhere. Raises ConfigError."""
    for name in given:
        if name in _TAKEN:
            raise ConfigError(f"{name!r} is no parameter of a call: {_TAKEN[name]}")
    return {name: plain(value) for name, value in given.items() if name not in _EXTRA}


# As in the OpenAI SDK: what goes into the request as it is.
_EXTRA = ("extra_body", "extra_headers", "extra_query")
_BODYS_OWN = ("messages", "model", "stream")  # prx reads the answer by them
_KEYS_HEADERS = ("authorization", "proxy-authorization")


def extras(given: Mapping[str, Any]) -> Extra:
    """extra_body, extra_headers and extra_query of a call. Raises ConfigError."""
    if given.keys().isdisjoint(_EXTRA):
        return Extra()
    body, headers, query = (_mapping(name, given.get(name)) for name in _EXTRA)
    for name in body:
        if name in _BODYS_OWN:
            raise ConfigError(f"extra_body: {name!r} is said by the call itself", hint=f"{name}: {_TAKEN[name]}.")
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
    raise ConfigError(f"{name} is a mapping from names to values, not {given!r:.60}")


def _header(name: str, value: Any) -> str:
    if name.lower() in _KEYS_HEADERS:
        raise ConfigError(
            f"extra_headers: {name} carries a key", hint="Keys belong into the configuration: api_key, or headers."
        )
    if name.lower() in FRAMING:
        raise ConfigError(f"extra_headers: prx sets {name} itself, from the length of the request; remove it")
    if not isinstance(value, str) or header_fault(name, value):
        raise ConfigError(f"extra_headers: {name!r:.60} and its value have to be printable ASCII text, as headers are")
    return value


def _in_query(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(f"extra_query: the value of {name!r:.60} is a text or a number, not {value!r:.60}")


def model(given: Any) -> str | ModelRef | None:
    """A model's name or None. Raises ConfigError."""
    if given is None or isinstance(given, ModelRef) or (isinstance(given, str) and given.strip()):
        return given
    raise ConfigError(
        f'model is a name such as "provider/model", not {given!r}', hint="Leave it out for the configured default."
    )


def seconds(name: str, given: Any) -> float | None:
    """A limit in seconds, or None for none. Raises ConfigError."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not (0 < given <= LONGEST):
        raise ConfigError(f"{name} is a number of seconds above 0 and up to {LONGEST}, not {_short(given)}")
    return float(given)


def _short(given: Any) -> str:
    """A value in an error; Python writes no number of more than 4,300 digits."""
    return "that" if isinstance(given, int) and given > LONGEST else f"{given!r:.60}"


def retries(given: Any) -> int | None:
    """A number of further attempts, or None for the provider's. Raises ConfigError."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    raise ConfigError(f"retries is a whole number from 0, not {given!r}")


def fallbacks(given: Any) -> tuple[str, ...] | None:
    """Names of fallbacks, or None for the provider's. Raises ConfigError."""
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable) or not all(isinstance(name, str) for name in given):
        raise ConfigError(f"fallbacks is a list of their names, not {given!r}")
    return tuple(given)
