"""A process that starts with a folder of provider files, and ends: python benchmarks/start.py HOW FOLDER URL.

id      one answer of a provider named by its id
alias   one answer of a provider named by an alias, which could be in any file
all     every provider made ready
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import prx


def client(folder: str, url: str) -> prx.Client:
    return prx.Client({"providers": {"made-0500": {"api_url": url, "api_key": "sk-none"}}}, folder, env={})


def by_id(folder: str, url: str) -> None:
    assert client(folder, url).chat("hello", "made-0500/m").content


def by_alias(folder: str, url: str) -> None:
    assert client(folder, url).chat("hello", "made-0500-ai/m").content


def every(folder: str, url: str) -> None:
    catalog = client(folder, url).catalog
    for entry in catalog.entries():
        if not entry.packaged:
            catalog.load(entry).spec()


HOW: dict[str, Callable[[str, str], None]] = {"id": by_id, "alias": by_alias, "all": every}

if __name__ == "__main__":
    HOW[sys.argv[1]](*sys.argv[2:])
