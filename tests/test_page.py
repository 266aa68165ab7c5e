"""The report's page as text: whole in itself, safe whatever a provider says, small. tests/page/run.py opens it in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import zlib

import pytest
from page.made_up import report

from prx.conformance import page
from prx.secret import Secret, redact, redact_json

NASTY = "</script><!--<script>alert(1)</script>\u2028\u2029\ud800 & <b> @data@ @script@ @style@"


def block(text):
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0]), found[0]


def unpacked(packed):
    return [value for one in packed for value in json.loads(zlib.decompress(base64.b64decode(one)))]


def test_everything_comes_through():
    made = report(130, 8)
    data, _ = block(page.render(made))
    providers = {row["id"]: (place, row) for place, row in enumerate(data["providers"])}
    assert len(providers) == 130
    assert sorted(case["name"] for case in data["cases"]) == sorted(case["name"] for case in made["cases"])
    details = {case["name"]: unpacked(data["details"][place]) for place, case in enumerate(data["cases"])}
    columns = {case["name"]: place for place, case in enumerate(data["cases"])}
    flags = unpacked(data["flags"])
    for provider in made["providers"]:
        place, row = providers[provider["id"]]
        assert flags[place] == provider["flags"]
        assert row == {name: provider[name] for name in ("id", "name", "dialect", "base_url", "docs", "file")} | {
            "codes": row["codes"], "whys": row["whys"],
        }  # fmt: skip
    for result in made["results"]:
        place, row = providers[result["provider"]]
        column = columns[result["case"]]
        outcome, kind = row["codes"][2 * column : 2 * column + 2]
        assert data["outcomes"][int(outcome)] == result["outcome"]
        assert data["kinds"][int(kind)] == (result["evidence"] or {"kind": "none"})["kind"]
        assert data["reasons"][row["whys"][column]] == result["why"]
        detail = details[result["case"]][place]
        assert {name: detail[name] for name in ("failures", "evidence", "seconds")} == {
            name: result[name] for name in ("failures", "evidence", "seconds")
        }
        for shown, said in zip(detail["exchanges"], result["exchanges"], strict=True):
            for side in ("request", "response"):
                body = said[side]["text"] if "text" in said[side] else json.dumps(said[side]["json"], indent=2)
                rest = {name: value for name, value in said[side].items() if name not in ("json", "text")}
                assert shown[side] == {**rest, "body": body}


def test_a_body_is_kept_to_the_letter():
    """A browser's own JSON would round the first and move the second."""
    made = report(1, 1)
    made["results"][0]["exchanges"] = [
        {
            "request": {"method": "GET", "uri": "/", "headers": {}},
            "response": {
                "status": 200,
                "headers": {},
                "json": {"ns": 12345678901234567890, "b": 1.0, "1": float("nan"), "é": None},
            },
        }
    ]
    (detail,) = unpacked(block(page.render(made))[0]["details"][0])
    assert detail["exchanges"][0]["request"]["body"] == ""
    assert (
        detail["exchanges"][0]["response"]["body"]
        == '{\n  "ns": 12345678901234567890,\n  "b": 1.0,\n  "1": NaN,\n  "é": null\n}'
    )


@pytest.mark.parametrize("name", ["id", "name", "dialect", "base_url", "docs", "file"])
def test_nothing_a_provider_says_leaves_the_block(name):
    made = report(2, 2)
    old = made["providers"][0]["id"]
    made["providers"][0][name] = NASTY
    for result in made["results"]:
        if result["provider"] == old:
            result["provider"] = made["providers"][0]["id"]
            result["why"] = NASTY
    text = page.render(made)
    data, raw = block(text)
    assert NASTY in [provider[name] for provider in data["providers"]]
    assert NASTY in data["reasons"]
    assert raw.isascii()
    assert not set("<>&") & set(raw)
    clean = page.render(report(2, 2))
    assert text.replace(raw, "") == clean.replace(block(clean)[1], "")
    text.encode()


def test_it_loads_nothing():
    text = page.render(report(3, 3))
    shell = text.replace(block(text)[1], "")
    assert not re.findall(
        r"""(?:src|href|action|poster|srcset|data)\s*=\s*["']?\s*(?!data:image/svg)[a-z]*:?//""", shell, re.IGNORECASE
    )
    assert re.findall(r"https?://[^\s\"'`<)]+", shell) == [
        "http://www.w3.org/2000/svg"
    ]  # the name of a language, in the icon
    assert not re.findall(
        r"@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|\bimport\b|innerHTML|insertAdjacent|\beval\b|document\.write",
        shell,
    )
    assert not re.findall(
        r"<(?:link|img|iframe|object|embed|base|form|video|audio)\b(?! rel=\"icon\" href=\"data:)", shell
    )


def test_its_policy_lets_only_its_own_blocks_through():
    text = page.render(report(1, 1))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = {name: values for name, *values in (rule.split() for rule in policy.split(";"))}
    assert rules["default-src"] == ["'none'"]
    for tag in ("script", "style"):
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert blocks
        assert rules[f"{tag}-src"] == [
            f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in blocks
        ]
    assert rules["img-src"] == ["data:"]
    assert not re.findall(r"\s(?:on\w+|style)\s*=\s*\"", text.replace(block(text)[1], ""))


def test_what_was_masked_stays_masked():
    """The page adds nothing of its own: what a recording masked is masked in the plain part and in the packed one."""
    key = "sk-live-4f9a8b7c6d5e4f3a2b1c"
    secrets = [Secret(key)]
    made = report(2, 2)
    for result in made["results"]:
        result["why"] = redact(f"refused: {key}", secrets)
        for exchange in result["exchanges"]:
            exchange["request"]["headers"]["authorization"] = redact(f"Bearer {key}", secrets)
            exchange["response"] = {
                "status": 401,
                "headers": {},
                "text": redact_json(json.dumps({"error": key}), secrets)[1],
            }
    text = page.render(made)
    data, _ = block(text)
    everything = (
        text + json.dumps([unpacked(column) for column in data["details"]]) + json.dumps(unpacked(data["flags"]))
    )
    assert key not in everything
    assert "***" in everything


def test_size():
    """No two exchanges are alike, and as JSON the larger one is some 15 MB. tests/page/run.py has a thousand providers."""
    text = page.render(report(250, 30))
    assert len(text) < 2_000_000
    assert len(page.render(report(36, 7))) < 250_000


def test_order_does_not_matter_and_gaps_are_gaps():
    made = report(20, 5)
    mixed = {
        **made,
        "results": random.Random(1).sample(made["results"], len(made["results"])),
        "providers": made["providers"][::-1],
    }
    assert page.render(made) == page.render(mixed)
    left = [result for result in made["results"] if result["case"] != made["cases"][2]["name"]]
    data, _ = block(page.render({**made, "results": left}))
    assert {row["codes"][4:6] for row in data["providers"]} == {"--"}


def test_cases_of_a_group_stand_together():
    made = report(2, 4)
    for case, group in zip(made["cases"], ("b", "a", "b", "a"), strict=True):
        case["group"] = group
    data, _ = block(page.render(made))
    assert [case["group"] for case in data["cases"]] == ["b", "b", "a", "a"]


@pytest.mark.parametrize(("rows", "cases"), [(0, 0), (0, 5), (3, 0)])
def test_nothing_at_all_is_a_page_too(rows, cases):
    data, _ = block(page.render(report(rows, cases)))
    assert (len(data["providers"]), len(data["cases"])) == (rows, cases)
