"""A provider's file with all that it extends, in memory: a call reads no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prx import resources
from prx.lang.compiled import Expressions
from prx.record import Record
from prx.spec import resolve
from prx.spec.compile import compile_spec, texts
from prx.spec.model import Spec
from prx.spec.resolve import Raw

_MOST_VARIANTS = 200  # that are kept of one provider; a call needs a few


class Entry(Record):
    """A provider's file. packaged: it is in the package's folder."""

    id: str
    path: Path
    packaged: bool


class SourceFile(Record):
    """A file that a provider is made of.

    name    by which `extends` names it; None for the provider's own file
    of      the file that has this `extends`, or None
    data    the file's bytes when it was read
    """

    name: str | None
    of: Path | None
    path: Path
    data: bytes

    @property
    def packaged(self) -> bool:
        return self.path.is_relative_to(resources.folder("providers.d"))


class Resolved(Record):
    """A file's mapping, merged with all it extends, and the files that it was made of."""

    raw: Raw
    source_files: tuple[SourceFile, ...] = ()


class Definition:
    """A provider's file with all it extends: gives its Spec, in the variant that a call needs.

    bases         the mappings that its overrides and fallbacks extend, by name; loaded in advance, so that all calls
                  of a definition use one version of the files
    source_files  the files it was made of, its own first
    expressions   the compiled expressions of its catalogue; without a catalogue, its own
    """

    def __init__(
        self,
        entry: Entry,
        raw: Raw,
        bases: Mapping[str, Raw],
        source_files: tuple[SourceFile, ...] = (),
        expressions: Expressions | None = None,
    ) -> None:
        self.entry = entry
        self.raw = raw
        self.bases = bases
        self.source_files = source_files
        self.expressions = expressions or Expressions()
        self._specs: dict[tuple[tuple[bool, ...], tuple[str, ...]], Spec] = {}

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def packaged(self) -> bool:
        """Whether all its files are packaged: a packaged file may extend a dialect that the user has replaced."""
        return self.entry.packaged and all(file.packaged for file in self.source_files)

    def spec(self, model: str = "", fallbacks: tuple[str, ...] = ()) -> Spec:
        """The Spec for a model with these fallbacks applied; compiled at the first use of this variant."""
        overrides = self.raw.get("overrides")
        key = (tuple([resolve.fits(row["model"], model) for row in overrides]) if overrides else (), fallbacks)
        spec = self._specs.get(key)
        if spec is None:
            if len(self._specs) >= _MOST_VARIANTS:
                self._specs.clear()  # many calls, each without something else
            spec = self._specs[key] = compile_spec(self.variant(model, fallbacks), self.expressions)
        return spec

    def variant(self, model: str = "", fallbacks: Sequence[str] = ()) -> Raw:
        """The mapping behind `spec`."""
        raw = resolve.for_model(self.raw, model, self.bases.__getitem__)
        for name in fallbacks:
            changes = resolve.by_name(raw.get("fallbacks", {}), name)  # of the dialect that is spoken by then
            raw = resolve.lay_over(raw, changes, self.bases.__getitem__)
        return raw

    def trees(self) -> dict[str, str]:
        """{expression: its tree as JSON text}, for all expressions of this provider and of each of its variants."""
        overlays = [overlay for _, overlay in resolve.overlays(self.raw) if overlay]
        raws = [self.raw, *(resolve.lay_over(self.raw, overlay, self.bases.__getitem__) for overlay in overlays)]
        return self.expressions.to_store(text for raw in raws for text in texts(compile_spec(raw, self.expressions)))

    def with_overlay(self, overlay: Mapping[str, Any]) -> Definition:
        """The same provider with some keys of its file replaced (what config.toml says)."""
        return self.with_raw(self.entry, resolve.merge(self.raw, overlay)) if overlay else self

    def with_raw(self, entry: Entry, raw: Raw) -> Definition:
        """Another provider on the same files."""
        return Definition(entry, raw, self.bases, self.source_files, self.expressions)
