"""What the options of a command that asks a model say of the request: its tools and its parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from prx.errors import ConfigError


def tools(path: Path | None) -> list[dict[str, Any]] | None:
    """The functions in the file of --tools. Raises ConfigError."""
    if path is None:
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"tools file {path}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except ValueError as error:
        raise ConfigError(f"tools file {path}: not UTF-8 JSON: {type(error).__name__}") from None
    listed = value if isinstance(value, list) else []
    if not listed or not all(isinstance(tool, dict) and ("type" in tool or "name" in tool) for tool in listed):
        raise ConfigError(
            f"tools file {path}: not a list of functions",
            hint='Write [{"type": "function", "function": {"name": …, "parameters": {…}}}].',
        )
    return [tool if "type" in tool else {"type": "function", "function": tool} for tool in listed]


# {name that is not a parameter: what to use instead}
_OPTIONS = {
    "model": "--model", "messages": "the prompt", "tools": "--tools", "stream": "--no-stream", "timeout": "--timeout",
    "deadline": "--deadline", "retries": "--retries", "fallbacks": "--no-fallbacks",
}  # fmt: skip


def params(given: Sequence[str]) -> dict[str, Any]:
    """The parameters in the values of --param. Raises click.UsageError."""
    named: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--param {item}: write NAME=VALUE")
        if name in _OPTIONS:
            raise click.UsageError(f"--param {name}: not a parameter of the request; use {_OPTIONS[name]}")
        try:
            named[name] = json.loads(text)
        except ValueError:
            named[name] = text
    return named
