"""Every key of `calls` does something: tests/kinds/keys.yaml has a case for each, of each kind that reads it, which fails without it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from helpers import data_files
from helpers.driver_without_io import holds, play_kind

from prx import resources
from prx.spec.model import KINDS_OF_CALLS, OF_ALL_ANSWERS

CASES = data_files.read(Path(__file__).parent / "kinds" / "keys.yaml")
BLOCKS = (
    "response",
    "response.row",
)  # the keys of a form that have keys of their own; `tokens` is the block of response.tokens
OF_SOME = {
    "embed": {"most", "most_tokens", "packed"},
    "moderate": {"most", "most_tokens"},
    "transcribe": {"encoding", "query"},
    "speech": {"packed"},
}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["kind"])


def keys_of(form, path=""):
    """The keys of a form as dotted paths: those of the schema, not what stands in a template."""
    for key, value in form.items():
        yield path + key
        if path + key in BLOCKS:
            yield from keys_of(value, f"{path}{key}.")


def view(case, calls):
    spec = {"extends": "json-http", **({"calls": calls} if calls is not None else {})}
    given = dict(case["call"])
    if "file" in given:
        given["file"] = (given["file"][0], given["file"][1].encode())
    return play_kind(case["kind"], spec, given, case["answers"]).view()


def all_hold(case, seen):
    return all(holds(condition, seen) for condition in case["hold"])


@each_case
def test_key(case):
    seen = view(case, {case["kind"]: case["form"]})
    for condition in case["hold"]:
        assert holds(condition, seen), f"{condition}\n{json.dumps(seen, indent=1, default=str)}"


@each_case
def test_key_matters(case):
    assert not all_hold(case, view(case, None)), "calls makes no difference"
    assert not all_hold(case, view(case, {})), "the kind makes no difference"
    for key in keys_of(case["form"]):
        form = copy.deepcopy(case["form"])
        *way, last = key.split(".")
        block = form
        for name in way:
            block = block[name]
        del block[last]
        assert not all_hold(case, view(case, {case["kind"]: form})), f"{key} makes no difference"


def test_every_key_of_each_kind_has_a_case():
    covered = {(case["kind"], key) for case in CASES for key in keys_of(case["form"])}
    needed = set()
    for kind, (_, answer, row) in KINDS_OF_CALLS.items():
        found = {*answer, *OF_ALL_ANSWERS, "tokens", *(["row"] if row else [])}
        keys = {"endpoint", "request", "response", *OF_SOME.get(kind, ())}
        keys |= {f"response.{key}" for key in found} | {f"response.row.{key}" for key in row}
        needed |= {(kind, key) for key in keys}
    assert covered == needed


def test_no_key_of_the_schema_is_forgotten():
    """Keys that a kind reads are those of the model; here, that the schema has no others, and each is in some case."""
    defs = json.loads((resources.folder("schemas") / "provider.schema.json").read_text())["$defs"]
    keys = {*defs["call_form"]["properties"]}
    keys |= {f"response.{key}" for key in defs["call_answer"]["properties"]}
    keys |= {f"response.row.{key}" for key in defs["call_row"]["properties"]}
    assert keys == {key for case in CASES for key in keys_of(case["form"])}
    assert {*defs["calls"]["properties"]} == {case["kind"] for case in CASES}
    assert set(defs["call_form"]["properties"]["encoding"]["enum"]) == {"json", "multipart", "file"}
