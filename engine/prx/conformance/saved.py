"""Saved runs: the reports that `prx conformance --json` has printed, read back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from prx.conformance import resumed
from prx.errors import ConfigError
from prx.json_text import parsed
from prx.mask import strict
from prx.spec.files import data_of

Row = dict[str, Any]


class Saved(NamedTuple):
    """The results of a run, and how it is called: its file, or the provider that was asked."""

    name: str
    rows: list[Row]

    @property
    def providers(self) -> list[str]:
        return list(dict.fromkeys(row["provider"] for row in self.rows))

    def only(self, cases: Iterable[str]) -> Saved:
        """The results of these cases alone; of all of them where none is named."""
        names = set(cases)
        return self._replace(rows=[row for row in self.rows if not names or row["case"] in names])


def read(path: Path) -> Saved:
    """A saved run. Raises ConfigError for a file that is not one."""
    try:
        data = data_of(path, resumed.MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    value = parsed(data.decode("utf-8", "replace"))
    rows = value.get("results") if isinstance(value, dict) else None
    if not isinstance(rows, list) or not all(map(resumed.is_row, rows)):
        raise ConfigError(f"{path}: is not a run", hint="Save one with: prx conformance … --json > FILE")
    return Saved(str(path), [strict(row) for row in rows])
