"""Asking an endpoint what it is: the answer is a provider's file, and the evidence for every line of it.

doors finds what is spoken and where, questions what it can do, write makes the file. line sends every request, by
way of an ordinary client. Nothing here knows an API: the dialects' own files do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prx.errors import sealed
from prx.mask import Mask
from prx.probe import write
from prx.probe.doors import Search
from prx.probe.draft import Draft
from prx.probe.findings import Finding, told
from prx.probe.interview import Interview
from prx.probe.line import Line
from prx.spec.document import printable
from prx.spec.loader import Loader
from prx.urls import origin


@dataclass(frozen=True)
class Order:
    """What is to be probed, and how.

    key_env  the name of the key's variable, "" for no key
    env      what the environment says beside the key
    folders  further folders of providers and dialects
    limit    requests at most
    say      takes a finding as soon as there is one
    wait     takes a sentence about waiting
    """

    url: str
    id: str
    key: str = field(default="", repr=False)
    key_env: str = ""
    model: str = ""
    limit: int = 40
    pause: float = 0.2
    date: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    folders: tuple[str, ...] = ()
    say: Callable[[Finding], None] = lambda _finding: None
    wait: Callable[[str], None] = lambda _sentence: None


@dataclass(frozen=True)
class Report:
    """What came of it. text: the file."""

    id: str
    dialect: str
    base_url: str
    model: str
    requests: int
    findings: tuple[Finding, ...]
    text: str

    @property
    def open(self) -> list[str]:
        return write.open_questions(list(self.findings))

    def plain(self) -> dict[str, Any]:
        rows = {name: getattr(self, name) for name in ("id", "dialect", "base_url", "model", "requests")}
        return {**rows, "findings": [finding.plain() for finding in self.findings], "file": self.text}


@sealed
def probe(order: Order, catalog: Loader) -> Report:
    """Ask, and write. Raises Error where nothing chats at the URL."""
    with tempfile.TemporaryDirectory(prefix="prx-probe-") as name:
        folder = Path(name)
        line = Line(order.key, folder, order.folders, order.env, order.limit, order.pause, order.wait)
        try:
            told = replace(order, say=lambda finding: order.say(_safe(finding, line.mask)))
            return _report(told, catalog, line, folder)
        finally:
            line.close()


def _report(order: Order, catalog: Loader, line: Line, folder: Path) -> Report:
    search = Search(line, catalog, order.url, order.id, order.model, order.say)
    found = search.run()
    line.model = found.model
    first = _first(search, found.draft, found.answer.asked, found.model, order)
    interview = Interview(line, found, order.say)
    interview.run()
    learned = [first, *interview.findings, *write.uncounted(interview.findings), *_not_asked()]
    findings = [_safe(finding, line.mask) for finding in learned]
    draft = interview.draft.with_auth({**interview.draft.auth, **_env(order, catalog, findings)})
    count = len(found.names.names) if found.names else 0
    text = _text(order, draft, write.flagged(findings, found.model, count))
    _check(text, order.id, folder, catalog)
    return Report(order.id, draft.raw["extends"], draft.base_url, found.model, line.spent, tuple(findings), text)


def _first(search: Search, draft: Draft, asked: str, model: str, order: Order) -> Finding:
    """The door itself: what is spoken there, with which key, by which model."""
    overlay = {
        "extends": draft.raw["extends"],
        "base_url": draft.base_url,
        "auth": draft.auth,
        "models": {"default": model},
        "source": [f"asked by prx probe, {order.date}"],
    }
    how = "a chat came through" + (f", {search.refused}" if search.refused else "")
    finding = Finding("dialect", "yes", how, asked, overlay=overlay)
    order.say(replace(finding, how=f"{draft.raw['extends']} at {draft.base_url}, {how}; asked is {told(model)}"))
    return finding


def _env(order: Order, catalog: Loader, findings: list[Finding]) -> dict[str, Any]:
    """The key's variable, unless a packaged provider has it for another host: there the file could not use it."""
    homes = catalog.claims.get(order.key_env.upper(), ())
    if not order.key or not homes or any("$" not in home and origin(home) == origin(order.url) for home in homes):
        return {"env": order.key_env} if order.key else {}
    how = f"{order.key_env} belongs to {homes[0]}, so this file does not name it; give the key in config.toml"
    findings.append(Finding("key's variable", "open", how))
    return {}


def _safe(finding: Finding, mask: Mask) -> Finding:
    """Without the key, should the server have told it back, and on one line: it becomes a comment of a file."""
    return replace(finding, how=printable(mask.text(finding.how)))


def _not_asked() -> list[Finding]:
    return [Finding("audio", "open", "not asked", capability="audio")]


def _text(order: Order, draft: Draft, findings: list[Finding]) -> str:
    """The file."""
    value = write.content({**draft.raw, "base_url": draft.base_url}, findings)
    left = write.open_questions(findings)
    rest = ["", "Not learned:", *(f"- {line}" for line in left)] if left else []
    return write.text(value, write.notes(findings), rest, order.date)


def _check(text: str, name: str, folder: Path, catalog: Loader) -> None:
    """What is handed out is a good file. Raises Error with its faults."""
    path = folder / "made" / f"{name}.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    problems = catalog.check(path)[1]
    if problems:
        raise RuntimeError(f"the file that came of it has faults: {'; '.join(map(str, problems))}")


__all__ = ["Finding", "Order", "Report", "probe"]
