"""The generated pages: docs/spec.md from the schemas, docs/cli.md from the commands. `--check` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from prx.cli import prx
from prx.spec import schema
from prx.spec.catalog import Catalog

HERE = Path(__file__).parent


def spec_page() -> str:
    """The reference of both schemas: a section a block, a row a key."""
    lines = [
        "# The vocabulary",
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
    lines = ["# The command line", "", "Generated from the commands' own help.", ""]
    lines += [
        "Exit codes: 0 done · 1 your or the provider's fault, said in a sentence · 2 wrong usage · 3 a fault of prx · 130 interrupted.",
        "",
    ]
    for name, command in sorted(prx.commands.items()):
        context = click.Context(command, info_name=f"prx {name}", max_content_width=110, terminal_width=110)
        lines += [f"## prx {name}", "", "```", command.get_help(context), "```", ""]
    return "\n".join(lines)


def readme() -> str:
    """The README with its table of dialects made anew."""
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    before, start, rest = text.partition("<!-- dialects -->\n")
    _, end, after = rest.partition("<!-- end of dialects -->")
    return before + start + "\n".join(_dialects()) + "\n" + end + after


def _dialects() -> list[str]:
    """A row a dialect: what it is, the length of its file, and who speaks it."""
    catalog = Catalog()
    speakers: dict[str, list[str]] = {}
    for entry in catalog.entries():
        speakers.setdefault(catalog.load(entry).spec().dialect, []).append(entry.id)
    rows = ["", "| dialect | API | lines | providers |", "|---|---|---|---|"]
    for name in sorted(speakers, key=lambda name: -len(speakers[name])):
        entry = catalog.base_entry(name)
        spec = catalog.load(entry).spec()
        lines = len(entry.path.read_text(encoding="utf-8").splitlines())
        shown = ", ".join(speakers[name][:6]) + (f" and {more} more" if (more := len(speakers[name]) - 6) > 0 else "")
        rows.append(
            f"| [`{name}`](providers.d/_dialects/{name}.yaml) | [{spec.name}]({spec.docs}) | {lines} | {shown} |"
        )
    return [*rows, ""]


PAGES = {"spec.md": spec_page, "cli.md": cli_page, "../README.md": readme}


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
