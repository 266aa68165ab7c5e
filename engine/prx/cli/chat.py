"""prx chat: prints one answer, or a conversation, as it arrives."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from prx import images
from prx.accounts.choose import ModelRef
from prx.chat import Message, Reply
from prx.cli import options, output, show
from prx.client import Client
from prx.errors import ConfigError, Error, NotFoundError
from prx.session import Session
from prx.text import nearest


@click.command()
@click.argument("prompt", nargs=-1)
@click.option(
    "-m",
    "--model",
    shell_complete=options.complete_model,
    help="provider/model, a routed name, or with --provider the model's own name.",
)
@click.option(
    "-p",
    "--provider",
    shell_complete=options.complete_provider,
    help="The provider to call: its name, or the path of its file.",
)
@click.option("-s", "--system", metavar="TEXT", help="A system message.")
@click.option("--chat", "several", is_flag=True, help="Several turns: each line of standard input is a message.")
@click.option(
    "--image",
    "pictures",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A picture to show the model.",
)
@click.option(
    "--tools", "tools_file", metavar="FILE", type=click.Path(path_type=Path), help="JSON list of function definitions."
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter such as temperature=0; the value is JSON or text.",
)
@click.option("--timeout", type=options.seconds, metavar="SECONDS", help="Longest time without a byte, in every phase.")
@click.option("--deadline", type=options.seconds, metavar="SECONDS", help="Longest time for the whole call.")
@click.option("--retries", type=click.IntRange(0), metavar="N", help="Attempts beyond the first.")
@click.option("--no-fallbacks", is_flag=True, help="Do not try fallbacks.")
@click.option("--no-stream", is_flag=True, help="Request one whole answer instead of a stream.")
@click.option("--raw", is_flag=True, help="Print control characters in the text unchanged, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")
@click.option("--events", is_flag=True, help="Print each piece as a line of JSON, as it arrives.")
@click.option("--dry-run", is_flag=True, help="Print the request, with its key masked, and send nothing.")
@options.settings
def chat(
    prompt: tuple[str, ...], model: str | None, provider: str | None, system: str | None, several: bool, pictures: tuple[Path, ...],
    tools_file: Path | None, params: tuple[str, ...], timeout: float | None, deadline: float | None, retries: int | None,
    no_fallbacks: bool, no_stream: bool, raw: bool, as_json: bool, events: bool, dry_run: bool, config: str | None, folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Call a model. The prompt is the argument, or standard input.

    \b
    prx chat -m provider/model "Say hello."
    git diff | prx chat -m provider/model -s "Write a commit message."
    """
    if as_json and events:
        raise click.UsageError("--json and --events cannot be used together")
    if provider:
        provider, folders = options.by_name(provider, folders)
    asking: dict[str, Any] = {"tools": _tools(tools_file), **_params(params)}
    conversation: list[Message] = [{"role": "system", "content": system}] if system else []
    if dry_run:
        session = options.session(config, folders)
        if (text := next(_prompts(prompt, several), None)) is not None:
            messages = [*conversation, _user(text, pictures)]
            show.request(session, messages, _model(session, provider, model), asking, stream=not no_stream)
        return
    with options.client(config, folders) as client:
        name = _model(client, provider, model)
        limits = {
            "timeout": timeout,
            "deadline": deadline,
            "retries": retries,
            "fallbacks": () if no_fallbacks else None,
        }
        shown: Callable[..., Reply] = (
            show.as_json if as_json else show.as_events if events else partial(show.as_text, raw=raw)
        )
        for text in _prompts(prompt, several):
            conversation.append(_user(text, pictures))
            try:
                reply = shown(client, conversation, name, {**asking, **limits}, stream=not no_stream)
            except Error as error:
                _near_models(error, client, name)
                if not several or not sys.stdin.isatty():
                    raise
                output.echo(f"prx: {error}", err=True)
                conversation.pop()
                continue
            conversation.append(reply.message)
            pictures = ()


# ------------------------------------------------------------------ arguments of the call


def _model(client: Client | Session, provider: str | None, model: str | None) -> str | ModelRef | None:
    """The model to call, from --provider and --model; None for the configuration's default."""
    if provider is None:
        return model
    account = client.accounts.get(provider)
    name = model or account.settings.model or account.definition.spec().models.default
    if not name and client.config.provider in (provider, account.id):
        name = client.config.model or ""
    if not name:
        raise ConfigError(
            "no model is named",
            provider=account.id,
            hint=f"Add --model; `prx models {account.id}` lists the models.",
        )
    return ModelRef(provider, name)


def _prompts(prompt: tuple[str, ...], several: bool) -> Iterator[str]:
    if prompt:
        yield " ".join(prompt)
    if several:
        yield from _turns()
    elif not prompt:
        yield "" if sys.stdin.isatty() else _read(sys.stdin.read)


def _turns() -> Iterator[str]:
    """Lines of input that are not empty, until its end."""
    while True:
        if sys.stdin.isatty():
            click.secho("> ", nl=False, bold=True, err=True)
        line = _read(sys.stdin.readline)
        if not line:
            return
        if line.strip():
            yield line.rstrip("\n")


def _read(read: Callable[[], str]) -> str:
    try:
        return read()
    except UnicodeDecodeError:
        raise ConfigError("standard input is not valid UTF-8") from None


def _user(text: str, pictures: Sequence[Path]) -> Message:
    if not text.strip():
        raise ConfigError("the prompt is empty", hint="Write it as the argument, or on standard input.")
    if not pictures:
        return {"role": "user", "content": text}
    shown = [{"type": "image_url", "image_url": {"url": images.read(path)}} for path in pictures]
    return {"role": "user", "content": [{"type": "text", "text": text}, *shown]}


def _tools(path: Path | None) -> list[dict[str, Any]] | None:
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


def _params(given: Sequence[str]) -> dict[str, Any]:
    params = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--param {item}: write NAME=VALUE")
        if name in _OPTIONS:
            raise click.UsageError(f"--param {name}: not a parameter of the request; use {_OPTIONS[name]}")
        try:
            params[name] = json.loads(text)
        except ValueError:
            params[name] = text
    return params


def _near_models(error: Error, client: Client, model: str | ModelRef | None) -> None:
    """Add a hint to the error of an unknown model: the nearest name in the provider's list."""
    if not isinstance(error, NotFoundError) or "model" not in error.message.lower():
        return
    try:
        account, name = client.accounts.choose(model)
        known = client.models(account.settings.name or account.id, timeout=5)
    except Error:
        return
    close = "" if name in known else nearest(name, known)
    error.hint = f"{account.id} has no model {name!r}{close}" if close else error.hint
