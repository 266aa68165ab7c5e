"""The house: floors, a core without I/O, no provider's name in the code, sizes, and one truth for every table."""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import statistics
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from prx import resources
from prx.core.framing import FRAMINGS
from prx.core.request import _NEEDS
from prx.errors import KINDS
from prx.lang.template import WORDS
from prx.spec import compile as compiling
from prx.spec import model, schema
from prx.spec.face import Entrance, ServedCall
from prx.spec.loader import Loader
from prx.spec.read import read_quickly

ENGINE = Path(__file__).parents[1] / "engine" / "prx"
FILES = sorted(ENGINE.rglob("*.py"))
FLOORS = {
    "errors": 0, "chat": 0, "wire": 0, "spellings": 0, "mask": 0, "record": 0, "forks": 0, "text": 0, "secret": 0, "json_text": 0, "urls": 0, "resources": 0, "events": 0, "log_lines": 0,
    "lang": 1,
    "spec": 2,
    "core": 3,
    "transport": 4,
    "accounts": 5, "images": 5, "arguments": 5, "reload": 5, "typed": 5, "engines": 5, "hooks": 6, "session": 6, "toolruns": 6, "calls": 7, "client": 7, "aclient": 7,
    "doctor": 8, "checks": 8, "compare": 8, "explain": 8, "otel": 7, "otel_content": 7, "emulator": 8, "conformance": 8, "probe": 8, "serve": 8, "cli": 9, "__main__": 9, "__init__": 7,
    "batch": 7,
}  # fmt: skip
# Plain words that are also a provider's id or alias, with why they may stand in the code.
PLAIN_WORDS = {
    "compatible": "the provider for any URL, and what one that only the configuration knows builds on",
    "zen": "part of a longer word only",
    "together": "parts of an answer are put together",
}


def module(path):
    return ".".join(path.relative_to(ENGINE.parent).with_suffix("").parts).removesuffix(".__init__")


def floor(name):
    parts = name.split(".")
    return FLOORS[parts[1] if len(parts) > 1 else "__init__"]


class Source(NamedTuple):
    """What the tests look at of a file: it is parsed once for all of them."""

    docstring: str | None
    imports: tuple[str, ...]
    functions: tuple[tuple[str, int, bool], ...]  # name, lines, whether it is a list of options
    calls: frozenset[str]


@cache
def source(path):
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    return Source(
        ast.get_docstring(tree),
        tuple(_imports(nodes)),
        tuple(
            (node.name, node.end_lineno - node.lineno + 1, _is_a_list_of_options(node))
            for node in nodes
            if isinstance(node, ast.FunctionDef)
        ),
        frozenset(getattr(node.func, "id", "") for node in nodes if isinstance(node, ast.Call)),
    )


def imports(path):
    """Every module that a file imports, wherever in the file: also in a function, and also what only types need."""
    return source(path).imports


def _imports(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                name if (ENGINE.parent / (name.replace(".", "/") + ".py")).exists() else node.module for name in inner
            )


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_module_imports_only_from_its_floor_and_below(path):
    for name in imports(path):
        if name.split(".")[0] == "prx" and name != "prx":
            assert floor(name) <= floor(module(path)), f"{module(path)} imports {name}"
        assert name.split(".")[0] != "engine"


def test_no_import_goes_in_a_circle():
    graph = {module(path): {*imports(path)} for path in FILES}
    done: set[str] = set()

    def visit(name, chain):
        assert name not in chain, " -> ".join((*chain, name))
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*chain, name))
            done.add(name)

    for name in graph:
        visit(name, ())


# The modules of a floor, each of which imports only those that stand before it.
ORDER = {
    "lang": ("tree", "own", "functions", "runtime", "codegen", "bounds", "query", "compiled", "template"),
    "spec": (
        "document", "files", "owned", "accept", "schema", "resolve", "read", "model", "compile", "definition", "credentials", "faults",
        "written", "face", "check", "cache", "index", "catalog", "loader", "origins",
    ),
}  # fmt: skip


@pytest.mark.parametrize("folder", ORDER)
def test_the_modules_of_a_floor_have_an_order(folder):
    names = [f"prx.{folder}.{name}" for name in ORDER[folder]]
    assert {f"prx.{folder}", *names} == {module(path) for path in (ENGINE / folder).glob("*.py")}
    for place, name in enumerate(names):
        path = ENGINE / folder / f"{ORDER[folder][place]}.py"
        assert {*imports(path)} & {*names} <= {*names[:place]}, name


PURE = {
    "base64",
    "binascii",
    "botocore",  # its signer, which is given the time and the key
    "struct",
    "__future__",
    "collections",
    "cryptography",
    "dataclasses",
    "datetime",
    "email",
    "fnmatch",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "sseclient",
    "typing",
    "urllib",
    "prx",
}


