"""Reads YAML: strictly, with every fault and its place; or quickly, for files that were checked before.

Strictly: a file means the same to every YAML parser, or it has a fault with line and column. YAML 1.1 (PyYAML) and 1.2
(most editors) read `no`, `010`, `1_000`, `12:30` and dates differently; a plain scalar that they read differently has to
be quoted. Anchors, aliases, merge keys, tags and further documents are refused: `extends` is the only form of reuse, and
a file of a few lines cannot expand into gigabytes.

Quickly, by libyaml where it is installed: packaged files, which the tests check, and the few keys of any file that the
index holds. This module imports yaml, so modules that often need no file import it inside a function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from prx.errors import starved
from prx.spec.document import Document, Keys, Marks, Problem, dotted
from prx.spec.files import MAX_BYTES, data_of
from prx.spec.resolve import Raw

try:
    from yaml._yaml import CParser as _CParser
except ImportError:
    _CParser = None  # type: ignore[assignment, misc]

MAX_DEPTH = 40
MAX_NODES = 5_000  # a long dialect has 1,000
_MAX_QUICK_DEPTH = 100  # libyaml's composer recurses at each level, and a stack overflow in C ends the process
# What libyaml and PyYAML may read differently: tabs, line ends other than \n, directives, document markers, comments after
# the mark of a block scalar, and question marks other than in a JMESPath filter. And characters that neither reads.
_UNLIKE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
    r"|^(?:%|---|\.\.\.)|(?<!\[)\?|[|>][-+0-9]*#",
    re.MULTILINE,
)

_CORE = (  # YAML 1.2, section 10.3.2
    ("null", re.compile(r"(?:|~|null|Null|NULL)\Z")),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
    ("int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")),
    ("float", re.compile(r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)\Z")),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # also written as an escape
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+\Z")  # 1.1 reads 010 as 8, 1.2 as 10


def read_strictly(path: Path, take: Callable[[Path], bytes] = data_of) -> Document:
    """A file with its faults; `take` gives its bytes. Never raises for what is in it: faults are in `problems`."""
    try:
        data = take(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return _failed(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(data) > MAX_BYTES:
        return _failed(str(path), f"larger than {MAX_BYTES // 1024} KB; a provider file has a few lines")
    try:
        return parse_strictly(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _failed(
            str(path), "not UTF-8; save the file as UTF-8", line, error.start - data.rfind(b"\n", 0, error.start)
        )


def read_quickly(path: Path, take: Callable[[Path], bytes] = data_of) -> Raw:
    """A file's mapping, without checks; empty where it cannot be read. `take` gives its bytes."""
    try:
        return packaged_mapping(take(path))
    except OSError as error:
        if starved(error):
            raise
        return {}


@lru_cache(maxsize=256)
def packaged_mapping(data: bytes) -> Raw:
    """As `mapping`, cached, for files that do not change. The mapping must not be changed."""
    return mapping(data)


def mapping(data: bytes) -> Raw:
    """The mapping in a file's bytes, without checks; {} where there is none."""
    try:
        raw = value_of(data)
    except Exception as error:  # PyYAML lets any exception of Python out, as for a date that does not exist
        if starved(error):
            raise
        return {}
    return _tidy(raw) if isinstance(raw, dict) else {}


