"""The judge of the request side: what prx builds, held against the types of the vendors' own SDKs.

    python tests/judges/bodies.py DIR… [--strict-ledger]

DIR holds recordings, one JSON file each: {id, dialect, request: {uri, body}, response: {status}}. Each becomes a
canonical call, the call a body in every dialect, with a stream and without; the SDK's types must accept the body,
and every text, picture and tool must be in it. What a dialect has no words for is in ledger.yaml;
such a call is judged without it.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml

HERE = Path(__file__).resolve().parent
# This file bears the name of a library that the SDKs and prx import: its folder is no place to import from.
sys.path[0] = str(HERE.parent)

from judges import vendors  # noqa: E402
from judges.canonical import Json, UnconvertibleError, call_of  # noqa: E402
from judges.shapes import Problem  # noqa: E402

from prx.chat import Call  # noqa: E402
from prx.core.request import build_body  # noqa: E402
from prx.spec import resolve  # noqa: E402
from prx.spec.compile import compile_spec  # noqa: E402
from prx.spec.loader import Loader  # noqa: E402
from prx.spec.model import Spec  # noqa: E402

Step = tuple[str, list[tuple[str, str]]]  # a name, and what must hold of what is there: [(names with dots, pattern), …]


class Row(NamedTuple):
    """A row of the ledger for one dialect: a field of the call that it has no words for, or a refusal that it earns.

    field: names with dots between, lists entered; [name=pattern] takes only what has such a value there, [=pattern]
    only what is such a value itself; nothing there is "". error: a pattern.
    """

    dialect: str
    field: str
    error: str
    reason: str

    def __str__(self) -> str:
        return f"{self.dialect}: {self.field or self.error}"


def ledger(path: Path) -> list[Row]:
    """The file's rows {dialect, field | error, reason}, a list under any of the names taken apart."""

    def each(value: Any) -> list[str]:
        return value if isinstance(value, list) else [value or ""]

    return [
        Row(dialect, field, error, row["reason"])
        for row in yaml.safe_load(path.read_text())
        for dialect in each(row["dialect"])
        for field in each(row.get("field"))
        for error in each(row.get("error"))
    ]


def steps(field: str) -> list[Step]:
    """A row's field, read."""
    found = re.findall(r"(?:^|\.)(\w+)((?:\[[\w.]*=[^\]]*\])*)", field)
    return [(name, re.findall(r"\[([\w.]*)=([^\]]*)\]", conditions)) for name, conditions in found]


def without(value: Any, way: list[Step]) -> Any:
    """A part of a call without what the way leads to; a list that this empties goes too."""
    if isinstance(value, list):
        return [without(item, way) for item in value]
    (name, conditions), rest = way[0], way[1:]
    if not isinstance(value, dict) or name not in value:
        return value
    inner = value[name]
    if isinstance(inner, list) and conditions:
        kept = [left for item in inner if (left := _left(item, conditions, rest)) is not None] or None
    else:
        kept = _left(inner, conditions, rest)
    return {
        other: kept if other == name else item for other, item in value.items() if other != name or kept is not None
    }


def _left(item: Any, conditions: list[tuple[str, str]], rest: list[Step]) -> Any:
    if not all(re.fullmatch(pattern, str(_at(item, names))) for names, pattern in conditions):
        return item
    return without(item, rest) if rest else None


def _at(item: Any, names: str) -> Any:
    for name in names.split(".") if names else ():
        item = item.get(name, "") if isinstance(item, dict) else ""
    return item


def trimmed(call: Json, rows: list[Row]) -> Json:
    """A call without the rows' fields, and without messages that have nothing left to say."""
    fields = [row.field for row in rows if row.field]
    if not fields:
        return call
    for field in fields:
        call = without(call, steps(field))
    said = [each for each in call.get("messages", ()) if each.get("content") or each.get("tool_calls")]
    return {"tools": [], "tool_choice": None, **call, "messages": said}


class Judge:
    """prx's dialects and the ledger; counts what it sees. uses: how many builds needed a row."""

    def __init__(self, rows: list[Row]) -> None:
        catalog = Loader()
        provider = {"spec": 1, "id": "judged", "base_url": "https://api.example/v1"}
        resolved = {
            name: resolve.resolve({**provider, "extends": name}, catalog.dialect_or_provider) for name in vendors.BODIES
        }
        self.specs = {name: compile_spec(raw) for name, raw in resolved.items()}
        self.rows = rows
        self.uses: Counter[Row] = Counter()
        self.counts = {name: Counter[str]() for name in self.specs}

    def judge(self, dialect: str, call: Json, *, stream: bool) -> list[Problem]:
        """Build a call and have it judged; on refusal once more without what the ledger excuses."""
        check = functools.partial(_refusals, self.specs[dialect], call, stream=stream)
        found = check([])
        rows = [row for row in self.rows if row.dialect == dialect] if found else []
        rows = [row for row in rows if row.error or without(call, steps(row.field)) != call]
        needed = []
        if found:
            found = check(rows)
            needed = [row for row in rows if check([other for other in rows if other != row]) != found]
        self.uses.update(needed)
        count = self.counts[dialect]
        count.update(["judged", "refused" if found else "accepted", *(["ledgered"] if needed else [])])
        return found