@pytest.mark.parametrize("path", sorted((ENGINE / "core").glob("*.py")), ids=module)
def test_the_core_does_no_io(path):
    """No socket, no clock, no environment, no chance: nothing to import them from, and no open()."""
    names = {name.split(".")[0] for name in imports(path)}
    assert names <= PURE, names - PURE
    assert "urllib.request" not in path.read_text()
    assert not source(path).calls & {"open", "input", "print", "exec", "eval"}


def provider_names():
    """Ids, aliases and hosts of every packaged provider, and the ids of the dialects."""
    names, hosts = set(Loader().dialects()), set()
    for entry in Loader().entries():
        raw = read_quickly(entry.path)
        names |= {raw["id"], *(raw.get("aliases") or ())}
        urls = [raw.get("base_url", ""), *(raw.get("former_urls") or ())]
        hosts |= {host for url in urls if (host := urlsplit(url).hostname) and host not in ("localhost", "127.0.0.1")}
    return names - PLAIN_WORDS.keys(), hosts


def test_no_provider_is_named_in_the_code():
    """Law 1, over names, strings and comments. openai is the name of a shape (OpenAI's), in comments only."""
    names, hosts = provider_names()
    text = "\n".join(path.read_text().lower() for path in FILES)
    known = [name for name in names | hosts if name.lower() in text]
    pattern = re.compile(
        "|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in sorted(known, key=len, reverse=True)),
        re.IGNORECASE,
    )
    found = []
    for path in FILES:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type in (tokenize.NAME, tokenize.STRING, tokenize.COMMENT):
                words = {match.group().lower() for match in pattern.finditer(token.string)}
                documented = token.type == tokenize.COMMENT or token.string.lstrip("rbfu").startswith(('"""', "'''"))
                found += [
                    (module(path), token.start[0], word) for word in words - ({"openai"} if documented else set())
                ]
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=module)
def test_sizes(path):
    for name, lines, is_a_list_of_options in source(path).functions:
        assert lines <= 40 or is_a_list_of_options, name


def _is_a_list_of_options(node):
    """The two public calls and the command have one line for each of their many parameters."""
    return len(node.args.args) + len(node.args.kwonlyargs) > 9


def test_functions_are_small():
    sizes = [lines for path in FILES for _, lines, _ in source(path).functions]
    assert statistics.median(sizes) <= 8
    assert statistics.quantiles(sizes, n=10)[-1] <= 30


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_opens_with_its_law(path):
    assert source(path).docstring, "no docstring"
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", path.read_text())


# ------------------------------------------------------------------ one truth


def at(*path):
    node = schema.load("provider")
    for name in path:
        node = node[name]
    return node


def fields(cls):
    return {*getattr(cls, "_fields", ())} or {field.name for field in dataclasses.fields(cls)}


def test_the_schemas_keys_are_the_specs_fields():
    top = set(at("properties")) - {"spec", "extends", "overrides", "serve"} | {
        "dialect",
        "plain",
        "reads_plainly",
        "own_calls",
    }
    assert fields(model.Spec) == top
    for definition, cls, also in (
        ("auth", model.Auth, set()),
        ("jwt", model.Jwt, set()),
        ("token", model.TokenForm, set()),
        ("parameter", model.Parameter, {"name"}),
        ("name_form", model.NameForm, set()),
        ("schemas", model.Schemas, set()),
        ("schema_form", model.SchemaForm, set()),
        ("retry", model.Retry, set()),
        ("transport", model.Limits, set()),
        ("models", model.Models, set()),
        ("rule", model.Rule, {"name"}),
        ("fallback", model.Fallback, {"name"}),
    ):
        assert fields(cls) == set(at("$defs", definition, "properties")) - {"then"} | also, definition
    assert fields(model.Request) - {"body_source", "expressions"} | {"body"} == set(
        at("$defs", "request", "properties")
    )
    in_answer = {*model.FOUND_IN_TOKEN, *fields(model.TokenAnswer)} - {"found"}
    assert in_answer == set(at("$defs", "token_answer", "properties"))
    found = set(model.FOUND)
    whole = set(at("$defs", "response", "properties"))
    assert whole == (found - {"block", "final", "end", "whole", "whole_calls", "server_calls"}) | fields(
        model.Response
    ) - {
        "found",
        "call_replay",
        "grows",
    }
    assert set(at("$defs", "event", "properties")) == found | {"tool_call", "replay", "blocks"}
    assert set(at("$defs", "stream", "properties")) == found | fields(model.Stream) - {
        "found",
        "call_replay",
        "tokens",
        "grows",
    }
    assert set(at("$defs", "errors", "properties")) == set(model.FAULT) | {"detect", "refused", "rules", "statuses"}
    ours = {"kind", "expressions", "found", "row", "tokens", "request_source", "query_source"}
    assert fields(model.CallForm) - ours | {"request", "query", "response"} == set(
        at("$defs", "call_form", "properties")
    )
    assert model.KINDS_OF_CALLS.keys() == set(at("$defs", "calls", "properties"))
    answers = {name for _, answer, _ in model.KINDS_OF_CALLS.values() for name in answer}
    assert answers | {*model.OF_ALL_ANSWERS, "row", "tokens"} == set(at("$defs", "call_answer", "properties"))
    assert fields(ServedCall) - {"kind"} == set(at("$defs", "served_call", "properties"))
    kinds = set(at("$defs", "serve", "properties", "calls", "propertyNames", "enum"))
    assert kinds == model.KINDS_OF_CALLS.keys()
    assert kinds < set(at("$defs", "served_route", "properties", "for", "enum"))
    rows = {name for *_, row in model.KINDS_OF_CALLS.values() for name in row}
    assert rows == set(at("$defs", "call_row", "properties"))
    assert set(at("$defs", "tokens", "properties")) == set(model.TOKENS)
    assert set(at("$defs", "streamed_tool_call", "properties")) == {*model.CALL, "replay"}


