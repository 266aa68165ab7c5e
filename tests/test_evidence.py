"""The packaged files' evidence: each citation is able to carry its claim, and none of it is taken from a list of models
that says what a whole provider cannot do. What kinds of sources there are, and what each can say, is in sources.yaml.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from prx import resources
from prx.spec.loader import Loader
from prx.spec.read import read_quickly

KINDS = yaml.safe_load((Path(__file__).parent / "sources.yaml").read_text())
FILES = {path.stem: read_quickly(path) for path in sorted(resources.folder("providers.d").glob("*.yaml"))}
ROWS = [(name, row) for name, raw in FILES.items() for row in raw.get("evidence") or ()]
DAY = re.compile(r"20\d\d-\d\d-\d\d$")


def kind_of(source):
    return next((kind for kind in KINDS if re.search(kind["source"], source)), None)


def under(rules, rule):
    """The key of a table that stands for a rule: the longest of those above it."""
    fits = [key for key in rules if key in ("", rule) or rule.startswith(f"{key}.")]
    return max(fits, key=len, default=None)


def faults(row):
    """What speaks against a citation, in sentences."""
    kind = kind_of(row["source"])
    if kind is None:
        return [f"{row['source']!r} is of no kind that tests/sources.yaml knows"]
    found = [f"has no {key}: {row['source']}" for key in ("says", "read") if not row.get(key)]
    found += [f"{key} is no day: {row[key]}" for key in ("date", "read") if not DAY.match(row.get(key, ""))]
    if not found and row["date"] > row["read"]:
        found.append(f"read before it was written: {row['source']}")
    for rule in row["of"]:
        key = under(kind["able"], rule)
        if key is None:
            found.append(f"{kind['kind']}: says nothing of {rule}")
        elif not any(word in row.get("says", "") for word in kind["able"][key]):
            found.append(f"{kind['kind']}: {rule} needs one of {kind['able'][key]} in says")
    return found


def denials(raw):
    """Capabilities that a file denies for all models of its provider, without a source that can."""
    rows = [row for row in raw.get("evidence") or () if not row.get("model")]
    denied = [name for name, can in (raw.get("capabilities") or {}).items() if can is False]
    return [
        name
        for name in denied
        if not any(
            name in row["of"] and under(kind_of(row["source"]).get("denies", ()), name) is not None for row in rows
        )
    ]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name}-{'+'.join(row['of'])[:60]}" for name, row in ROWS])
def test_a_citation_can_carry_its_claim(name, row):
    assert faults(row) == [], name


@pytest.mark.parametrize("name", FILES)
def test_no_capability_is_denied_by_a_list_of_models(name):
    """A refusal before sending is the one thing of a file that is out of date which a user cannot get around."""
    assert denials(FILES[name]) == [], (
        "a false needs a sentence of the vendor or a refusal that was seen; or an override, or nothing"
    )


@pytest.mark.parametrize("name", [name for name, raw in FILES.items() if raw.get("retired")])
def test_a_successor_is_there(name):
    assert Loader().entry(FILES[name]["retired"]["successor"]).id not in ("", name)


GOOD = {
    "of": ["tools"], "kind": "documented", "source": "models.dev in opencode-linux-x64 1.18.33 (npm), groq",
    "says": "tool_call: true in 2 of 2", "date": "2026-09-28", "read": "2026-11-28",
}  # fmt: skip
TOML = "anomalyco/models.dev f3fc69229, providers/groq/provider.toml"
LISTED = "litellm 1.110.2 (PyPI), llms/openai_like/providers.json, groq"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"of": ["stream"]}, "says nothing of stream"),
        ({"of": ["tools"], "says": "api: https://x.example"}, "tools needs one of ['tool_call']"),
        ({"source": TOML, "of": ["tools"]}, "says nothing of tools"),
        ({"source": TOML, "of": ["stream"], "says": "stream = true"}, None),
        ({"source": LISTED, "of": ["stream"], "says": "base_url: https://x.example"}, "says nothing of stream"),
        ({"source": LISTED, "of": ["request.parameters.seed"], "says": "param_mappings: seed -> x"}, None),
        ({"source": "a friend"}, "of no kind"),
        ({"says": ""}, "has no says"),
        ({"read": ""}, "has no read"),
        ({"date": "2026-08"}, "date is no day: 2026-08"),
        ({"date": "2026-12-01"}, "read before it was written"),
    ],
)
def test_a_bad_citation_is_found(change, words):
    found = faults(GOOD | change)
    assert (words is None and found == []) or any(words in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("source", "model", "denied"),
    [
        (None, None, ["vision"]),
        (GOOD["source"], None, ["vision"]),
        (LISTED, None, ["vision"]),
        ("docs.x.example/models", None, []),
        ("someone/client 12", None, []),
        ("docs.x.example/models", "a*", ["vision"]),
    ],
)
def test_a_denial_needs_more_than_a_list(source, model, denied):
    row = {**GOOD, "of": ["vision"], "source": source, "model": model}
    assert denials({"capabilities": {"vision": False, "tools": True}, "evidence": [row] if source else []}) == denied
