"""prx explain: prints the request of a call, and the rule behind each part of it, with its file and line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from prx import resources
from prx.cli import options, output, request_options
from prx.cli.conversation import chosen as chosen_model
from prx.cli.conversation import user
from prx.errors import ConfigError
from prx.explain import Explanation, Reason, stand_ins
from prx.explain import explain as explained
from prx.session import Options, Session
from prx.spec.origins import Place
from prx.wire import HttpRequest

# (heading, field of an Explanation, what is said where it has nothing; "" for not showing the heading either)
_SECTIONS = (
    ("refused, nothing would be sent", "refused", ""), ("differs from the plain call", "differences", "nothing"),
    ("the provider cannot", "lacks", ""), ("tried again, where the call fails, as", "fallbacks", "nothing"),
    ("limits", "limits", ""), ("key", "key", ""),
)  # fmt: skip


@click.command()
@click.argument("prompt", nargs=-1)
@click.option("-m", "--model", shell_complete=options.complete_model, help="As for chat.")
@click.option(
    "-p", "--provider", shell_complete=options.complete_provider, help="As for chat: a name, or the path of a file."
)
@click.option("-s", "--system", metavar="TEXT", help="A system message.")
@click.option("--image", "pictures", multiple=True, metavar="FILE", type=click.Path(path_type=Path), help="A picture.")
@click.option("--tools", "tools_file", metavar="FILE", type=click.Path(path_type=Path), help="JSON list of functions.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter such as temperature=0.")
@click.option("--no-stream", is_flag=True, help="Request one whole answer instead of a stream.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.settings
def explain(
    prompt: tuple[str, ...], model: str | None, provider: str | None, system: str | None, pictures: tuple[Path, ...],
    tools_file: Path | None, params: tuple[str, ...], no_stream: bool, as_json: bool, config: str | None, folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Show the request of a call, and which rule of which file made it so. Nothing is sent, and no key is shown.

    \b
    prx explain -m provider/model "Say hello." --param max_tokens=16
    """
    with options.bad_input():
        if provider:
            provider, folders = options.by_name(provider, folders)
        asked = {"tools": request_options.tools(tools_file), **request_options.params(params)}
        text = " ".join(prompt) or "Hello"
        messages = [*([{"role": "system", "content": system}] if system else []), user(text, pictures)]
        found = _explained(config, folders, (provider, model), messages, asked, stream=not no_stream)
    if as_json:
        output.print_json(_plain(found))
    else:
        _print(found)


def _explained(
    config: str | None, folders: Sequence[str], chosen: tuple[str | None, str | None], messages: list[Any], asked: dict[str, Any],
    *, stream: bool,
) -> Explanation:  # fmt: skip
    """The explanation; where variables are not set that the provider needs, with stand-ins for them."""
    try:
        return _of(Session(config, list(folders), None), chosen, messages, asked, stream=stream)
    except ConfigError as error:
        if not error.provider:
            raise
        session = Session(config, list(folders), None)
        env = stand_ins(session.accounts.definition(error.provider)) | {
            name: value for name, value in os.environ.items() if value.strip()
        }
        return _of(Session(config, list(folders), env), chosen, messages, asked, stream=stream)


def _of(
    session: Session, chosen: tuple[str | None, str | None], messages: list[Any], asked: dict[str, Any], *, stream: bool
) -> Explanation:
    output.watch(session)
    params = {name: value for name, value in asked.items() if name != "tools"}
    wanted = Options(messages, chosen_model(session, *chosen), tools=asked["tools"], params=params)
    account, call = session.plan(wanted, stream=stream)
    return explained(account, call, session.config.file, os.environ)


def _print(found: Explanation) -> None:
    if found.request:
        _request(found.request)
    rows = [row for _, field, _ in _SECTIONS for row in getattr(found, field)]
    width, rules = (
        min(max(len(text) for text in texts), 64) for texts in ([row.what for row in rows], [row.rule for row in rows])
    )
    for heading, field, nothing in _SECTIONS:
        reasons: tuple[Reason, ...] = getattr(found, field)
        if not (reasons or nothing):
            continue
        click.echo()
        output.echo(heading, bold=True)
        for row in reasons:
            output.echo(f"  {output.line(row.what):{width}}  {row.rule:{rules}}  {_where(row.place)}".rstrip())
        if not reasons:
            output.echo(f"  {nothing}")


def _request(request: HttpRequest) -> None:
    output.echo(f"{request.method} {request.full_url()}", bold=True)
    for name, value in request.headers.items():
        output.echo(f"{name}: {value}")
    click.echo()
    output.print_json(json.loads(request.body))


def _where(place: Place | None) -> str:
    """A place as people read it: packaged files as seen from their folder, others from the working directory."""
    if place is None:
        return ""
    path = Path(place.file)
    packaged = resources.folder("providers.d")
    here = Path.cwd()
    name = next((path.relative_to(base) for base in (packaged, here) if path.is_relative_to(base)), path)
    return f"{name}:{place.line}"


def _plain(found: Explanation) -> dict[str, Any]:
    request = found.request
    shown = request and {
        "method": request.method,
        "url": request.full_url(),
        "headers": {name: str(value) for name, value in request.headers.items()},
        "body": json.loads(request.body),
    }
    sections = {field: [_row(row) for row in getattr(found, field)] for _, field, _ in _SECTIONS}
    return {"provider": found.provider, "model": found.model, "request": shown, **sections}


def _row(row: Reason) -> dict[str, Any]:
    place = row.place
    return {"what": row.what, "rule": row.rule, "file": place and place.file, "line": place and place.line}
