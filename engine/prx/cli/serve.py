"""prx serve: every provider behind one port."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import secrets
from functools import partial
from importlib.util import find_spec
from typing import Any

import click

from prx import checks
from prx.accounts import config as configuration
from prx.cli import options, output, verbosity
from prx.errors import ConfigError

_NEEDED = ("uvicorn", "prometheus_client")
_BARE = re.compile(r"[A-Za-z0-9_-]+")  # a key of TOML that needs no quotes
_LEVELS = ("debug", "info", "warning", "error")


@click.group(invoke_without_command=True)
@click.option("--host", help="The address to listen at, in place of the configuration's.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port, in place of the configuration's.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, metavar="N", help="Processes that share the port.")
@click.option("--check", is_flag=True, help="Read everything, say what would be served, and end with 0 or 1.")
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS),
    help="The least that is logged, or $PRX_LOG; warning without either. At info, a line for each call.",
)
@click.option("-v", "--verbose", count=True, help=f"{verbosity.LINES} It sets --log-level, too.")
@click.option("--log-json", is_flag=True, help="The log as JSON, in place of what the configuration says.")
@click.option(
    "--otel", is_flag=True, help="Send spans and metrics of calls by OTLP, as serve.otel in the configuration."
)
@options.settings
@click.pass_context
def serve(
    ctx: click.Context, host: str | None, port: int | None, workers: int, check: bool, log_level: str | None, verbose: int,
    log_json: bool, otel: bool, config: str | None, folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve every provider behind one port, in the dialects that programs speak.

    A program that speaks the API of one provider is given http://HOST:PORT, and asks for the models of any.
    """
    if ctx.invoked_subcommand is not None:
        return
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise click.UsageError(
            f"{missing[0]} is missing: pip install 'prx-engine[serve]' brings what `prx serve` needs"
        )
    from prx.serve import App, logs, tls

    wanted = verbosity.level(verbose, as_json=False) if verbose else ""
    level = log_level or wanted or _level_of_environment()
    client: dict[str, Any] = {
        "config": config,
        "providers": list(folders),
        **({"on_event": logs.log_event} if verbose else {}),
        **({"otel": True} if otel else {}),
    }
    app = App(**client)
    output.watch(app.client.session)
    settings = app.settings
    form = "json" if log_json else settings.log_format
    logs.set_up(level, form, app.mask)
    at, number = host or settings.host, settings.port if port is None else port
    if check:
        ctx.exit(_say_what(app, at, number, _faults_of_files(config, folders)))
    _refuse_open(at, settings.keys)
    tls.context(settings)  # each process reads it anew; here it is one sentence, before anything runs
    ctx.exit(_run(app, at, number, workers, (level, form), client))


def _run(app: Any, host: str, port: int, workers: int, log: tuple[str, str], client: dict[str, Any]) -> int:
    """log: its level and its form."""
    from prx.serve import process

    process.check_port(host, port)
    told = f"serving at {_address(app, host, port)}, where a browser shows what is served"
    if log[1] == "text":
        output.note(f"{told}; Ctrl-C ends it")
    else:  # who reads the log line by line, reads no other
        logging.getLogger("prx.serve").info(told)
    if workers == 1:
        return process.serve(app, host, port)
    return process.serve_in(workers, client, host, port, log)


def _address(app: Any, host: str, port: int) -> str:
    return f"{'https' if app.settings.tls_cert else 'http'}://{host}:{port}"


def _refuse_open(host: str, keys: tuple[configuration.CallerKey, ...]) -> None:
    from prx.serve.callers import is_loopback

    if not keys and not is_loopback(host):
        raise ConfigError(
            f"nobody who calls at {host} would need a key",
            hint="Set [serve] keys, which `prx serve key NAME` makes, or serve 127.0.0.1.",
        )


def _faults_of_files(config: str | None, folders: tuple[str, ...]) -> list[str]:
    """The faults of the configuration and of the provider files beside it, as `prx check` finds them."""
    known = configuration.folders(folders, os.environ)
    paths = [path for path in (*known, *configuration.files(config, os.environ)) if path.exists()]
    found = checks.check(checks.files_in(paths), known, os.environ)
    return [str(problem) for problems in found.values() for problem in problems if problem.severity == "error"]


def _faults(app: Any, host: str) -> list[str]:
    """What would keep the service from running as it should, a sentence each."""
    from prx.serve import tls

    found = []
    for look in (partial(_refuse_open, host, app.settings.keys), partial(tls.context, app.settings)):
        try:
            look()
        except ConfigError as error:
            found.append(str(error))
    away = asyncio.run(app.shared.fault()) if app.shared is not None else ""
    return [*found, *([f"serve.redis: {away}"] if away else [])]


def _say_what(app: Any, host: str, port: int, faults: list[str]) -> int:
    """Print what would be served, or what is wrong, beside the faults that are known; gives the exit code."""
    if faults := [*faults, *_faults(app, host)]:
        for fault in faults:
            output.echo(f"prx: {fault}", err=True)
        return 1
    output.echo(f"would serve at {_address(app, host, port)}")
    output.echo(f"  dialects: {', '.join(face.id for face in app.faces)}")
    output.echo(f"  keys: {len(app.settings.keys) or 'none, so programs of this machine only'}")
    if app.shared is not None:
        output.echo(f"  shares limits at {app.shared.place}")
    for name in app.names():
        output.echo(f"  model: {output.line(name)}")
    return 0


def _level_of_environment() -> str:
    level = os.environ.get("PRX_LOG", "").lower() or "warning"
    if level not in _LEVELS:
        raise click.UsageError(f"PRX_LOG is {output.line(level)!r}, and must be one of {', '.join(_LEVELS)}")
    return level


@serve.command()
@click.argument("name")
def key(name: str) -> None:
    """Make a key for a caller: shown once, with the lines of the configuration that let it in."""
    made = f"prx-{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(made.encode()).hexdigest()
    name = output.line(name)
    if not name.strip():
        raise click.UsageError("the key needs a name: it stands in the configuration and in the log")
    quoted = name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
    output.echo(f"The key of {name}, shown this once:\n\n    {made}\n\nIn config.toml:\n")
    output.echo(f'    [serve.keys_by_name.{quoted}]\n    sha256 = "{digest}"')