def value_of(data: bytes) -> Any:
    """The value of a YAML text. Raises ValueError, or whatever YAML raises."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(data, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_QUICK_DEPTH or isinstance(event, yaml.AliasEvent):
            raise ValueError("nested too deep, or an alias")
    return yaml.load(data, Loader=loader)  # noqa: S506 - both are safe loaders


def _tidy(raw: Raw) -> Raw:
    """A mapping without those keys of the index that have a value of the wrong type."""
    for key in ("aliases", "former_urls"):
        if not isinstance(raw.get(key, []), list) or not all(isinstance(item, str) for item in raw.get(key, [])):
            del raw[key]
    if not isinstance(raw.get("base_url", ""), str):
        del raw["base_url"]
    return raw


def parse_strictly(text: str, file: str) -> Document:
    """As `read_strictly`, for a text; `file` is its name in faults."""
    return _parsed_by_libyaml(text, file) or _parsed(text, file)


def _parsed_by_libyaml(text: str, file: str) -> Document | None:
    """The document of a text without faults, in a sixth of the time; None for a faulty one: the sentences of its faults are
    always PyYAML's, so that they are the same on every machine.
    """
    if _QuickLoader is None or _UNLIKE.search(text):
        return None
    try:
        document = _document(_QuickLoader(text, file), text, file)
    except (yaml.YAMLError, _RefusedError):
        return None
    return None if document.problems else document


def _parsed(text: str, file: str) -> Document:
    try:
        loader = _StrictLoader(text, file)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        return _failed(file, f"control character #x{error.character:02x}; take it out", line, column)
    try:
        return _document(loader, text, file)
    except _RefusedError:
        return Document(file, {}, {}, text, tuple(loader.problems))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        sentence = (error.problem or error.context or "not YAML").strip()
        if "expected a single document" in str(error):
            sentence = "a second document begins here; write each provider into its own file"
        return _failed(file, sentence, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, loader.problems)


def _document(loader: Any, text: str, file: str) -> Document:
    node = loader.get_single_node()
    value = loader.value_of(node, ()) if node else None
    if not value or not isinstance(value, dict):
        loader.problems.append(
            Problem(file, 1, 1, "", "a provider file is a mapping: `spec: 1`, `id: …`, and so on", "yaml")
        )
        value = {}
    return Document(file, value, loader.key_marks, text, tuple(loader.problems), loader.value_marks)


def _failed(file: str, text: str, line: int = 0, column: int = 0, more: Iterable[Problem] = ()) -> Document:
    return Document(file, {}, {}, "", (*more, Problem(file, line, column, "", text, "yaml")))


class _RefusedError(Exception):
    """The file cannot be read further; the reason is among the problems."""


class _Strict(Composer, SafeConstructor, Resolver):
    """PyYAML's composer, constructor and resolver, but it refuses what this module's docstring names. A subclass adds the
    parser.
    """

    def __init__(self, file: str) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self.file = file
        self.problems: list[Problem] = []
        self.key_marks: Marks = {}
        self.value_marks: Marks = {}
        self.depth = self.nodes = 0

    def refuse(self, mark: Any, text: str, path: str = "") -> None:
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, path, text, "yaml"))

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[attr-defined]
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            self.refuse(event.start_mark, "nested too deep" if self.depth > MAX_DEPTH else "too many nodes")
            raise _RefusedError
        if isinstance(event, yaml.AliasEvent):
            self.refuse(event.start_mark, f"alias *{event.anchor}: write the value out, or use extends")
            raise _RefusedError
        if event.anchor:
            self.refuse(event.start_mark, f"anchor &{event.anchor}: write the value out, or use extends")
        if event.tag:
            self.refuse(event.start_mark, f"tag {event.tag}: only plain values are read")
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if event.tag and isinstance(node, yaml.ScalarNode):
            node.style = "'"  # as if quoted, so that its plain value is not reported as a second fault
        return node

    def value_of(self, node: Any, path: Keys) -> Any:
        here = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.value_marks[path] = here
        self.key_marks.setdefault(path, here)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value_of(child, (*path, place)) for place, child in enumerate(node.value)]
        return self.mapping(node, path)

    def mapping(self, node: Any, path: Keys) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, path)
            here = (*path, key)
            if key in value:
                self.refuse(key_node.start_mark, f"{key!r} stands here twice; keep one", dotted(path))
            self.key_marks[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            value[key] = self.value_of(value_node, here)
        return value

    def key(self, node: Any, path: Keys) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node.start_mark, "a key must be a single word, not a list or a mapping", dotted(path))
            return "?"
        if node.value == "<<" and not node.style:
            self.refuse(node.start_mark, "merge key <<: use extends", dotted(path))
            return "<<"
        self.scalar(node, path)
        return str(node.value)

    def scalar(self, node: Any, path: Keys) -> Any:
        text = node.value
        if control := _CONTROL.search(text):
            self.refuse(node.start_mark, f"control character #x{ord(control[0]):02x}; take it out", dotted(path))
        if node.style:
            return text
        kind = _core_kind(text)
        if kind != node.tag.rpartition(":")[2] or _LEADING_ZERO.match(text):
            self.refuse(
                node.start_mark, f"{text} is read differently by YAML 1.1 and 1.2; {_advice(text)}", dotted(path)
            )
        try:
            return _VALUES[kind](text)
        except ValueError:
            self.refuse(node.start_mark, "a number of too many digits", dotted(path))
            return 0


class _StrictLoader(Reader, Scanner, Parser, _Strict):
    """With PyYAML's parser."""

    def __init__(self, text: str, file: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        _Strict.__init__(self, file)


if _CParser is None:
    _QuickLoader: Any = None
else:

    class _QuickLoader(_Strict, _CParser):  # type: ignore[no-redef]
        """With libyaml's."""

        def __init__(self, text: str, file: str) -> None:
            _CParser.__init__(self, text)
            _Strict.__init__(self, file)

        def scalar(self, node: Any, path: Keys) -> Any:
            if not (node.value or node.style):
                raise _RefusedError  # libyaml may give another place to what is left out
            return super().scalar(node, path)


def _core_kind(text: str) -> str:
    return next((kind for kind, pattern in _CORE if pattern.match(text)), "str")


_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def _advice(text: str) -> str:
    quoted = f"write {text!r} in quotes"
    truth = _TRUTH.get(text.lower())
    return f"write {truth}, or {quoted}" if truth else quoted


def _integer(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_VALUES: dict[str, Any] = {
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": _integer,
    "float": float,
    "str": str,
}
