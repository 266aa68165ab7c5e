"""prx record: runs the conformance cases against a server, and writes recordings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import yaml

from prx.cli import options, output
from prx.cli.conformance_options import models_for, with_models_for
from prx.client import Client
from prx.conformance import cases, run
from prx.conformance.cases import Case
from prx.conformance.evidence import Evidence, Kind
from prx.conformance.run import Asked
from prx.emulator.faces import HABITS, Faces
from prx.emulator.server import Emulator
from prx.errors import ConfigError, sealed
from prx.spec.loader import Loader
from prx.spec.model import Spec

_EMULATED_HOST = "http://emulator.invalid"  # in recordings, so that they cannot be mistaken for the provider's
_EMULATED_KEY = "sk-emulated-0000"


@click.command()
@click.argument("provider", metavar="ID|FILE", shell_complete=options.complete_provider)
@click.option("--url", help="Base URL of the server; without it, the file's base_url (a live recording).")
@click.option("--model", help="The model to call.")
@with_models_for
@click.option("--key-env", metavar="NAME", help="The environment variable with the key.")
@click.option("--what", help="Name and version of what is recorded.")
@click.option(
    "--emulated",
    metavar="PERSONA",
    type=click.Path(path_type=Path),
    help="Record prx's emulator, with the habits of a YAML file, or - for none.",
)
@click.option("--case", "only", multiple=True, help="Only this case.")
@click.option("--to", "folder", default="cassettes", type=click.Path(path_type=Path), help="Folder of recordings.")
@options.settings
@sealed
def record(
    provider: str, url: str | None, model: str | None, models: tuple[str, ...], key_env: str | None, what: str | None, emulated: Path | None,
    only: tuple[str, ...], folder: Path, config: str | None, folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Record the conformance cases, from a live provider, a server of yours, or prx's emulator.

    Only headers of an allow-list are written, and no keys; each file names what was recorded.
    """
    run.check_recorder()
    provider, folders = options.by_name(provider, folders)
    catalog = options.session(config, folders).catalog
    definition = catalog.get(provider)
    spec = definition.spec()
    wanted = cases.named(only)
    folders_there = [known for known in reversed(catalog.folders[1:]) if known.is_dir()]
    key, is_token = options.key(key_env), False
    if not key and emulated is None:
        key, is_token = _own_key(provider, url, folders_there)
    source = _server(spec, url, key) if emulated is None else _emulated(spec, emulated, catalog)
    kind: Kind = "emulated" if emulated is not None else "server" if url else "live"
    says = "prx's own emulator; no word here is the provider's" if emulated is not None else what or spec.name
    with source as (real, shown, key, default):
        asked = model or default or spec.models.default
        if not asked:
            raise ConfigError("no model is named", hint="Add --model.")
        evidence = Evidence(kind, says, datetime.now(UTC).date().isoformat(), shown, asked)
        chosen = [case for case in wanted if _fits(case, definition.spec(asked), named=bool(only))]
        target = Asked(provider, run.connect(provider, real, key, folders_there, is_token=is_token), evidence, real)
        results = []
        for case in chosen:
            of_case = replace(evidence, model=models_for(models).get(case.kind, asked))
            path = folder / spec.id / f"{case.name}.yaml"
            results.append(run.record(case, replace(target, evidence=of_case), path))
    for result in results:
        outcome = "recorded" if result.evidence else "not recorded; an earlier recording is kept"
        output.echo(f"{spec.id}/{result.case}: {outcome}{result.why and ': ' + result.why}")
    for case in wanted if only else ():
        if case not in chosen:
            output.echo(f"{spec.id}/{case.name}: not recorded: the file denies what this case needs")
    if any(result.outcome != "passed" for result in results):
        raise click.exceptions.Exit(1)


def _fits(case: Case, spec: Spec, *, named: bool) -> bool:
    """Whether a case is recorded: also one that is named, of a kind of call that only the dialect has."""
    return case.fits(spec) or (named and bool(case.kind) and not case.missing(spec))


def _own_key(provider: str, url: str | None, folders: list[Path]) -> tuple[str, bool]:
    """The key from the environment that a call of this provider would send to the URL, and whether it is a token that was
    got for it. Raises Error.
    """
    settings = {provider: {"api_url": url}} if url else {}
    try:
        with Client({"providers": settings}, folders) as client:
            account = run.with_token(client, provider)
            target = account.target if account.source is None else account.source.held or account.target
    except ConfigError as error:
        error.hint = "Give the server's URL with --url, and the variable of its key with --key-env NAME."
        raise
    key = next((value.within("{api_key}").reveal() for value in target.auth.values()), "")
    return output.guard(key), account.source is not None


Source = tuple[str, str, str, str]  # (base URL, the base URL as it is written in recordings, key, model)


@contextmanager
def _server(spec: Spec, url: str | None, key: str) -> Iterator[Source]:
    address = url or spec.base_url
    yield address, address, key, ""


@contextmanager
def _emulated(spec: Spec, persona: Path, catalog: Loader) -> Iterator[Source]:
    """The emulator, under the path of the provider's base URL, so that recordings show the provider's paths."""
    habits = {} if str(persona) == "-" else _habits(persona)
    path = urlsplit(spec.base_url).path.replace("${", "").replace("}", "") or ""
    wants = {"key": _EMULATED_KEY, "auth": spec.auth.name} if spec.auth.style != "none" else {}
    try:
        faces = Faces(habits, catalog)
    except ConfigError as error:
        raise ConfigError(f"{persona}: {error.message}", hint=error.hint) from None
    with Emulator({**wants, **habits}, find=faces.find) as emulator:
        real = emulator.url.removesuffix("/v1") + path
        yield real, _EMULATED_HOST + path, _EMULATED_KEY, habits.get("models", ["words"])[0]


def _habits(persona: Path) -> dict[str, Any]:
    """The mapping of a persona's file. Raises ConfigError."""
    try:
        habits = yaml.safe_load(persona.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{persona}: cannot be read: {' '.join(str(error).split())}") from None
    known = ", ".join(sorted(HABITS))
    if not isinstance(habits, dict):
        raise ConfigError(f"{persona}: not a mapping of habits", hint=f"Known are: {known}.")
    if strange := [name for name in habits if name not in HABITS]:
        raise ConfigError(f"{persona}: {strange[0]!r} is no habit", hint=f"Known are: {known}.")
    return habits
