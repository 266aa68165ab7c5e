"""prx demo: a conversation with a server on this machine, without a key, through an ordinary provider file."""

from __future__ import annotations

import base64
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import click

from prx import emulator as emulator_package
from prx.chat import Delta, Reply
from prx.cli import output
from prx.client import Client
from prx.emulator.server import Emulator
from prx.errors import ConfigError

_FILES = Path(emulator_package.__file__).parent / "files"
_PLAIN, _REASONER, _ONLY_RESPONSES = "words", "words-reasoner", "words-responses"
_MODELS = [_PLAIN, _REASONER, _ONLY_RESPONSES]
_PERSONA = {"models": _MODELS, "only_at": {_ONLY_RESPONSES: "/responses"}, "delay": 0.015}
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def _picture(size: int = 16) -> str:
    """A small PNG as a data: URL, made here so that the package needs no picture file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(16 * (x ^ y) % 256 for x in range(size)) for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@click.command()
@click.option(
    "--serve", type=click.IntRange(0, 65535), metavar="PORT", help="Only run the server, until it is interrupted."
)
def demo(serve: int | None) -> None:
    """Talk to a small server on this machine: no key, no network, real HTTP.

    The server is a part of prx and not a language model. It is called through an ordinary provider file.
    """
    with _emulator(serve or 0) as emulator:
        if serve is not None:
            click.echo(f"serving at {emulator.url}; models: {', '.join(_MODELS)}; Ctrl-C ends it")
            threading.Event().wait()
        file = next(_FILES.glob("*.yaml"))
        click.secho(f"Through {file.name}, an ordinary provider file:\n", dim=True)
        click.echo(file.read_text(encoding="utf-8").partition("\n")[2], nl=False)
        config = {"default": {"provider": file.stem}, "providers": {file.stem: {"api_url": emulator.url}}}
        with Client(config=config, providers=_FILES) as client:
            _converse(client)


def _emulator(port: int) -> Emulator:
    try:
        return Emulator(_PERSONA, port)
    except OSError as error:
        raise ConfigError(f"port {port}: {error.strerror}", hint="Use another port.") from None


def _converse(client: Client) -> None:
    """A greeting, reasoning, a picture, a tool, and a server that only has the Responses API."""
    messages: list[dict[str, Any]] = []
    _turn(client, messages, "Say hello.")
    _turn(client, messages, "What is 2+2?", model=_REASONER)
    _turn(client, messages, f"What is this? [IMAGE:{_picture()}]")
    reply = _turn(client, messages, "What is the weather in Paris and London?", tools=[_WEATHER])
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"} for call in reply.tool_calls]
    _turn(client, messages, None)
    _turn(client, messages, "Are you still there?", model=_ONLY_RESPONSES)
    output.note("\nNext: the README has the three steps to a provider of your own.")


def _turn(
    client: Client, messages: list[dict[str, Any]], text: str | None, model: str | None = None, **asked: Any
) -> Reply:
    if text is not None:
        messages.append({"role": "user", "content": text})
        output.echo(f"\n> {text.partition(';base64,')[0]}{'…]' if ';base64,' in text else ''}", bold=True)
    with client.stream(messages, model, **asked) as stream:
        last = ""
        for delta in stream:
            last = _show(delta, last)
    click.echo(nl=bool(last))
    for call in stream.reply.tool_calls:
        output.echo(f"{call.name}({call.arguments})")
    if stream.reply.fallbacks:
        output.note(f"(Chat Completions gave 404 here; answered with the fallback {', '.join(stream.reply.fallbacks)})")
    messages.append(stream.reply.message)
    return stream.reply


def _show(delta: Delta, last: str) -> str:
    """Print a piece; gives the kind of the last text on the line: "thought", "text", or `last` if nothing was printed."""
    if delta.reasoning:
        output.echo(delta.reasoning, dim=True, nl=False)
        return "thought"
    if delta.content:
        output.echo(("\n" if last == "thought" else "") + delta.content, nl=False)
        return "text"
    return last
