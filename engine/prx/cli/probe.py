"""prx probe: probes an unknown endpoint, and writes a provider's file for it."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import click

from prx import probe as probing
from prx.cli import options, output
from prx.errors import ConfigError, sealed
from prx.probe import Finding, Order
from prx.probe.questions import THINKING
from prx.spec.files import SUFFIXES
from prx.spec.loader import Loader
from prx.urls import check_url

_SIGNS = {"yes": "yes", "no": "no", "open": "?"}


@click.command()
@click.argument("url")
@click.option("--key-env", metavar="NAME", help="The environment variable with the key.")
@click.option("--model", default="", help="The model to call; without it, one of the server's list.")
@click.option("--id", "name", help="The id of the provider; without it, made from FILE or the host.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write there instead of to standard output."
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option("--max-requests", type=click.IntRange(1, 1000), default=40, show_default=True, help="Requests at most.")
@click.option(
    "--pause", type=click.FloatRange(0, 60), default=0.2, show_default=True, help="Seconds between two requests."
)
@click.option("--yes", is_flag=True, help="Do not ask before requests are sent.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, with the file in it.")
@options.settings
@sealed
def probe(
    url: str, key_env: str | None, model: str, name: str | None, out: Path | None, force: bool, max_requests: int, pause: float,
    yes: bool, as_json: bool, config: str | None, folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Probe an endpoint, and write its provider file.

    It finds the dialect, the path, how the key is sent, the models, and their capabilities; each line of the
    file names the request that showed it. What was not learned is left out, and listed at the end of the file.
    """
    check_url(url)
    key = options.key(key_env)
    catalog = options.session(config, folders).catalog
    provider_id = _id(name, out, url, catalog)
    _check_writable(out, force=force)
    _ask_consent(url, key_env, max_requests, yes=yes)
    order = Order(
        url, provider_id, key, key_env or "", model, max_requests, pause, date=datetime.now(UTC).date().isoformat(),
        env=os.environ, folders=folders, say=_say, wait=output.note,
    )  # fmt: skip
    report = probing.probe(order, catalog)
    if out is not None:
        _write(out, report.text)
    if as_json:
        output.print_json(report.plain())
    elif out is None:
        output.file(report.text)
    _end(report, out)


def _id(given: str | None, out: Path | None, url: str, catalog: Loader) -> str:
    """The provider's id: as given, from the file's name, or from the host. Raises UsageError."""
    stem = out.stem if out is not None else given
    if given and stem != given:
        raise click.UsageError(f"the name of a provider's file must be its id: {given}.yaml")
    if out is not None and out.suffix not in SUFFIXES:
        raise click.UsageError("the name of a provider's file must end in .yaml")
    name = stem or _id_of_host(url, catalog)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise click.UsageError(
            f"{name!r} cannot be the id of a provider: it must consist of a-z, 0-9, dots, dashes and underscores"
        )
    return name


def _id_of_host(url: str, catalog: Loader) -> str:
    """An id from the last word of a host before its ending, or `local` and the port; never an id that is in use."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    words = [] if re.fullmatch(r"[\d.]+|.*:.*|localhost", host) else host.split(".")
    name = re.sub(r"[^a-z0-9-]", "", words[-2] if len(words) > 1 else "".join(words)).strip("-")
    name = name or f"local-{parts.port or 80}"
    return f"my-{name}" if catalog.entry(name) else name


def _check_writable(out: Path | None, *, force: bool) -> None:
    if out is not None and out.exists() and not force:
        raise ConfigError(f"{out}: the file exists already", hint="Use another name, or --force.")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"{out.parent}: there is no such folder")


def _ask_consent(url: str, key_env: str | None, requests: int, *, yes: bool) -> None:
    """Show what will be sent, and ask the user to confirm it. Raises Abort or UsageError where it was not confirmed."""
    host = urlsplit(url).netloc
    key = f"the key from ${key_env}" if key_env else "no key"
    sentence = f"up to {requests} requests with max_tokens {THINKING} or less to {host} with {key}"
    if yes:
        return output.note(sentence)
    if not sys.stdin.isatty():
        raise click.UsageError(f"this would send {sentence}; add --yes to confirm it without a terminal")
    click.confirm(f"{sentence}; go on?", default=False, abort=True, err=True)
    return None


def _say(finding: Finding) -> None:
    asked = f"  ({finding.asked})" if finding.asked else ""
    output.note(f"{finding.name:15} {_SIGNS[finding.verdict]:5}{finding.how}{asked}")


def _write(out: Path, text: str) -> None:
    """Write the file, whole or not at all."""
    fresh = out.with_name(f".{out.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _end(report: probing.Report, out: Path | None) -> None:
    output.note(
        f"\n{report.requests} requests; {report.dialect} at {report.base_url}" + (f"; written to {out}" if out else "")
    )
    output.note("Not learned:\n" + "\n".join(f"  {line}" for line in report.open))
