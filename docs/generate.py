"""The generated pages: docs/spec.md from the schemas, docs/cli.md from the commands, docs/providers.md and the README's
table from the provider files. `--check` only compares.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
import yaml

from prx.cli import prx
from prx.conformance.evidence import CAPABILITIES, kinds
from prx.conformance.evidence import glance as evidence_at
from prx.spec import schema
from prx.spec.loader import Loader
from prx.spec.model import KINDS_OF_CALLS, Spec
from prx.spec.read import read_quickly

HERE = Path(__file__).parent
RECORDED = {path.name for path in (HERE.parent / "cassettes").iterdir() if path.is_dir()}


def spec_page() -> str:
    """The reference of both schemas: a section a block, a row a key."""
    lines = [
        "# The vocabulary",
        "",
        "*You want to look up a key of a provider's file, or of config.toml.*",
        "",
        "Generated from `schemas/`; edit those. What a line says is what the engine does: each key has a test that fails without it.",
        "",
        "## A provider file",
        "",
        schema.load("provider")["description"],
        "",
    ]
    lines += _blocks("provider")
    lines += ["## config.toml", "", schema.load("config")["description"], ""]
    lines += _blocks("config")
    return "\n".join(lines)


def _blocks(name: str) -> list[str]:
    whole = schema.load(name)
    lines = _table(whole, whole)
    for definition, node in whole["$defs"].items():
        lines += [f"### {definition}", "", f"**{node['title']}.** {node['description']}", ""]
        lines += _table(node, whole) if node.get("properties") else _example(node)
    return lines


def _table(node: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    rows = ["| key | what | type | example |", "|---|---|---|---|"]
    for key, child in node["properties"].items():
        target = whole["$defs"][child["$ref"].rpartition("/")[2]] if "$ref" in child else {}
        merged = {**target, **child}
        example = f"`{_short(merged['examples'][0])}`" if merged.get("examples") else ""
        required = " **(needed)**" if key in node.get("required", ()) else ""
        required += f" Default: `{_short(merged['default'])}`." if "default" in merged else ""
        rows.append(
            f"| `{key}` | **{merged['title']}.** {_cell(merged['description'])}{required} | {_type(child, merged)} | {_cell(example)} |"
        )
    return [*rows, ""]


def _type(child: dict[str, Any], merged: dict[str, Any]) -> str:
    if "enum" in merged:
        return ", ".join(f"`{word}`" for word in merged["enum"])
    if "$ref" in child:
        name = child["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    inner = merged.get("additionalProperties")
    if isinstance(inner, dict) and "$ref" in inner:
        name = inner["$ref"].rpartition("/")[2]
        return f"mapping to [{name}](#{name})"
    kind = merged.get("type", "any" if "const" not in merged else "number")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _example(node: dict[str, Any]) -> list[str]:
    words = [f"One of {', '.join(f'`{word}`' for word in node['enum'])}.", ""] if "enum" in node else []
    return words + [f"For example `{_short(example)}`." for example in node.get("examples", ())[:1]] + [""]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:88]}…"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def cli_page() -> str:
    """The help of every command, as it prints itself."""
    lines = [
        "# The command line",
        "",
        "*You want to know what a command takes.*",
        "",
        "Generated from the commands' own help.",
        "",
    ]
    lines += [
        "Exit codes: 0 done · 1 your or the provider's fault, said in a sentence · 2 wrong usage · 3 a fault of prx · 130 interrupted.",
        "",
    ]
    group = click.Context(prx)
    for name in prx.list_commands(group):
        command = prx.get_command(group, name)
        context = click.Context(command, info_name=f"prx {name}", max_content_width=110, terminal_width=110)
        lines += [f"## prx {name}", "", "```", command.get_help(context), "```", ""]
    return "\n".join(lines)


def readme() -> str:
    """The README with its tables made anew."""
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    for name, make in (("dialects", _dialects), ("evidence", _evidence)):
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = before + start + "\n".join(make()) + "\n" + end + after
    return text


def _evidence() -> list[str]:
    """How many providers and recorded cases there are of each kind of evidence."""
    catalog = Loader()
    recordings = HERE.parent / "cassettes"
    cases = Counter(evidence_at(path).kind for path in recordings.glob("*/*.yaml"))
    strongest = Counter(
        next(iter(kinds(spec, recordings / spec.id)), "none")
        for spec in (catalog.load(entry).spec() for entry in catalog.entries())
    )
    says = {
        "live": "recorded from the provider itself",
        "server": "recorded from a real server of it on a machine of ours",
        "documented": "read in its pages, or in a catalogue that cites them",
        "emulated": "recorded from our emulator: our half of the exchange, and no word of the provider's",
        "none": "nothing but its address and key",
    }
    rows = [
        "",
        "| evidence | what it is | providers whose strongest it is | recorded cases that pass |",
        "|---|---|---|---|",
    ]
    rows += [f"| {kind} | {text} | {strongest[kind]} | {cases[kind] or ''} |" for kind, text in says.items()]
    return [*rows, ""]


def _dialects() -> list[str]:
    """A row a dialect: what it is, the length of its file, and who speaks it."""
    catalog = Loader()
    speakers: dict[str, list[str]] = {}
    for entry in catalog.entries():
        spec = catalog.load(entry).spec()
        if "chat" in spec.endpoints:  # one without speaks none of the dialects, which are APIs of chats
            speakers.setdefault(spec.dialect, []).append(entry.id)
    rows = ["", "| dialect | API | lines | providers |", "|---|---|---|---|"]
    for name in sorted(speakers, key=lambda name: -len(speakers[name])):
        speakers[name].sort(key=lambda speaker: (speaker not in RECORDED, speaker))
        entry = catalog.base_entry(name)
        spec = catalog.load(entry).spec()
        lines = len(entry.path.read_text(encoding="utf-8").splitlines())
        shown = ", ".join(speakers[name][:6]) + (f" and {more} more" if (more := len(speakers[name]) - 6) > 0 else "")
        rows.append(
            f"| [`{name}`](providers.d/_dialects/{name}.yaml) | [{spec.name}]({spec.docs}) | {lines} | {shown} |"
        )
    return [*rows, ""]


def providers_page() -> str:
    """Every packaged provider: a table a family, a row a provider."""
    catalog = Loader()
    specs = {entry.id: catalog.load(entry).spec() for entry in catalog.entries()}
    shapes = {catalog.load(catalog.base_entry(name)).spec().docs for name in catalog.dialects()}
    own = {entry.id for entry in catalog.entries() if "docs" in read_quickly(entry.path)}
    docs = {name: spec.docs if name in own or spec.docs not in shapes else "" for name, spec in specs.items()}
    families: dict[str, list[str]] = yaml.safe_load((HERE / "families.yaml").read_text(encoding="utf-8"))
    placed = sorted(name for names in families.values() for name in names)
    if placed != sorted(specs):
        odd = sorted({name for name in placed if placed.count(name) > 1} | set(placed) ^ set(specs))
        sys.exit(f"docs/families.yaml: {', '.join(odd)}: in no family, in several, or no provider")
    lines = [
        "# The providers",
        "",
        "*You want to know which providers there are, and what is known of each.*",
        "",
        "Generated from `providers.d/` and `docs/families.yaml`.",
        "",
        *_counts(specs, families),
    ]
    for family, names in families.items():
        lines += [f"## {family}", "", "| id | name | dialect | base URL | key | known | other names |"]
        lines += ["|---|---|---|---|---|---|---|", *(_provider_row(specs[name], docs[name]) for name in names), ""]
    return "\n".join(lines)


def _counts(specs: dict[str, Spec], families: dict[str, list[str]]) -> list[str]:
    dialects = [spec.dialect for spec in specs.values()]
    by_dialect = ", ".join(
        f"{dialects.count(name)} by {name}"
        for name in sorted(set(dialects), key=lambda name: (-dialects.count(name), name))
    )
    recorded = len(RECORDED & specs.keys())
    return [
        f"{len(specs)} providers: {by_dialect}.",
        f"{', '.join(f'{len(names)} {family.lower()}' for family, names in families.items())}.",
        "",
        f"{recorded} have recordings in `cassettes/`, each of which says whether the provider itself, a real server or our emulator",
        f"was recorded. The other {len(specs) - recorded} are documented only: what their files say was read, and nobody with a key has recorded it yet.",
        "",
        "**known** is what was read about a capability or a kind of call, with the date of what was read: a name is a yes, *no* before it a no. What is not named differs",
        "from model to model, or nothing was found; prx then sends what is asked and reports what the provider says.",
        "",
    ]


def _provider_row(spec: Spec, docs: str) -> str:
    """A row. A page about the dialect alone is none about the provider, and no link."""
    aliases = ", ".join(f"`{alias}`" for alias in spec.aliases)
    name = f"[{spec.name}]({docs})" if docs else spec.name
    parts = spec.auth.credential
    credential = (
        [" + ".join(f"`{name}`" for name in parts.values())]
        if isinstance(parts, dict)
        else [f"`{name}`" for name in parts]
    )
    key = ", ".join([*(f"`{variable}`" for variable in spec.auth.env), *credential]) or (
        "" if spec.auth.required else "none"
    )
    url = f"`{spec.base_url}`" if spec.base_url else "`api_url`"
    url = f"{url}, **{spec.retired}**" if spec.retired else url
    return f"| `{spec.id}` | {_cell(name)} | {spec.dialect} | {url} | {key or 'api_key'} | {_known(spec)} | {aliases} |"


_CALLS = {f"calls.{kind}": kind for kind in KINDS_OF_CALLS}


def _known(spec: Spec) -> str:
    """What the file's evidence says of capabilities, with its kind and its own date."""
    parts = []
    for row in spec.evidence:
        names = [name for name in row.of if row.model == "*" and (name in CAPABILITIES or name in _CALLS)]
        words = ", ".join(_CALLS.get(name) or (name if spec.can(name) else f"no {name}") for name in names)
        parts += [f"{words} ({row.kind}, {row.date})"] if names else []
    return "; ".join(parts)


PAGES = {"spec.md": spec_page, "cli.md": cli_page, "providers.md": providers_page, "../README.md": readme}


def main() -> None:
    stale = []
    for name, make in PAGES.items():
        text = make().rstrip() + "\n"
        path = HERE / name
        if "--check" in sys.argv:
            stale += [name] if not path.exists() or path.read_text(encoding="utf-8") != text else []
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run python docs/generate.py")


if __name__ == "__main__":
    main()
