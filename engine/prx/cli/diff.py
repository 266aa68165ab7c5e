"""prx diff: prints what a change of provider files changes in requests and readings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from prx.cli import options, output
from prx.compare import sides
from prx.compare.calls import CALLS
from prx.compare.changes import ABSENT, PROVIDER, Change, Group, compare
from prx.compare.sides import Side

_USAGE = "Write A B for two files or folders, or --git REVISION [REVISION] [PATH]."
_LONGEST = 60  # characters of a value that are shown
_MOST_NAMES = 6  # providers of a group that are listed


@click.command()
@click.argument("given", metavar="A [B] [PATH]", nargs=-1, required=True, type=click.Path())
@click.option("--git", "in_git", is_flag=True, help="A and B are revisions; without B, the working tree.")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def diff(given: tuple[str, ...], in_git: bool, as_json: bool) -> None:
    """Show what changes in the requests and readings of providers from A to B: two files, two folders, or two revisions.

    Each version builds the requests of a fixed set of calls, for its models and for the pattern of each override. Nothing
    is sent, and no key is read. What is not a path is a revision; with --git both are, and PATH is the file or folder
    to compare (providers.d, where there is one).

    \b
    prx diff old.yaml new.yaml
    prx diff --git main providers.d/mine.yaml
    exit code   0 no change, 1 changes, 2 bad input
    """
    with options.bad_input(), _sides(given, in_git=in_git) as (before, after):
        groups = compare(before, after)
    faults = dict.fromkeys([*before.faults, *after.faults])
    if as_json:
        output.print_json({"changes": [row for group in groups for row in _plain(group)], "faults": list(faults)})
    else:
        output.echo("\n\n".join(map(_block, groups)) if groups else "no change")
    for sentence in faults:
        output.echo(f"prx: {sentence}", err=True)
    if faults or groups:
        raise click.exceptions.Exit(2 if faults else 1)


@contextlib.contextmanager
def _sides(given: Sequence[str], *, in_git: bool) -> Iterator[tuple[Side, Side]]:
    paths = [Path(each) for each in given]
    in_git = in_git or not paths[0].exists()
    if len(given) > (3 if in_git else 2):
        output.refuse("too many arguments", _USAGE)
    if not in_git:
        if len(given) < 2:
            output.refuse("only one side is named", _USAGE)
        yield sides.of_paths(*paths)
        return
    first, *rest = given
    path = Path(rest.pop()) if rest and (len(rest) == 2 or Path(rest[-1]).exists()) else None
    with sides.of_revisions(first, rest[0] if rest else None, path) as both:
        yield both


def _block(group: Group) -> str:
    rows = [(_calls(change, names), change.path, _values(change)) for change, names in group.rows]
    widths = [max(len(row[place]) for row in rows) for place in (0, 1)]
    lines = [f"  {first:{widths[0]}}  {path:{widths[1]}}  {values}".rstrip() for first, path, values in rows]
    return "\n".join([_heading(group), *lines])


def _heading(group: Group) -> str:
    names = [f"{name} (models {pattern})" if pattern else name for name, pattern in group.subjects]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    count = f"{len({name for name, _ in group.subjects})} providers: " if len(names) > 1 else ""
    return f"{count}{', '.join(names[:_MOST_NAMES])}{more}"


def _calls(change: Change, names: Sequence[str]) -> str:
    if change.path == PROVIDER:
        return "file"
    return "reading" if not names else "every call" if len(names) == len(CALLS) else ", ".join(names)


def _values(change: Change) -> str:
    """What was and what is; of two lists only what one of them lacks."""
    before, after = change.before, change.after
    if isinstance(before, list) and isinstance(after, list):
        gone, new = ([item for item in one if item not in other] for one, other in ((before, after), (after, before)))
        parts = [
            f"{word} {', '.join(map(_value, items))}" for word, items in (("without", gone), ("with", new)) if items
        ]
        return "; ".join(parts) or "in another order"
    return f"{_value(before)} → {_value(after)}"


def _value(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    text = value if isinstance(value, str) and value.isprintable() and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _plain(group: Group) -> Iterator[dict[str, Any]]:
    providers = [{"provider": name, "models": pattern or "*"} for name, pattern in group.subjects]
    for change, names in group.rows:
        yield {"providers": providers, "calls": list(names), "path": change.path} | _sides_of(change)


def _sides_of(change: Change) -> dict[str, Any]:
    """The two values, without the key of one that is absent."""
    return {key: value for key, value in (("before", change.before), ("after", change.after)) if value is not ABSENT}
