"""prx probe: an endpoint asked what it is, and the provider's file that comes of it."""

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
@click.option("--model", default="", help="The model to ask; without it, one of the list.")
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
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON, with the file in it.")
@options.settings
@sealed
def probe(
    url: str, key_env: str | None, model: str, name: str | None, out: Path | None, force: bool, max_requests: int, pause: float,
    yes: bool, as_json: bool, config: str | None, folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Ask an endpoint what it is, and write its provider file.

    It finds the dialect, the path, how the key travels, the models, and what they can do; every line of the
    file says which request showed it. What was not learned is left out, and listed below it.
    """
    check_url(url)
    key = options.key(key_env)
    catalog = options.session(config, folders).catalog
    found = _name(name, out, url, catalog)
    _writable(out, force=force)
    _agree(url, key_env, max_requests, yes=yes)
    order = Order(
        url, found, key, key_env or "", model, max_requests, pause, date=datetime.now(UTC).date().isoformat(),
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


def _name(given: str | None, out: Path | None, url: str, catalog: Loader) -> str:
    """The id: as given, the file's name, or made from the host."""
    stem = out.stem if out is not None else given
    if given and stem != given:
        raise click.UsageError(f"a provider's file has its id for a name: call it {given}.yaml")
    if out is not None and out.suffix not in SUFFIXES:
        raise click.UsageError("a provider's file ends in .yaml")
    name = stem or _of_host(url, catalog)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise click.UsageError(f"{name!r} is no id of a provider: it is of a-z, 0-9, dots, dashes and underscores")
    return name


def _of_host(url: str, catalog: Loader) -> str:
    """The telling word of a host, or `local` and the port; never the id of another provider."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    words = [] if re.fullmatch(r"[\d.]+|.*:.*|localhost", host) else host.split(".")
    name = re.sub(r"[^a-z0-9-]", "", words[-2] if len(words) > 1 else "".join(words)).strip("-")
    name = name or f"local-{parts.port or 80}"
    return f"my-{name}" if catalog.entry(name) else name


def _writable(out: Path | None, *, force: bool) -> None:
    if out is not None and out.exists() and not force:
        raise ConfigError(f"{out}: is there already", hint="Take another name, or --force.")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"{out.parent}: no such folder")


def _agree(url: str, key_env: str | None, requests: int, *, yes: bool) -> None:
    """Say what will be spent, and ask for it. Raises Abort or UsageError where it was not agreed to."""
    host = urlsplit(url).netloc
    keyed = f"the key from ${key_env}" if key_env else "no key"
    sentence = f"up to {requests} requests with max_tokens {THINKING} or less to {host} with {keyed}"
    if yes:
        return output.note(sentence)
    if not sys.stdin.isatty():
        raise click.UsageError(f"this would send {sentence}; say --yes for that where nobody can be asked")
    click.confirm(f"{sentence}; go on?", default=False, abort=True, err=True)
    return None


def _say(finding: Finding) -> None:
    asked = f"  ({finding.asked})" if finding.asked else ""
    output.note(f"{finding.name:16}{_SIGNS[finding.verdict]:5}{finding.how}{asked}")


def _write(out: Path, text: str) -> None:
    """The whole file or none."""
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
