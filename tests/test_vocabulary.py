"""Declared means executed: every key and every word of the schema has a case that fails when the engine ignores it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from helpers import data_files
from helpers.driver_without_io import holds, play

from prx import resources

HERE = Path(__file__).parent
LONG = "x" * 2000

# Keys that no played call can show; each with the test that does.
ELSEWHERE = {
    "spec": "test_specs.py::test_invalid",
    "name": "test_specs.py::test_what_people_see_of_a_file",
    "docs": "test_specs.py::test_what_people_see_of_a_file",
    "telemetry_name": "test_otel.py::test_the_conventions_name_of_a_provider",
    "source": "test_specs.py::test_what_people_see_of_a_file",
    "aliases": "test_catalog.py::test_an_alias_finds_its_provider",
    "former_urls": "test_client.py::test_a_former_address_is_known",
    "auth.env": "test_account.py::test_a_key_from_the_environment",
    "auth.required": "test_account.py::test_a_key_that_is_needed",
    "auth.sign=aws4": "test_signing.py::test_what_is_signed_is_what_arrives",
    **dict.fromkeys(
        ("auth.aws4", "auth.aws4.service", "auth.aws4.region"), "test_signing.py::test_what_is_signed_is_what_arrives"
    ),
    **dict.fromkeys(
        ("auth.aws4.access_id", "auth.aws4.secret", "auth.aws4.session_token"),
        "test_signing.py::test_a_key_of_the_environment",
    ),
    "auth.credential": "test_token.py::test_where_a_credential_comes_from",
    **dict.fromkeys(
        (
            "auth.token.sent",
            "auth.token.sent.style",
            *(f"auth.token.sent.style={style}" for style in ("bearer", "x-api-key", "custom", "query", "none")),
            "auth.token.sent.name",
            "auth.token.sent.template",
        ),
        "test_token.py::test_a_token_may_travel_otherwise",
    ),
    "capabilities.models": "test_client.py::test_models",
    "endpoints.models": "test_client.py::test_models",
    "models": "test_client.py::test_models",
    "models.list": "test_client.py::test_models",
    "models.default": "test_client.py::test_a_default_model_of_the_file",
    "transport": "test_transport.py::test_connect_limit",
    "transport.connect": "test_transport.py::test_connect_limit",
    "transport.first_byte": "test_transport.py::test_first_byte_limit",
    "transport.idle": "test_transport.py::test_idle_limit",
    "transport.total": "test_transport.py::test_total_limit",
    **dict.fromkeys(
        (
            "evidence",
            "evidence.of",
            "evidence.kind",
            "evidence.kind=documented",
            "evidence.source",
            "evidence.says",
            "evidence.read",
        ),
        "test_conformance_command.py::test_how_a_rule_is_known_is_shown",
    ),
    "evidence.date": "test_client.py::test_a_refusal_says_how_old_its_rule_is",
    "evidence.model": "test_client.py::test_a_refusal_says_how_old_its_rule_is",
    **dict.fromkeys(("retired", "retired.date"), "test_client.py::test_a_retired_provider_is_not_called"),
    "retired.successor": "test_client.py::test_a_retired_provider_is_not_called",
    "deviations": "test_conformance.py::test_a_deviation_takes_the_place_of_a_case",
}
IN_TOKENS = ("auth.jwt", "auth.sign", "auth.token")  # tests/test_token.py has a case for each key of these
KINDS_OF_ERRORS = {
    "errors.rules.kind",
    "errors.statuses",
    "fallbacks.needs",
}  # their words: tests/faults, and `needs` is a capability


def schema_keys() -> set[str]:
    """Every key of the schema as a dotted path, and every word of an enum as path=word."""
    schema = json.loads((resources.folder("schemas") / "provider.schema.json").read_text())
    found: set[str] = set()

    def walk(node, path):
        if "$ref" in node:
            node = {
                **schema["$defs"][node["$ref"].rpartition("/")[2]],
                **{k: v for k, v in node.items() if k != "$ref"},
            }
        dotted = ".".join(path)
        if path:
            found.add(dotted)
            found.update(f"{dotted}={word}" for word in node.get("enum", ()) if dotted not in KINDS_OF_ERRORS)
        # Of serve: tests/test_face_keys.py, of calls: tests/test_kind_keys.py. Of the others: the same blocks again, laid over the file's own.
        if dotted in ("serve", "calls", "fallbacks.then", "overrides"):
            if dotted == "overrides":
                found.update(("overrides.model", "overrides.extends"))
            return
        for name, child in node.get("properties", {}).items():
            walk(child, (*path, name))
        if isinstance(node.get("items"), dict):
            found.update(f"{dotted}={word}" for word in node["items"].get("enum", ()))
        for inner in (node.get("additionalProperties"), node.get("items")):
            if isinstance(inner, dict) and ("properties" in inner or "$ref" in inner):
                walk(inner, path)

    walk(schema, ())
    structure = {"serve", "calls", "auth", "capabilities", "endpoints", "request", "response", "stream", "errors"}
    return found - structure


CASES = [case for file in sorted((HERE / "vocabulary").glob("*.yaml")) for case in data_files.read(file)]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "+".join(case["keys"])[:80])


def run(case, spec):
    answers = json.loads(json.dumps(case.get("answers", [{}])).replace("LONG", LONG))
    played = play(spec, case.get("call"), answers, case.get("pieces", 0), **case.get("policy", {}))
    return played.view()


@each_case
def test_key(case):
    view = run(case, case["spec"])
    for condition in case["hold"]:
        assert holds(condition, view), f"{condition}\n{json.dumps(view, indent=1)}"


@each_case
def test_key_matters(case):
    """Without the key, the case does not hold: an engine that ignored it would be found out."""
    for key in case["keys"]:
        try:
            view = run(case, without(case, key))
        except KeyError:
            continue  # the schema requires this key: a file without it is refused before it is compiled
        assert not all(holds(condition, view) for condition in case["hold"]), f"{key} makes no difference"


def without(case, key):
    if "without" in case:
        return case["without"]
    spec = copy.deepcopy(case["spec"])
    removed = remove(spec, key.partition("=")[0].split("."))
    assert removed, f"{key} is not in the case's spec"
    return spec


def remove(node, path):
    """Take a key out, wherever the names between (of events, rules, parameters …) lead."""
    if isinstance(node, list):
        return any([remove(item, path) for item in node])  # noqa: C419 - every one, not the first
    if not isinstance(node, dict):
        return False
    if path[0] in node:
        if len(path) == 1:
            del node[path[0]]
            return True
        return remove(node[path[0]], path[1:])
    return any([remove(child, path) for child in node.values()])  # noqa: C419 - every one, not the first


def test_every_key_has_a_case():
    covered = {key for case in CASES for key in case["keys"]}
    keys = {key for key in schema_keys() if not key.startswith(IN_TOKENS) or key in ELSEWHERE}
    assert sorted(keys - covered - ELSEWHERE.keys()) == [], "no case"
    assert sorted(covered - keys) == [], "no such key in the schema"
    assert sorted(covered & ELSEWHERE.keys()) == [], "listed twice"


@pytest.mark.parametrize("place", sorted(set(ELSEWHERE.values())))
def test_the_other_tests_are_there(place):
    file, name = place.split("::")
    assert f"def {name}(" in (HERE / file).read_text()
