"""prx embed, rerank, image, speak, transcribe, moderate, count, complete: the calls that are no chats."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from prx.chat import Reply, plain
from prx.cli import lines, options, output, request_options
from prx.cli.conversation import chosen
from prx.errors import ConfigError
from prx.session import Options, Session

_SHOWN = 4  # numbers of a vector that are shown


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that all these commands have."""
    for option in (
        click.option("-m", "--model", shell_complete=options.complete_model, help="provider/model, or a routed name."),
        click.option("-p", "--provider", shell_complete=options.complete_provider, help="The provider to call."),
        click.option(
            "--param", "given", multiple=True, metavar="NAME=VALUE", help="A further parameter, JSON or text."
        ),
        click.option("--timeout", type=options.seconds, metavar="SECONDS", help="Longest time without a byte."),
        click.option("--deadline", type=options.seconds, metavar="SECONDS", help="Longest time for the whole call."),
        click.option("--retries", type=click.IntRange(0), metavar="N", help="Attempts beyond the first."),
        click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON."),
        click.option("--dry-run", is_flag=True, help="Print the request, with its key masked, and send nothing."),
        options.settings,
    ):
        command = option(command)
    return command


def _run(
    kind: str, inputs: Mapping[str, Any], common: dict[str, Any], show: Callable[[Any], None], **chat: Any
) -> None:
    """Make the call, or print its request, and show the result."""
    folders, provider = common["folders"], common["provider"]
    if provider:
        provider, folders = options.by_name(provider, folders)
    params = request_options.params(common["given"])
    if common["dry_run"]:
        session = options.session(common["config"], folders)
        model = chosen(session, provider, common["model"])
        _dry_run(session, kind, Options(model=model, params=params, inputs=inputs, **chat))
        return
    limits = {name: common[name] for name in ("timeout", "deadline", "retries")}
    with options.client(common["config"], folders) as client:
        model = chosen(client, provider, common["model"])
        result = client.call(kind, model, inputs, {**params, **limits}, **chat)
    output.print_json(_jsonable(plain(result))) if common["as_json"] else show(result)


def _dry_run(session: Session, kind: str, asked: Options) -> None:
    from prx.core.kind_requests import build_kind

    account, call = session.plan_kind(kind, asked)
    request = build_kind(kind, account.definition.spec(call.model), call, account.target)
    output.echo(f"{request.method} {request.full_url()}")
    for name, value in request.headers.items():
        output.echo(f"{name}: {value}")
    click.echo()
    form = "json" not in str(request.headers["content-type"])
    output.echo(f"({len(request.body)} bytes)") if form else output.print_json(json.loads(request.body))


def _jsonable(value: Any) -> Any:
    """A result without its bytes, of which JSON has none: only how many they are."""
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, list | tuple) else value


def _text(words: tuple[str, ...]) -> str:
    """The text of the arguments, or of standard input where there is none. Raises ConfigError where neither has any."""
    if not (text := _given(words)).strip():
        raise ConfigError("there is no text", hint="Write it behind the command, or give it on standard input.")
    return text


def _given(words: tuple[str, ...]) -> str:
    return " ".join(words) or ("" if sys.stdin.isatty() else lines.whole().rstrip("\n"))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    output.note(f"{path}: {len(data)} bytes")


@click.command()
@click.argument("texts", nargs=-1)
@click.option("--dimensions", type=click.IntRange(1), help="How long the vectors are to be.")
@click.option("--input-type", help="query or document, where the model makes a difference.")
@_common
def embed(texts: tuple[str, ...], dimensions: int | None, input_type: str | None, **common: Any) -> None:
    """Embeddings of texts: the arguments, or standard input as one text. A line for each; --json has all numbers."""

    def show(result: Any) -> None:
        for vector in result.vectors:
            output.echo(f"{len(vector)} numbers: {', '.join(f'{number:.6g}' for number in vector[:_SHOWN])}, …")

    inputs = {"input": [*texts] or _text(()), "dimensions": dimensions, "input_type": input_type}
    _run("embed", inputs, common, show)


@click.command()
@click.argument("query")
@click.argument("documents", nargs=-1, required=True)
@click.option("--top-n", type=click.IntRange(1), help="Only the best of them.")
@_common
def rerank(query: str, documents: tuple[str, ...], top_n: int | None, **common: Any) -> None:
    """The documents in the order in which they fit the query, with their scores."""

    def show(result: Any) -> None:
        for row in result.results:
            output.echo(f"{row.score:.6g}\t{documents[row.index]}")

    _run("rerank", {"query": query, "documents": [*documents], "top_n": top_n}, common, show)


@click.command()
@click.argument("prompt", nargs=-1)
@click.option("-o", "--output", "path", type=click.Path(path_type=Path), help="Where the picture is written.")
@click.option("-n", "count", type=click.IntRange(1), help="How many pictures.")
@click.option("--size", help="Such as 1024x1024.")
@_common
def image(prompt: tuple[str, ...], path: Path | None, count: int | None, size: str | None, **common: Any) -> None:
    """Make a picture. Of several, all but the first get a number before the ending of their names."""

    def show(result: Any) -> None:
        for place, each in enumerate(result.images):
            if each.data is None:
                output.echo(each.url)
                continue
            ending = (each.media_type or "image/png").rpartition("/")[2]
            base = path or Path(f"image.{ending}")
            _write(base if not place else base.with_stem(f"{base.stem}-{place + 1}"), each.data)

    _run("image", {"prompt": _text(prompt), "n": count, "size": size}, common, show)


@click.command()
@click.argument("text", nargs=-1)
@click.option("-o", "--output", "path", type=click.Path(path_type=Path), required=True, help="Where it is written.")
@click.option("--voice", help="One of the provider's voices.")
@click.option("--format", "audio_format", help="Such as mp3 or wav.")
@_common
def speak(text: tuple[str, ...], path: Path, voice: str | None, audio_format: str | None, **common: Any) -> None:
    """Say a text."""
    inputs = {"text": _text(text), "voice": voice, "format": audio_format}
    _run("speech", inputs, common, lambda result: _write(path, result.audio))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--language", help="Such as en, where it is known.")
@_common
def transcribe(file: Path, language: str | None, **common: Any) -> None:
    """Print what is said in a recording."""
    from prx.calls import read_file

    inputs = {"file": read_file(file), "language": language}
    _run("transcribe", inputs, common, lambda result: output.echo(result.text))


@click.command()
@click.argument("texts", nargs=-1)
@_common
def moderate(texts: tuple[str, ...], **common: Any) -> None:
    """Say whether texts are harmful."""
    inputs = {"input": [*texts] or _text(())}
    _run("moderate", inputs, common, lambda result: output.echo("flagged" if result.flagged else "not flagged"))


@click.command()
@click.argument("prompt", nargs=-1)
@_common
def count(prompt: tuple[str, ...], **common: Any) -> None:
    """Print how many tokens a prompt has, as the provider counts them."""
    _run("count_tokens", {}, common, lambda result: output.echo(str(result.count)), messages=_text(prompt))


@click.command()
@click.argument("prompt", nargs=-1)
@click.option("--suffix", help="What comes after it: the middle is filled in.")
@_common
def complete(prompt: tuple[str, ...], suffix: str | None, **common: Any) -> None:
    """Go on with a text."""

    def show(reply: Reply) -> None:
        output.echo(reply.content)

    _run("complete", {"prompt": _given(prompt) if suffix else _text(prompt), "suffix": suffix}, common, show)
