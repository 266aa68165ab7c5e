"""Strict YAML: one way to read a file, whatever the reader, or a fault with its line and column.

YAML 1.1 (PyYAML) and 1.2 (everybody's editor) read `no`, `010`, `1_000`, `12:30` and dates differently;
a plain scalar that they read differently has to be quoted. Anchors, aliases, merge keys, tags and further
documents are refused: `extends` is the only reuse, and a file of a few lines cannot unfold into gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from prx.spec.document import Document, Keys, Marks, Problem, dotted
from prx.spec.files import MAX_BYTES, data_of

MAX_DEPTH = 40
MAX_NODES = 5_000  # a long dialect has 1,000

_CORE = (  # YAML 1.2, section 10.3.2
    ("null", re.compile(r"(?:|~|null|Null|NULL)\Z")),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
    ("int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")),
    ("float", re.compile(r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)\Z")),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # also written as an escape
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+\Z")  # 1.1 reads 010 as 8, 1.2 as 10


def read(path: Path, take: Callable[[Path], bytes] = data_of) -> Document:
    """Load a file, whose bytes `take` gives. Never raises for what is in it: faults are in `problems`."""
    try:
        data = take(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return _failed(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(data) > MAX_BYTES:
        return _failed(str(path), f"larger than {MAX_BYTES // 1024} KB; a provider file has a few lines")
    try:
        return parse(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _failed(
            str(path), "not UTF-8; save the file as UTF-8", line, error.start - data.rfind(b"\n", 0, error.start)
        )


def parse(text: str, file: str) -> Document:
    """Read YAML text strictly."""
    try:
        loader = _Loader(text, file)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        return _failed(file, f"control character #x{error.character:02x}; take it out", line, column)
    try:
        node = loader.get_single_node()
    except _RefusedError:
        return Document(file, {}, {}, text, tuple(loader.problems))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = (error.problem or error.context or "not YAML").strip()
        if "expected a single document" in str(error):
            words = "a second document begins here; write one provider a file"
        return _failed(file, words, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, loader.problems)
    value = loader.value_of(node, ()) if node else None
    if not value or not isinstance(value, dict):
        loader.problems.append(Problem(file, 1, 1, "", "a provider file is a mapping: `spec: 1`, `id: …`, and so on"))
        value = {}
    return Document(file, value, loader.key_marks, text, tuple(loader.problems), loader.value_marks)


def _failed(file: str, text: str, line: int = 0, column: int = 0, more: Iterable[Problem] = ()) -> Document:
    return Document(file, {}, {}, "", (*more, Problem(file, line, column, "", text)))


class _RefusedError(Exception):
    """Reading goes no further; the reason is among the problems."""


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner, parser and resolver, with our own idea of what a node may be."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.file = file
        self.problems: list[Problem] = []
        self.key_marks: Marks = {}
        self.value_marks: Marks = {}
        self.depth = self.nodes = 0

    def refuse(self, mark: Any, text: str, path: str = "") -> None:
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, path, text))

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
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
            node.style = "'"  # already refused: its plain reading is no further fault
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
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, path)
            here = (*path, key)
            if key in made:
                self.refuse(key_node.start_mark, f"{key!r} stands here twice; keep one", dotted(path))
            self.key_marks[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            made[key] = self.value_of(value_node, here)
        return made

    def key(self, node: Any, path: Keys) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node.start_mark, "a key is a word", dotted(path))
            return "?"
        if node.value == "<<" and not node.style:
            self.refuse(node.start_mark, "merge key <<: use extends", dotted(path))
            return "<<"
        self.scalar(node, path)
        return str(node.value)

    def scalar(self, node: Any, path: Keys) -> Any:
        text = node.value
        if found := _CONTROL.search(text):
            self.refuse(node.start_mark, f"control character #x{ord(found[0]):02x}; take it out", dotted(path))
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
