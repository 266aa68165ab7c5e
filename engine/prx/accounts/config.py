"""config.toml: found, read, checked. Nothing of it is taken from the working directory unless named.

A ${NAME} without a value is no fault of the file: it fails the call that needs it, not the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from prx.chat import NONE
from prx.errors import ConfigError, sealed
from prx.record import Record
from prx.secret import Secret
from prx.spec import schema
from prx.spec.compile import OWN_HEADER
from prx.spec.document import Document, Keys, Problem
from prx.text import VARIABLE_FAULT, MissingError, fill, has_strange_variable
from prx.wire import FRAMING


class Settings(Record):
    """[providers.NAME]; see the schema."""

    name: str = ""
    api_key: Secret | None = None
    api_url: str | None = None
    model: str | None = None
    auth_style: str | None = None
    auth_name: str | None = None
    auth_template: str | None = None
    headers: Mapping[str, Secret] = NONE
    ca_file: str | None = None
    proxy: Secret | None = None
    timeout: float | None = None
    deadline: float | None = None
    retries: int | None = None
    extends: str | None = None


class Route(Record):
    """[[model_routes]]; see the schema."""

    pattern: str
    provider: str | None = None
    api_url: str | None = None
    api_key: Secret | None = None
    model: str | None = None

    def fits(self, name: str) -> bool:
        return fnmatchcase(name, self.pattern)

    def wire_name(self, name: str) -> str:
        """What the provider is asked for: `model`, or the name without the literal word before `/*`."""
        if self.model is not None:
            return self.model.replace("{name}", name)
        prefix = self.pattern.removesuffix("*")
        literal = prefix.endswith("/") and prefix.count("/") == 1 and not set("*?[") & set(prefix)
        return name.removeprefix(prefix) if literal else name


class Images(Record):
    """[images]: what a marker may name."""

    urls: bool = False
    folder: str | None = None
    max_bytes: int = 5_000_000
    max_count: int = 100
    max_total_bytes: int = 20_000_000


class Config(Record):
    """The configuration, checked. `file` is where it came from, "" for none."""

    file: str = ""
    provider: str | None = None
    model: str | None = None
    providers: Mapping[str, Settings] = NONE
    routes: tuple[Route, ...] = ()
    images: Images = Images()


@sealed
def load(source: str | Path | Mapping[str, Any] | None, env: Mapping[str, str]) -> Config:
    """A configuration from a path, from a mapping of its shape, or from where it usually is."""
    if isinstance(source, Mapping):
        return _checked(Document("config", dict(source), {(): (0, 0)}, ""))
    path = Path(source) if source is not None else _usual(env)
    if path is None:
        return Config()
    from prx.accounts.toml import read

    document = read(path)
    return _checked(document)


def files(source: str | Path | Mapping[str, Any] | None, env: Mapping[str, str]) -> list[Path]:
    """The file that `load` would read, or where it would look for one."""
    if isinstance(source, Mapping):
        return []
    usual = [Path(env["PRX_CONFIG"])] if env.get("PRX_CONFIG") else [own / "config.toml"] if (own := home(env)) else []
    return [Path(source)] if source is not None else usual


def home(env: Mapping[str, str]) -> Path | None:
    """The folder of the user's own files, ~/.config/prx; None for an environment that has no home."""
    if env.get("HOME"):
        return Path(env["HOME"]) / ".config" / "prx"
    return Path.home() / ".config" / "prx" if env is os.environ else None


def _usual(env: Mapping[str, str]) -> Path | None:
    if env.get("PRX_CONFIG"):
        return Path(env["PRX_CONFIG"])
    folder = home(env)
    if folder is None:
        return None
    path = folder / "config.toml"
    try:
        return path if path.is_file() else None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _checked(document: Document) -> Config:
    if found := problems(document):
        raise ConfigError("\n".join(map(str, found)))
    value = document.value
    default = value.get("default", {})
    return Config(
        file=document.file,
        provider=default.get("provider"),
        model=default.get("model"),
        providers={name: Settings(name, **_wrapped(row)) for name, row in value.get("providers", {}).items()},
        routes=tuple(Route(**_wrapped(row)) for row in value.get("model_routes", ())),
        images=Images(**value.get("images", {})),
    )


def problems(document: Document) -> list[Problem]:
    """Every fault of a configuration, with its place."""
    return schema.problems(document, "config") or [*_framing(document), *_unfilled(document)]


def _framing(document: Document) -> list[Problem]:
    """Headers that are not for anybody to set."""
    found: list[Keys] = []
    for name, row in document.value.get("providers", {}).items():
        found += [("providers", name, "headers", key) for key in row.get("headers", {}) if key.lower() in FRAMING]
        found += [("providers", name, "auth_name")] if row.get("auth_name", "").lower() in FRAMING else []
    return [document.problem(keys, OWN_HEADER) for keys in found]


def _unfilled(document: Document) -> list[Problem]:
    """Texts that would go out as they stand though they ask for something else."""
    texts = [(keys, text) for keys, text in _texts(document.value, ()) if isinstance(text, str)]
    found = [document.problem(keys, VARIABLE_FAULT) for keys, text in texts if has_strange_variable(text)]
    commands = [keys for keys, text in texts if keys[-1] == "api_key" and text.startswith("!")]
    return found + [document.problem(keys, _NO_COMMAND) for keys in commands]


_NO_COMMAND = 'begins with "!", and prx runs no command for a key; ${NAME} is taken from the environment'


def _texts(value: Any, keys: Keys) -> Iterator[tuple[Keys, Any]]:
    """Every value that is no table and no list, and where it stands."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*keys, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, (*keys, place))
    else:
        yield keys, value


def _wrapped(row: Mapping[str, Any]) -> dict[str, Any]:
    """A table with what may be a key in it as a Secret."""
    wrapped = dict(row) | {key: Secret(row[key]) for key in ("api_key", "proxy") if key in row}
    if "headers" in row:
        wrapped["headers"] = {name: Secret(text) for name, text in row["headers"].items()}
    return wrapped


def expand(text: str, env: Mapping[str, str], where: str) -> str:
    """A text of the configuration with its variables. `where`: its key, for the error."""
    try:
        return fill(text, env)
    except MissingError as missing:
        raise ConfigError(
            f"{where}: the environment has no {missing.name}", hint=f"Set it: export {missing.name}=…"
        ) from None


def folders(providers: str | Path | Sequence[str | Path] | None, env: Mapping[str, str]) -> list[Path]:
    """Folders of provider files, the weakest first: the system's, the user's, $PRX_PROVIDERS, those given."""
    own = home(env)
    usual = [Path("/etc/prx/providers.d"), *([own / "providers.d"] if own else [])]
    named = [Path(part) for part in env.get("PRX_PROVIDERS", "").split(os.pathsep) if part]
    given = [Path(providers)] if isinstance(providers, str | Path) else [Path(part) for part in providers or ()]
    for folder in (*named, *given):
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no folder of provider files", hint="Check --providers and PRX_PROVIDERS.")
    # Absolute, since a program may change its folder; not resolved, since messages name what was named.
    return [Path(os.path.abspath(folder)) for folder in (*usual, *named, *given[::-1])]  # noqa: PTH100
