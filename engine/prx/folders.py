"""Where provider files are: the folders of the system, of the user, and those that are named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from prx import config as configuration
from prx.errors import ConfigError


def folders(providers: str | Path | Sequence[str | Path] | None, env: Mapping[str, str]) -> list[Path]:
    """Folders of provider files, the weakest first: the system's, the user's, $PRX_PROVIDERS, those given."""
    own = configuration.home(env)
    usual = [Path("/etc/prx/providers.d"), *([own / "providers.d"] if own else [])]
    named = [Path(part) for part in env.get("PRX_PROVIDERS", "").split(os.pathsep) if part]
    given = [Path(providers)] if isinstance(providers, str | Path) else [Path(part) for part in providers or ()]
    for folder in (*named, *given):
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no folder of provider files", hint="Check --providers and PRX_PROVIDERS.")
    # Absolute, since a program may change its folder; not resolved, since messages name what was named.
    return [Path(os.path.abspath(folder)) for folder in (*usual, *named, *given[::-1])]  # noqa: PTH100
