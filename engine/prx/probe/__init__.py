"""Probes an unknown endpoint; the result is a provider's file, with the evidence for every line of it.

doors finds the dialect and the base URL, questions the capabilities, embeddings one further kind of call, and write makes the file. line sends every request
through an ordinary client. No API is known here: the dialects' own files describe them.
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
    """The settings of a probe.

    url      of the server, with or without the path of its API
    id       of the provider in the new file
    key_env  name of the environment variable that holds the key, "" for no key
    model    to call, "" for one from the server's list
    env      further environment variables
    folders  further folders of providers and dialects
    limit    the most requests to send
    pause    seconds between two requests
    date     YYYY-MM-DD, for the file
    say      called with each finding
    wait     called with a sentence while the server is busy
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
    """The result of a probe. requests: how many were sent; text: of the new file."""

    id: str
    dialect: str
    base_url: str
    model: str
    requests: int
    findings: tuple[Finding, ...]
    text: str

    @property
    def open(self) -> list[str]:
        """What was not learned, one line each."""
        return write.open_questions(list(self.findings))

    def plain(self) -> dict[str, Any]:
        """The report in JSON's types."""
        rows = {name: getattr(self, name) for name in ("id", "dialect", "base_url", "model", "requests")}
        return {**rows, "findings": [finding.plain() for finding in self.findings], "file": self.text}


@sealed
def probe(order: Order, catalog: Loader) -> Report:
    """Probe a server. Raises Error where no dialect gets an answer to a chat at the URL."""
    with tempfile.TemporaryDirectory(prefix="prx-probe-") as name:
        folder = Path(name)
        line = Line(order.key, folder, order.folders, order.env, order.limit, order.pause, order.wait)
        try:
            masked = replace(order, say=lambda finding: order.say(_safe(finding, line.mask)))
            return _report(masked, catalog, line, folder)
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
    """The first finding: the dialect, its base URL, how the key is sent, and the model."""
    overlay = {
        "extends": draft.raw["extends"],
        "base_url": draft.base_url,
        "auth": draft.auth,
        **({"endpoints": draft.raw["endpoints"]} if "endpoints" in draft.raw else {}),
        "models": {"default": model},
        "source": [f"asked by prx probe, {order.date}"],
    }
    how = "a chat was answered" + (f", {search.refused}" if search.refused else "")
    finding = Finding("dialect", "yes", how, asked, overlay=overlay)
    pattern = ", which is a pattern of models: --model NAME names one" if "*" in model else ""
    order.say(
        replace(finding, how=f"{draft.raw['extends']} at {draft.base_url}, {how}; the model is {told(model)}{pattern}")
    )
    return finding


def _env(order: Order, catalog: Loader, findings: list[Finding]) -> dict[str, Any]:
    """auth.env for the file: the key's variable, unless it is a packaged provider's at another origin, since prx would
    refuse to send it then.
    """
    homes = catalog.claims.get(order.key_env.upper(), ())
    if not order.key or not homes or any("$" not in home and origin(home) == origin(order.url) for home in homes):
        return {"env": order.key_env} if order.key else {}
    how = f"{order.key_env} belongs to {homes[0]}, so this file does not name it; give the key in config.toml"
    findings.append(Finding("key's variable", "open", how))
    return {}


def _safe(finding: Finding, mask: Mask) -> Finding:
    """The finding with the key masked, which a server may have repeated, and in one line: it becomes a comment in YAML."""
    return replace(finding, how=printable(mask.text(finding.how)))


def _not_asked() -> list[Finding]:
    return [Finding("audio", "open", "not asked", capability="audio")]


def _text(order: Order, draft: Draft, findings: list[Finding]) -> str:
    """The text of the file, with what was not learned as comments at its end."""
    value = write.content({**draft.raw, "base_url": draft.base_url}, findings)
    not_learned = write.open_questions(findings)
    rest = ["", "Not learned:", *(f"- {line}" for line in not_learned)] if not_learned else []
    return write.text(value, write.notes(findings), rest, order.date)


def _check(text: str, name: str, folder: Path, catalog: Loader) -> None:
    """Raise RuntimeError where the new file has faults: that would be a fault of prx."""
    path = folder / "made" / f"{name}.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    _, problems = catalog.check(path)
    if problems:
        raise RuntimeError(f"the new provider file has faults: {'; '.join(map(str, problems))}")


__all__ = ["Finding", "Order", "Report", "probe"]
