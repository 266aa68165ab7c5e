"""The server under reload.py: one version in a path, a header and a body, or the call is refused. See serving.py."""

from __future__ import annotations

import json
import re

from faults import framed
from serving import Serving, run, scripted


class Versions(Serving):
    """Answers with the versions that a request bears: its provider file's and its configuration's."""

    def _script(self, body, line, headers):
        self.figures.requests += 1
        found = {
            "file": {re.search(r"/file-(\d+)/", line)[1], _header(headers, "x-file"), body.get("x_file")},
            "config": {
                _header(headers, "x-config"),
                _header(headers, "authorization").removeprefix("bearer sk-config-"),
            },
        }
        torn = {name: sorted(map(str, versions)) for name, versions in found.items() if len(versions) > 1}
        if torn:
            return scripted([framed(400, body=json.dumps({"error": {"message": f"torn: {torn}"}}).encode())])
        said = json.dumps({name: int(version) for name, (version,) in found.items()})
        answer = {"choices": [{"index": 0, "message": {"content": said}, "finish_reason": "stop"}]}
        return scripted([framed(200, body=json.dumps(answer).encode())])


def _header(headers, name):
    return headers.partition(f"\r\n{name}:")[2].partition("\r\n")[0].strip()


if __name__ == "__main__":
    run(Versions())