def _refusals(spec: Spec, call: Json, rows: list[Row], *, stream: bool) -> list[Problem]:
    call = trimmed(call, rows)
    made = Call(**{**call, "messages": tuple(call["messages"]), "tools": tuple(call["tools"])}, stream=stream)
    try:
        body = json.loads(json.dumps(build_body(spec, made)))
    except Exception as error:  # whatever prx raises for a call that a client made is a refusal
        found = [Problem("", f"prx refuses: {type(error).__name__}: {error}")]
    else:
        found = [*vendors.refusals(spec.dialect, body, stream=stream), *_lost(call, body)]
    excuses = [row.error for row in rows if row.error]
    return [each for each in found if not any(re.search(excuse, str(each)) for excuse in excuses)]


def _lost(call: Json, body: Any) -> Iterator[Problem]:
    """What of the conversation and the tools did not get into a body."""
    arrived = "\n".join(_strings(body))
    for place, message in enumerate(call["messages"]):
        for text in _said(message.get("content")):
            parsed = message.get("role") == "tool" and text.lstrip().startswith("{")
            if text.strip() not in arrived and not parsed:
                yield Problem(f"messages[{place}]", f"not in the body: {text[:60]!r}")
    for place, tool in enumerate(call["tools"]):
        name = (tool.get("function") or tool.get("custom") or {}).get("name") or ""
        if name not in arrived:
            yield Problem(f"tools[{place}]", f"not in the body: {name!r}")


def _said(content: Any) -> Iterator[str]:
    for part in content if isinstance(content, list) else [{"text": content}]:
        texts = _strings({**part, "type": None}) if isinstance(part, dict) else [part or ""]
        longest = max(texts, key=len, default="")
        yield longest.partition(";base64,")[2] or longest


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(item)


@click.command(help=__doc__)
@click.argument("folders", nargs=-1, required=True, metavar="DIR…", type=click.Path(exists=True, path_type=Path))
@click.option("--strict-ledger", is_flag=True, help="A row that no recording needs is an error.")
def main(folders: tuple[Path, ...], strict_ledger: bool) -> None:
    judge = Judge(ledger(HERE / "ledger.yaml"))
    unconverted = 0
    for path in sorted(path for folder in folders for path in folder.rglob("*.json")):
        recording = json.loads(path.read_text())
        asked = isinstance(recording["request"].get("body"), dict) and recording["response"]["status"] // 100 == 2
        if not asked or recording["dialect"] not in judge.specs:
            continue
        try:
            own, others = call_of(recording)
        except UnconvertibleError as why:
            unconverted += 1
            click.echo(f"{recording['id']}: no canonical form: {why}")
            continue
        for dialect in judge.specs:
            call = own if dialect == recording["dialect"] else others
            found = [judge.judge(dialect, call, stream=stream) for stream in (False, True)]
            for problem in dict.fromkeys([*found[False], *found[True]]):
                click.echo(f"{recording['id']} in {dialect}: {problem}")
    sys.exit(_summary(judge, unconverted, strict=strict_ledger))


def _summary(judge: Judge, unconverted: int, *, strict: bool) -> int:
    columns = ("judged", "accepted", "refused", "ledgered")
    rows = [("dialect", *columns), *((name, *map(count.__getitem__, columns)) for name, count in judge.counts.items())]
    click.echo("\n" + "\n".join(f"{name:20}" + "".join(f"{number:>10}" for number in rest) for name, *rest in rows))
    used = f"{len(judge.rows)} rows, {len(judge.uses)} needed"
    click.echo(f"\n{unconverted} recordings without a canonical form; ledger: {used}")
    stale = [row for row in judge.rows if row not in judge.uses] if strict else []
    for row in stale:
        click.echo(f"no recording needs the ledger's row {row}")
    total = sum(judge.counts.values(), Counter[str]())
    return 1 if stale or total["refused"] or not total["judged"] else 0


if __name__ == "__main__":
    main()
