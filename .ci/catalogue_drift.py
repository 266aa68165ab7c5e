"""Where the provider files and two public catalogues differ: python .ci/catalogue_drift.py [--help]

For a person at a release: it needs a network, or the catalogues as files. It changes nothing; each line is a question
to look into, since a catalogue may be the one that is wrong. A provider is known by what its evidence cites, else by its
id and other names.

Lists: addresses and variables that differ; what a file denies and a model of the catalogue has; what was cited and is gone.
Ends with 0 where nothing differs, 1 where something does, 2 for a catalogue that cannot be read.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from prx import resources
from prx.spec.definition import Definition
from prx.spec.loader import Loader

MODELS_DEV = "https://models.dev/api.json"
LITELLM = "https://raw.githubusercontent.com/BerriAI/litellm/main/litellm/llms/openai_like/providers.json"
CITED = {
    "models.dev": re.compile(r"models\.dev in .*, ([\w.-]+)$"),
    "LiteLLM": re.compile(r"litellm .*providers\.json, ([\w.-]+)$"),
}


class Listed(NamedTuple):
    """What a catalogue says of one provider; of a model, which capabilities it has."""

    address: str
    variables: tuple[str, ...]
    models: Mapping[str, Mapping[str, bool]]


def of_models_dev(row: dict[str, Any]) -> Listed:
    models = {
        name: {
            "vision": "image" in model["modalities"]["input"],
            "audio": "audio" in model["modalities"]["input"],
            "tools": bool(model.get("tool_call")),
            "json_schema": bool(model.get("structured_output")),
        }
        for name, model in row["models"].items()
        if "text" in model["modalities"]["output"]
    }
    return Listed(row.get("api") or "", tuple(row["env"]), models)


def of_litellm(row: dict[str, Any]) -> Listed:
    return Listed(row["base_url"], (row["api_key_env"],), {})


READERS = {"models.dev": of_models_dev, "LiteLLM": of_litellm}


class BadInputError(Exception):
    """Something that was given cannot be read; its text is for people."""


def catalogue(name: str, place: str) -> dict[str, Listed]:
    """A catalogue by its file or its address."""
    try:
        if "://" in place:
            with urllib.request.urlopen(place, timeout=60) as answer:  # noqa: S310 - the address is the caller's own
                data = answer.read()
        else:
            data = Path(place).read_bytes()
    except (OSError, ValueError) as error:
        raise BadInputError(f"{name}: {place} cannot be read: {error}; give a file that you have downloaded") from None
    try:
        return {key: READERS[name](row) for key, row in json.loads(data).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInputError(f"{name}: {place} is not the catalogue's JSON; give its list of providers") from None


def differences(definition: Definition, name: str, listed: Mapping[str, Listed]) -> Iterator[str]:
    """What one catalogue says otherwise of a provider."""
    spec = definition.spec()
    cited = [found[1] for row in spec.evidence if (found := CITED[name].search(row.source))]
    names = cited or [each for each in (spec.id, *spec.aliases) if each in listed]
    for key in dict.fromkeys(names):
        if key not in listed:
            if not spec.retired:
                yield f"gone: {name} has no {key} any more"
            continue
        if not cited or cites(definition, key, "base_url"):
            yield from _address(spec.base_url, listed[key].address)
        yield from _variable(spec.auth.env, listed[key].variables)
        yield from _denied(definition, listed[key].models)


def cites(definition: Definition, key: str, rule: str) -> bool:
    """Whether the file takes a rule from this entry. An entry of another address of the same provider says nothing of it."""
    rows = [row for row in definition.spec().evidence if row.source.endswith(f", {key}")]
    return any(rule in row.of for row in rows)


def _address(ours: str, theirs: str) -> Iterator[str]:
    if theirs and ours and _plain(ours) != _plain(theirs):
        yield f"address: {ours} here, {theirs} there"


def _plain(address: str) -> str:
    return address.rstrip("/").lower().replace("127.0.0.1", "localhost")


def _variable(ours: tuple[str, ...], theirs: tuple[str, ...]) -> Iterator[str]:
    if ours and theirs and not set(ours) & set(theirs):
        yield f"variable: {', '.join(ours)} here, {', '.join(theirs)} there"


def _denied(definition: Definition, models: Mapping[str, Mapping[str, bool]]) -> Iterator[str]:
    """Capabilities that the file denies to a model, or to all, and that a model has."""
    for capability in ("vision", "audio", "tools", "json_schema"):
        able = [
            model for model, has in models.items() if has[capability] and not definition.spec(model).can(capability)
        ]
        if able:
            yield f"modality: {capability} is denied here; there {', '.join(able[:3])} {'has' if len(able) == 1 else 'have'} it"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-dev", default=MODELS_DEV, metavar="PLACE", help="file or URL of its api.json")
    parser.add_argument("--litellm", default=LITELLM, metavar="PLACE", help="file or URL of its providers.json")
    parser.add_argument("--providers", type=Path, metavar="DIR", help="another folder than the packaged one")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="providers by a pattern of their ids")
    given = parser.parse_args(arguments)
    try:
        found = {
            "models.dev": catalogue("models.dev", given.models_dev),
            "LiteLLM": catalogue("LiteLLM", given.litellm),
        }
    except BadInputError as error:
        sys.stderr.write(f"catalogue_drift: {error}\n")
        return 2
    folder = given.providers or resources.folder("providers.d")
    loader = Loader([given.providers] if given.providers else [])
    count = 0
    for path in sorted(folder.glob("*.yaml")):
        for name, listed in found.items() if fnmatchcase(path.stem, given.only) else ():
            for line in differences(loader.get(path.stem), name, listed):
                count += 1
                sys.stdout.write(f"{path.stem}: {line} ({name})\n")
    sys.stdout.write(f"{count} differences\n")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
