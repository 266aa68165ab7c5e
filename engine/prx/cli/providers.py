"""prx providers, show, schema: list providers, and print their files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from prx import resources
from prx.cli import options, output
from prx.conformance import cases
from prx.conformance.evidence import kinds, known
from prx.errors import ConfigError, Error
from prx.spec.definition import Definition
from prx.spec.loader import Loader
from prx.spec.model import Fallback, Retired
from prx.spec.resolve import then
from prx.text import nearest

_WIDE = ((0, [0, 2, 4]), (110, [0, 2, 3, 4]), (160, [0, 1, 2, 3, 4]))  # (least width of a terminal, columns that fit)


_recordings = click.option(
    "--cassettes",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of recordings to use as evidence; without it, the packaged one.",
)


@click.command()
@click.option(
    "--search", metavar="TEXT", help="Only those with TEXT in id, alias, name, host, or the name of the key's variable."
)
@_recordings
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.settings
def providers(
    search: str | None, cassettes: Path | None, as_json: bool, config: str | None, folders: tuple[str, ...]
) -> None:
    """List all providers, packaged ones and your own, or those that match a text."""
    rows = _rows(options.session(config, folders).catalog, cassettes or resources.folder("cassettes"))
    if search is not None:
        rows = _found(search, rows)
    if as_json:
        output.print_json(rows)
    else:
        _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    """Print the table, with fewer columns on a narrow terminal, where ids would be cut."""
    cells = [
        (row["id"], ", ".join(row["aliases"]), row["dialect"], ", ".join(row["evidence"]), _address(row))
        for row in rows
    ]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE[-1][0]
    shown = next(places for least, places in reversed(_WIDE) if room >= least)
    headers = ("id", "aliases", "dialect", "evidence", "base URL")
    output.print_table([headers[place] for place in shown], [[row[place] for place in shown] for row in cells])


def _address(row: dict[str, Any]) -> str:
    return str(Retired(**row["retired"])) if row["retired"] else row["base_url"] or "api_url"


def _rows(catalog: Loader, recordings: Path) -> list[dict[str, Any]]:
    """One row for each provider; a faulty file is reported on stderr and left out."""
    rows = []
    for entry in catalog.entries():
        try:
            definition = catalog.load(entry)
            spec = definition.spec()
        except Error as error:
            output.echo(f"prx: {error}", err=True)
            continue
        rows.append(
            {
                "id": spec.id,
                "aliases": list(spec.aliases),
                "name": spec.name,
                "dialect": spec.dialect,
                "base_url": spec.base_url,
                "env": list(spec.auth.env),
                "retired": definition.raw.get("retired"),
                "evidence": kinds(spec, recordings / spec.id),
                "file": str(entry.path),
            }
        )
    return rows


def _found(text: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that match a text; case does not count. Raises ConfigError where none does."""
    found = [row for row in rows if any(text.lower() in word.lower() for word in _words(row))]
    if not found:
        near = nearest(text.lower(), [word for row in rows for word in _words(row)])
        raise ConfigError(f"no provider matches {text!r}{near}")
    return found


def _words(row: dict[str, Any]) -> list[str]:
    """The texts by which a provider can be found."""
    host = row["base_url"].partition("://")[2].partition("/")[0]
    return [row["id"], *row["aliases"], row["name"], host, *row["env"]]


@click.command()
@click.argument("name", metavar="ID|FILE", shell_complete=options.complete_provider)
@click.option("--resolved", is_flag=True, help="With everything it extends.")
@click.option("--evidence", is_flag=True, help="How its capabilities and other rules are known.")
@click.option("--fallbacks", is_flag=True, help="What is tried when a call fails, in this order.")
@_recordings
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.settings
def show(
    name: str,
    resolved: bool,
    evidence: bool,
    fallbacks: bool,
    cassettes: Path | None,
    as_json: bool,
    config: str | None,
    folders: tuple[str, ...],
) -> None:
    """Print a provider's file, or with --resolved its settings with all that it extends."""
    name, folders = options.by_name(name, folders)
    session = options.session(config, folders)
    catalog, configured = session.catalog, name in session.config.providers
    entry = catalog.entry(name) or (catalog.base_entry(name) if name in catalog.dialects() else None)
    definition = catalog.load(entry) if entry else session.accounts.definition(name)
    if retired := definition.spec().retired:
        output.note(f"{definition.id} was {retired}")
    if evidence:
        _evidence(definition, cassettes or resources.folder("cassettes"), as_json=as_json)
    elif fallbacks:
        _fallbacks(definition, as_json=as_json)
    elif as_json:
        output.print_json(definition.raw)
    elif resolved or (configured and not entry):  # a provider that only the configuration has is in no file
        output.file(_yaml(definition.raw))
    else:
        output.file(definition.entry.path.read_text(encoding="utf-8"))


def _fallbacks(definition: Definition, *, as_json: bool) -> None:
    """Print one line for each fallback: its name, whether it is enabled, and what it changes in the next attempt."""
    spec = definition.spec()
    if as_json:
        output.print_json({row.name: {"enabled": row.enabled, "names": list(row.names)} for row in spec.fallbacks})
        return
    rows = [
        (
            row.name,
            "on" if row.enabled and (not row.needs or spec.can(row.needs)) else "off",
            _difference(definition, row),
        )
        for row in spec.fallbacks
    ]
    if not rows:
        output.note("none: a call that fails is not sent in another way.")
    output.print_table(["fallback", "used", "sent again"], rows)
    if any(row.words is not None for row in spec.fallbacks):
        output.note("What an error names is left out, alone, as without_NAME. Remembered by model where it worked.")


def _difference(definition: Definition, row: Fallback) -> str:
    if row.words is None:
        return json.dumps(then(definition.raw["fallbacks"][row.name]), ensure_ascii=False)
    kind = "key of messages and tools" if row.leaves_out is None else "parameter"
    return f"without the {kind} that the error names: {', '.join(row.names.values())}"


def _evidence(definition: Definition, recordings: Path, *, as_json: bool) -> None:
    """Print one line for each rule: the value of a capability in the file, and the evidence for it."""
    spec = definition.spec()
    rows = known(spec, cases.load(), recordings / spec.id)
    if as_json:
        output.print_json({name: row._asdict() for name, row in rows.items()})
        return
    values = {True: "yes", False: "no", None: ""}
    output.print_table(
        ("rule", "", "known", "from", "date", "says", "read"),
        [(name, values[row.value], *row[1:]) for name, row in rows.items()],
    )


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    return text


@click.command()
@click.argument("name", type=click.Choice(["provider", "config", "case"]), default="provider")
@click.option("--path", "as_path", is_flag=True, help="Print where the schema is, for an editor's modeline.")
def schema(name: str, as_path: bool) -> None:
    """Print the JSON Schema of provider files, or of config.toml."""
    path = resources.folder("schemas") / f"{name}.schema.json"
    click.echo(path if as_path else path.read_text(encoding="utf-8"), nl=as_path)
