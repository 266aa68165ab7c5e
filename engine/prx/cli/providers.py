"""prx providers, show, check: what there is, what is in it, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from prx import resources
from prx.cli import options
from prx.client import Client
from prx.errors import ConfigError, Error
from prx.spec.check import check_file
from prx.spec.document import Problem


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.settings
def providers(as_json: bool, config: str | None, folders: tuple[str, ...]) -> None:
    """List every provider, packaged or dropped in."""
    with options.client(config, folders) as client:
        rows = _rows(client)
    if as_json:
        options.print_json(rows)
    else:
        options.print_table(
            ("id", "aliases", "dialect", "base URL"),
            [(row["id"], ", ".join(row["aliases"]), row["dialect"], row["base_url"] or "api_url") for row in rows],
        )


def _rows(client: Client) -> list[dict[str, Any]]:
    """One row a provider; a faulty file is reported on stderr and harms no other."""
    rows = []
    for entry in client.catalog.entries():
        try:
            spec = client.catalog.load(entry).spec()
        except Error as error:
            click.echo(f"prx: {error}", err=True)
            continue
        rows.append(
            {
                "id": spec.id,
                "aliases": list(spec.aliases),
                "name": spec.name,
                "dialect": spec.dialect,
                "base_url": spec.base_url,
                "file": str(entry.path),
            }
        )
    return rows


@click.command()
@click.argument("name", metavar="ID", shell_complete=options.complete_provider)
@click.option("--resolved", is_flag=True, help="With everything it extends.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.settings
def show(name: str, resolved: bool, as_json: bool, config: str | None, folders: tuple[str, ...]) -> None:
    """Print a provider's file, or all that it comes to."""
    with options.client(config, folders) as client:
        catalog = client.catalog
        entry = catalog.entry(name) or (catalog.base_entry(name) if name in catalog.dialects() else None)
        definition = catalog.load(entry) if entry else catalog.get(name)
    if as_json:
        options.print_json(definition.raw)
    elif resolved:
        click.echo(_yaml(definition.raw), nl=False)
    else:
        click.echo(definition.entry.path.read_text(encoding="utf-8"), nl=False)


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    return text


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the faults as JSON.")
@options.settings
def check(files: tuple[Path, ...], as_json: bool, config: str | None, folders: tuple[str, ...]) -> None:
    """Check provider files, or folders of them: every fault, with its place and what to write instead."""
    with options.client(config, folders) as client:
        found = {path: check_file(path, client.catalog)[1] for path in _files(files)}
    problems = [problem for row in found.values() for problem in row]
    if as_json:
        options.print_json([_plain(problem) for problem in problems])
    else:
        for path, row in found.items():
            click.echo("\n".join(map(str, row)) if row else f"{path}: good")
    if problems:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("name", type=click.Choice(["provider", "config"]), default="provider")
@click.option("--path", "as_path", is_flag=True, help="Print where the schema is, for an editor's modeline.")
def schema(name: str, as_path: bool) -> None:
    """Print the JSON Schema of provider files, or of config.toml."""
    path = resources.folder("schemas") / f"{name}.schema.json"
    click.echo(path if as_path else path.read_text(encoding="utf-8"), nl=as_path)


def _files(given: tuple[Path, ...]) -> list[Path]:
    files = [file for path in given for file in (_in(path) if path.is_dir() else [path])]
    if not files:
        raise ConfigError(f"{given[0]}: no .yaml file in this folder")
    return files


def _in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.y*ml") if path.suffix in (".yaml", ".yml") and path.is_file())


def _plain(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "text": problem.text,
    }
