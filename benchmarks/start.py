"""A process that starts with a folder of provider files, and ends: python benchmarks/start.py HOW FOLDER URL CACHE.

CACHE is where prx keeps what it made of them for the next process; "" for nowhere. HOW is one of these:

id      one answer of a provider named by its id
alias   one answer of a provider named by an alias, which could be in any file
all     every provider made ready
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from folder import ASKED

import prx


def by_id(client: prx.Client) -> None:
    assert client.chat("hello", f"{ASKED}/m").content


def by_alias(client: prx.Client) -> None:
    assert client.chat("hello", f"{ASKED}-ai/m").content


def every(client: prx.Client) -> None:
    catalog = client.catalog
    for entry in catalog.entries():
        if not entry.packaged:
            catalog.load(entry).spec()


HOW: dict[str, Callable[[prx.Client], None]] = {"id": by_id, "alias": by_alias, "all": every}

if __name__ == "__main__":
    how, folder, url, cache = sys.argv[1:]
    config = {"providers": {ASKED: {"api_url": url, "api_key": "sk-none"}}}
    HOW[how](prx.Client(config, folder, env={"PRX_CACHE": cache}))