BLOCKS = {
    "auth": model.Auth, "jwt": model.Jwt, "token": model.TokenForm, "token_answer": model.TokenAnswer, "parameter": model.Parameter, "request": model.Request, "response": model.Response, "stream": model.Stream,
    "name_form": model.NameForm, "schema_form": model.SchemaForm,
    "rule": model.Rule, "fallback": model.Fallback, "retry": model.Retry, "transport": model.Limits, "models": model.Models,
    "served_route": Entrance, "call_form": model.CallForm,
    "served_call": ServedCall,
}  # fmt: skip


def test_the_schemas_defaults_are_the_records():
    """What a field has where a file says nothing; a default that is empty is none to show."""
    for definition in schema.load("provider")["$defs"]:
        properties = at("$defs", definition).get("properties", {})
        shown = {key: row["default"] for key, row in properties.items() if "default" in row}
        cls = BLOCKS.get(definition)
        ours = {key: getattr(cls, key) for key in cls._fields if hasattr(cls, key)} if cls else {}
        assert shown == {key: value for key, value in ours.items() if isinstance(value, int | float) or value}, (
            definition
        )
    assert not [key for key, row in at("properties").items() if "default" in row]


def test_the_schemas_words_are_the_tables_rows():
    styles = set(at("$defs", "auth", "properties", "style", "enum"))
    assert compiling._HEADER.keys() | {"custom", "query", "none"} == styles
    assert schema.load("config")["$defs"]["provider"]["properties"]["auth_style"]["enum"] == at(
        "$defs", "auth", "properties", "style", "enum"
    )
    assert set(at("$defs", "stream", "properties", "framing", "enum")) == FRAMINGS.keys()
    assert set(at("$defs", "kind", "enum")) < KINDS.keys()
    capabilities = set(at("$defs", "capabilities", "properties"))
    assert {name for name, _, _ in _NEEDS} | {"stream", "whole", "responses", "models"} == capabilities
    assert set(at("$defs", "fallback", "properties", "needs", "enum")) == capabilities
    described = at("$defs", "request", "properties", "body", "description")
    assert all(word in described for word in WORDS)
    assert len(WORDS) <= 10


def test_kinds_of_errors():
    assert set(KINDS) == {
        "config", "spec", "capability", "auth", "rate_limit", "quota", "bad_request", "not_found", "overflow", "content_filter", "server",
        "timeout", "connection", "protocol", "truncated",
    }  # fmt: skip


# ------------------------------------------------------------------ what an import costs


def test_import_brings_nothing_heavy():
    code = "import sys, prx; print(*sorted({'rich', 'jsonschema', 'vcr', 'click', 'requests', 'yaml', 'urllib3', 'sseclient'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_packaged_data_is_where_resources_says():
    assert (resources.folder("providers.d") / "_dialects").is_dir()
    assert (resources.folder("schemas") / "provider.schema.json").is_file()


DIALECT_FILES = sorted(resources.folder("providers.d").glob("_dialects/*.yaml"))


def words_of(node):
    if isinstance(node, dict):
        yield from node
        for child in node.values():
            yield from words_of(child)
    elif isinstance(node, list):
        for child in node:
            yield from words_of(child)


def test_the_request_language_is_small_and_no_word_serves_one_dialect_alone():
    assert len(WORDS) <= 10
    files = {path.stem: read_quickly(path) for path in DIALECT_FILES}
    templates = {name: [raw.get("request", {}).get("body", {}), raw.get("serve", {})] for name, raw in files.items()}
    used = {name: set(words_of(parts)) for name, parts in templates.items()}
    for word in WORDS:
        assert len([name for name, words in used.items() if word in words]) >= 2, word


@pytest.mark.parametrize("path", DIALECT_FILES, ids=lambda path: path.stem)
def test_a_dialect_is_a_page_or_two(path):
    """Chats, the other kinds of call, and how it is served: a page or two of each."""
    for part in re.split(r"\n(?:calls|serve):\n", path.read_text()):
        assert len(part.splitlines()) < 200
