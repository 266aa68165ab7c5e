"""Where the keys of a resolved provider come from: the file and the line of the last layer that sets one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prx.record import Record
from prx.spec.definition import Definition, SourceFile
from prx.spec.document import Document, Keys
from prx.spec.read import parse_strictly
from prx.spec.resolve import OWN, OWN_REQUEST, fits


class Place(Record):
    """A line of a file, from 1."""

    file: str
    line: int


class Layer(Record):
    """A document, or one block of it, that is laid over those before it.

    at        path of the block in its document, () for all of it
    own_only  of its keys only those of the provider count: a later layer has changed the dialect
    """

    document: Document
    at: Keys = ()
    own_only: bool = False

    def place(self, keys: Keys) -> Place | None:
        """The line that sets a key, or a value that stands in place of all that is around it; None where neither is here."""
        if self.own_only and not (
            keys[:1] and (keys[0] in OWN or (keys[0] == "request" and set(keys[1:2]) & {*OWN_REQUEST}))
        ):
            return None
        value: Any = _at(self.document.value, self.at)
        for length, key in enumerate(keys):
            if not isinstance(value, Mapping):
                return self._line(keys[:length]) if length else None
            if key not in value:
                return None
            value = value[key]
        return self._line(keys)

    def _line(self, keys: Keys) -> Place | None:
        mark = self.document.marks.get((*self.at, *keys))
        return Place(self.document.file, mark[0]) if mark else None


class Origins:
    """The layers of a provider for a model, the strongest last."""

    def __init__(self, definition: Definition, model: str = "") -> None:
        self._files = definition.source_files
        self._documents: dict[Path, Document] = {}
        own = next((file for file in self._files if file.name is None), None)
        self.layers = self._chain(own) if own else []
        for layer in self._overrides(model):
            dialect = _at(layer.document.value, layer.at).get("extends")
            base = next((file for file in self._files if file.name == dialect and file.of is None), None)
            if dialect and base:
                self.layers = [*self._chain(base), *(each._replace(own_only=True) for each in self.layers)]
            self.layers.append(layer)

    def of(self, *keys: str | int) -> Place | None:
        """The place of the last layer that sets a key; None where no file does."""
        places = (layer.place(keys) for layer in reversed(self.layers))
        return next((place for place in places if place), None)

    def _overrides(self, model: str) -> Sequence[Layer]:
        """The overrides that fit the model: those of the last file that has any."""
        for layer in reversed(self.layers):
            if rows := layer.document.value.get("overrides"):
                places = [place for place, row in enumerate(rows) if fits(row["model"], model)]
                return [Layer(layer.document, ("overrides", place)) for place in places]
        return ()

    def _chain(self, file: SourceFile) -> list[Layer]:
        """The layers of a file and of those that it extends, the weakest first."""
        layers, seen = [Layer(self._document(file))], {file.path}
        while name := layers[0].document.value.get("extends"):
            base = next((each for each in self._files if each.name == name and each.of == file.path), None)
            if base is None or base.path in seen:
                break
            file = base
            seen.add(file.path)
            layers.insert(0, Layer(self._document(file)))
        return layers

    def _document(self, file: SourceFile) -> Document:
        if file.path not in self._documents:
            self._documents[file.path] = parse_strictly(file.data.decode("utf-8-sig", "replace"), str(file.path))
        return self._documents[file.path]


def _at(value: Any, keys: Keys) -> Any:
    for key in keys:
        value = value[key]
    return value
