"""What is wrong with the inbound half of a dialect is said where it is written: tests/faces/faults.yaml has each sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from helpers import data_files

from prx.core.inbound import accept
from prx.errors import CapabilityError
from prx.lang.compiled import Expressions
from prx.spec.face import compile_face
from prx.spec.loader import Loader

DATA = data_files.read(Path(__file__).parent / "faces" / "faults.yaml")


@pytest.mark.parametrize("case", DATA["cases"], ids=lambda case: (case["says"] or ["good"])[0][:60])
def test_fault(case, tmp_path):
    serve = {**copy.deepcopy(DATA["base"]), **case.get("serve", {})}
    for name in case.get("without", ()):
        del serve[name]
    path = tmp_path / "_dialects" / "mine.yaml"
    path.parent.mkdir()
    # A JSON text is a YAML text as well.
    path.write_text(json.dumps({"spec": 1, "id": "mine", "name": "Mine", "extends": "json-http", "serve": serve}))
    found = [str(problem).removeprefix(f"{path}:").partition(": ")[2] for problem in Loader().check(path)[1]]
    assert found == case["says"]


def test_a_body_that_does_not_fit_is_refused_by_the_callers_names():
    face = compile_face("mine", DATA["base"], Expressions())
    for script in (3, ["a"]):
        with pytest.raises(CapabilityError, match=r"^script: not a list of messages, each of which is an object$"):
            accept(face, {"who": "m", "script": script, "other": 1})
    request = {
        "model": "=who",
        "messages": {"each": "script", "item": {"role": "user", "content": "=join(' ', lines)"}},
    }
    face = compile_face("mine", {**DATA["base"], "request": request}, Expressions())
    with pytest.raises(CapabilityError, match=r"^script: has not the form that it has in this API$"):
        accept(face, {"who": "m", "script": [{"lines": [1]}]})
