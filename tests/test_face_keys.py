"""Every key of `serve` does something: tests/faces/keys.yaml has a case for each, which fails without it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from helpers import data_files
from helpers.driver_without_io import holds

from prx import resources
from prx.chat import Call, Delta, Reply, ToolCallDelta, Usage
from prx.core import kind_results
from prx.core.inbound import Routes, accept, accept_call, fitting, fitting_call
from prx.core.weave import Identity, Weaver
from prx.errors import CapabilityError
from prx.lang.compiled import Expressions
from prx.spec.face import compile_face
from prx.spec.loader import Loader

DATA = data_files.read(Path(__file__).parent / "faces" / "keys.yaml")
SPEC = Loader().get("anthropic").spec("m")
RESULTS = {"embed": kind_results.Embeddings, "count_tokens": kind_results.TokenCount}
each_case = pytest.mark.parametrize("case", DATA["cases"], ids=lambda case: "+".join(case["keys"])[:80])


def view(case, serve):
    """What comes of a case: each part of it is looked at on its own."""
    face = compile_face("mine", serve, Expressions())
    method, _, path = case.get("request", "POST /talk").partition(" ")
    found = Routes([face]).find(method, path)
    unasked = bool(face.unasked and face.unasked({"usage": {"n": 1}, "asked": {}}))
    seen = {
        "unasked": unasked,
        "several": bool(face.several and face.several({"n": 2})),
        "as_it_comes": face.as_it_comes,
        "passes": list(face.passes),
        "adds": list(face.adds),
        "served": {
            kind: {"parameters": sorted(row.parameters), "as_it_comes": row.as_it_comes}
            for kind, row in face.calls.items()
        },
        "found": found and {**vars(found.entrance), "path": dict(found.path)},
    }
    if "body" in case:
        seen |= accepted(face, case, found)
    if "result" in case:
        seen["whole"] = Weaver(face, case["body"], Identity("abc", "served")).call_body(case["kind"], result_of(case))
    reply = reply_of(case.get("reply", {}))
    weaver = Weaver(face, {}, Identity("abc", "served"))
    if case.get("error"):
        seen["failed"] = weaver.error_body(case["error"])
    if "reply" in case:
        seen["whole"] = weaver.body(reply)
    if "deltas" in case:
        deltas = [delta_of(row) for row in case["deltas"]]
        fed = weaver.feed(deltas, lambda: reply)
        text = (fed + (weaver.fail(case["error"]) if case.get("error") else weaver.end(reply))).decode()
        lines = [line.removeprefix("data: ") for line in text.splitlines()]
        seen |= {"text": text, "events": [json.loads(line) for line in lines if line.startswith("{")]}
    names = {"names": ["a", "b/c"], "name": "a"}
    return seen | {"operations": {key: template(names) for key, template in face.operations.items()}}


def accepted(face, case, found):
    path = found.path if found else {}
    try:
        if kind := case.get("kind"):
            asked = accept_call(face, kind, case["body"], path)
            call = Call("m", (), params=asked.params, inputs=asked.inputs)
            spec = Loader().get(case["there"]).spec("m") if "there" in case else None
            left_out = fitting_call(call, face.calls[kind], spec, None)[1] if spec else []
            return {"call": {**vars(asked), "params": dict(asked.params)}, "dropped": left_out, "refused": ""}
        asked = accept(face, case["body"], path)
        dropped = fitting(asked.params, face, SPEC, ())[1] if case.get("elsewhere") else []
    except CapabilityError as error:
        return {"refused": str(error), "dropped": []}
    return {"call": {**vars(asked), "params": dict(asked.params)}, "dropped": dropped, "refused": ""}


def result_of(case):
    """What a call of the case's kind has given."""
    usage = Usage(3, None, 3, None, None)
    return RESULTS[case["kind"]](model="served", usage=usage, **case["result"])


def delta_of(row):
    calls = tuple(ToolCallDelta(*call) for call in row.get("tool_calls", ()))
    return Delta(**{**row, "tool_calls": calls})


def reply_of(row):
    return Reply(**{**row, "usage": Usage(*row["usage"])} if "usage" in row else row)


@each_case
def test_key(case):
    seen = view(case, {**DATA["base"], **case["serve"]})
    for condition in case["hold"]:
        assert holds(condition, seen), f"{condition}\n{json.dumps(seen, indent=1, default=str)}"


@each_case
def test_key_matters(case):
    for key in case["keys"]:
        serve = {**copy.deepcopy(DATA["base"]), **copy.deepcopy(case["serve"])}
        if "without" in case:
            serve.update(case["without"])
        elif not remove(serve, key.partition("=")[0].split(".")[1:]):
            raise AssertionError(f"{key} is not in the case")
        try:
            seen = view(case, serve)
        except (KeyError, TypeError, AttributeError):
            continue  # the schema requires this key, or a fault is told where it is missing
        assert not all(holds(condition, seen) for condition in case["hold"]), f"{key} makes no difference"


def remove(node, keys):
    """Remove a key, of every element of a list; gives whether it was there."""
    if isinstance(node, list):
        return sum(remove(child, keys) for child in node) > 0
    if len(keys) == 1:
        return node.pop(keys[0], None) is not None
    return keys[0] in node and remove(node[keys[0]], keys[1:])


def test_every_key_has_a_case():
    schema = json.loads((resources.folder("schemas") / "provider.schema.json").read_text())
    found = set()

    def walk(node, path):
        while "$ref" in node:
            node = {
                **schema["$defs"][node["$ref"].rpartition("/")[2]],
                **{k: v for k, v in node.items() if k != "$ref"},
            }
        found.add(path)
        found.update(f"{path}={word}" for word in node.get("enum", ()))
        for name, child in node.get("properties", {}).items():
            walk(child, f"{path}.{name}")
        if (
            isinstance(node.get("additionalProperties"), dict) and "$ref" in node["additionalProperties"]
        ):  # the rows of `calls`, of which the cases have two kinds
            walk(node["additionalProperties"], f"{path}.KIND")
        if "$ref" in (node.get("items") or {}) and node["items"]["$ref"].endswith("served_route"):
            walk(node["items"], path)

    walk({"$ref": "#/$defs/serve"}, "serve")
    covered = {re.sub(r"^serve\.calls\.\w+", "serve.calls.KIND", key) for case in DATA["cases"] for key in case["keys"]}
    assert found - {"serve"} == covered
