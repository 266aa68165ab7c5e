"""Finds, reads and checks config.toml. The working directory is not searched: a stranger's project could hold one.

A ${NAME} whose variable is not set is not a fault of the file: only a call that needs the value fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from prx.accounts.key_entries import key_of
from prx.chat import NONE
from prx.errors import ConfigError, sealed
from prx.record import Record
from prx.secret import Secret
from prx.spec import schema
from prx.spec.compile import OWN_HEADER
from prx.spec.document import Document, Keys, Problem
from prx.text import VARIABLE_FAULT, MissingError, fill, has_strange_variable
from prx.wire import FRAMING

_DIGEST = re.compile("[0-9a-f]{64}")


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
    cert_file: str | None = None
    key_file: str | None = None
    proxy: Secret | None = None
    timeout: float | None = None
    deadline: float | None = None
    retries: int | None = None
    extends: str | None = None


class Target(Record):
    """One of a route's targets: provider/model, and its weight beside the others."""

    model: str
    weight: float = 1


def is_pattern(name: str) -> bool:
    """Whether a name may fit several models."""
    return not set("*?[").isdisjoint(name)


class Route(Record):
    """[[model_routes]]; see the schema."""

    pattern: str
    provider: str | None = None
    api_url: str | None = None
    api_key: Secret | None = None
    model: str | None = None
    targets: tuple[Target, ...] = ()
    policy: str = "order"
    cooldown: float = 30

    def fits(self, name: str) -> bool:
        return fnmatchcase(name, self.pattern)

    def wire_name(self, name: str) -> str:
        """The model's name to send: the route's `model`, or the caller's name without the prefix of a pattern `prefix/*`."""
        if self.model is not None:
            return self.model.replace("{name}", name)
        prefix = self.pattern.removesuffix("*")
        literal = prefix.endswith("/") and prefix.count("/") == 1 and not is_pattern(prefix)
        return name.removeprefix(prefix) if literal else name


class Images(Record):
    """[images]: which references a marker [IMAGE:…] may have besides data: URLs; see the schema."""

    urls: bool = False
    folder: str | None = None
    max_bytes: int = 5_000_000
    max_count: int = 100
    max_total_bytes: int = 20_000_000


class CallerKey(Record):
    """A key by which callers of `prx serve` are known. key: a text with ${NAME}s, or None where its digest is given."""

    name: str = ""
    key: Secret | None = None
    sha256: str = ""
    models: tuple[str, ...] = ("*",)
    requests_per_minute: int | None = None


class Serve(Record):
    """[serve]; see the schema."""

    host: str = "127.0.0.1"
    port: int = 8080
    keys: tuple[CallerKey, ...] = ()
    grace: float = 300
    max_body: int = 33554432
    max_calls: int = 1000
    ping: float = 15
    receive_timeout: float = 30
    max_head: int = 65536
    max_connections: int = 4096
    tls_cert: str | None = None
    tls_key: str | None = None
    log_format: str = "text"
    log_bodies: bool = False
    otel: bool = False
    redis: Secret | None = None


class Chat(Record):
    """[chat]: of the command `prx chat`; see the schema."""

    log: bool = True


class Config(Record):
    """The configuration, checked. `file`: its path, "" where there is none."""

    file: str = ""
    provider: str | None = None
    model: str | None = None
    providers: Mapping[str, Settings] = NONE
    routes: tuple[Route, ...] = ()
    images: Images = Images()
    serve: Serve = Serve()
    balanced: bool = False  # whether any route has several targets
    chat: Chat = Chat()


@sealed
def load(source: str | Path | Mapping[str, Any] | None, env: Mapping[str, str]) -> Config:
    """The configuration from a path, from a mapping of the same shape, or by default from PRX_CONFIG or
    ~/.config/prx/config.toml. Raises ConfigError.
    """
    if isinstance(source, Mapping):
        return _checked(Document("config", dict(source), {(): (0, 0)}, ""))
    path = Path(source) if source is not None else _usual(env)
    if path is None:
        return Config()
    from prx.accounts.toml import read

    document = read(path)
    return _checked(document)


def files(source: str | Path | Mapping[str, Any] | None, env: Mapping[str, str]) -> list[Path]:
    """The path that `load` reads, also if there is no file yet; [] for a mapping."""
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
        routes=tuple(map(_route, value.get("model_routes", ()))),
        balanced=any("targets" in row for row in value.get("model_routes", ())),
        images=Images(**value.get("images", {})),
        serve=_serve(value.get("serve", {})),
        chat=Chat(**value.get("chat", {})),
    )


def _route(row: Mapping[str, Any]) -> Route:
    targets = [Target(**target) if isinstance(target, Mapping) else Target(target) for target in row.get("targets", ())]
    return Route(**_wrapped(row) | {"targets": tuple(targets)})


def _serve(table: Mapping[str, Any]) -> Serve:
    """[serve] with the keys of both forms as CallerKeys: those in the list have no name and no limits."""
    listed = [
        _caller("", {"sha256": key[7:]} if key.startswith("sha256:") else {"key": key}) for key in table.get("keys", ())
    ]
    named = [_caller(name, row) for name, row in table.get("keys_by_name", {}).items()]
    rest = {key: value for key, value in table.items() if key not in ("keys", "keys_by_name")}
    return Serve(**rest | ({"redis": Secret(rest["redis"])} if "redis" in rest else {}), keys=(*listed, *named))


def _caller(name: str, row: Mapping[str, Any]) -> CallerKey:
    given = dict(row) | ({"key": Secret(row["key"])} if "key" in row else {})
    return CallerKey(name, **given | ({"models": tuple(row["models"])} if "models" in row else {}))


def problems(document: Document) -> list[Problem]:
    """Every fault of a configuration, with its place."""
    return schema.problems(document, "config") or [
        *_framing(document), *_unfilled(document), *_two_ways(document),
    ]  # fmt: skip


def _two_ways(document: Document) -> list[Problem]:
    """A fault for each route that says in two ways what to ask, each caller whose key is not given in one way, and a lone key of TLS."""
    beside = {
        ("model_routes", place, key): "cannot stand beside targets, which say what to ask"
        for place, row in enumerate(document.value.get("model_routes", ()))
        if "targets" in row
        for key in ("provider", "model", "api_url", "api_key")
        if key in row
    }
    callers = document.value.get("serve", {}).get("keys_by_name", {})
    keys: dict[Keys, str] = {
        ("serve", "keys_by_name", name): "needs either key or sha256, which `prx serve key` makes"
        for name, row in callers.items()
        if ("key" in row) == ("sha256" in row)
    }
    table = document.value.get("serve", {})
    keys |= {
        ("serve", "keys", place): "after sha256: has to stand a digest, 64 of the digits 0 to 9 and a to f"
        for place, key in enumerate(table.get("keys", ()))
        if key.startswith("sha256:") and not _DIGEST.fullmatch(key[7:])
    }
    alone: dict[Keys, str] = {}
    if "tls_key" in table and "tls_cert" not in table:
        alone[("serve", "tls_key")] = "needs tls_cert beside it"
    alone |= {
        ("providers", name, "key_file"): "needs cert_file beside it"
        for name, row in document.value.get("providers", {}).items()
        if "key_file" in row and "cert_file" not in row
    }
    found = beside | keys | alone | dict(_origins_of_keys(document.value))
    return [document.problem(path, sentence) for path, sentence in found.items()]


def _origins_of_keys(value: Mapping[str, Any]) -> Iterator[tuple[Keys, str]]:
    """A fault for each key that is not got in one way."""
    tables: list[tuple[Keys, Any]] = [(("providers", name), row) for name, row in value.get("providers", {}).items()]
    tables += [(("model_routes", place), row) for place, row in enumerate(value.get("model_routes", ()))]
    for path, row in tables:
        given = row.get("api_key")
        places = [((*path, "api_key"), given)]
        if isinstance(given, list):
            places = [((*path, "api_key", place), entry) for place, entry in enumerate(given)]
        for place, entry in places:
            if isinstance(entry, Mapping) and ("command" in entry) == ("file" in entry):
                yield place, 'needs either command, as in {command = ["program", "argument"]}, or file'
            elif isinstance(entry, Mapping) and "for" in entry and "file" in entry:
                yield (*place, "for"), "is for command; a file is read again when it changes"


def _framing(document: Document) -> list[Problem]:
    """A fault for each header that only prx itself may set."""
    paths: list[Keys] = []
    for name, row in document.value.get("providers", {}).items():
        paths += [("providers", name, "headers", key) for key in row.get("headers", {}) if key.lower() in FRAMING]
        paths += [("providers", name, "auth_name")] if row.get("auth_name", "").lower() in FRAMING else []
    return [document.problem(path, OWN_HEADER) for path in paths]


def _unfilled(document: Document) -> list[Problem]:
    """A fault for each text that would be sent literally though it was meant as a variable or a command."""
    texts = [(keys, text) for keys, text in _texts(document.value, ()) if isinstance(text, str)]
    variables = [document.problem(keys, VARIABLE_FAULT) for keys, text in texts if has_strange_variable(text)]
    commands = [keys for keys, text in texts if "api_key" in keys[-2:] and text.startswith("!")]
    return variables + [document.problem(keys, _NO_COMMAND) for keys in commands]


_NO_COMMAND = 'begins with "!"; a command is written {command = ["program", "argument"]}, and ${NAME} is taken from the environment'


def _texts(value: Any, keys: Keys) -> Iterator[tuple[Keys, Any]]:
    """(path, value) of every value that is neither a table nor a list."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*keys, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, (*keys, place))
    else:
        yield keys, value


def _wrapped(row: Mapping[str, Any]) -> dict[str, Any]:
    """A table whose values that may be keys are Secrets."""
    wrapped = dict(row) | ({"proxy": Secret(row["proxy"])} if "proxy" in row else {})
    if "api_key" in row:
        wrapped["api_key"] = key_of(row["api_key"])
    if "headers" in row:
        wrapped["headers"] = {name: Secret(text) for name, text in row["headers"].items()}
    return wrapped


def expand(text: str, env: Mapping[str, str], where: str) -> str:
    """A text of the configuration with the values of its variables. where: its key, for the error. Raises ConfigError."""
    try:
        return fill(text, env)
    except MissingError as missing:
        raise ConfigError(
            f"{where}: the environment variable {missing.name} is not set", hint=f"Set it: export {missing.name}=…"
        ) from None


def folders(providers: str | Path | Sequence[str | Path] | None, env: Mapping[str, str]) -> list[Path]:
    """Folders of provider files; a later one replaces files of an earlier one. The system's, the user's, those of
    PRX_PROVIDERS, and those that the caller gives. Raises ConfigError for a missing one of the last two.
    """
    own = home(env)
    usual = [Path("/etc/prx/providers.d"), *([own / "providers.d"] if own else [])]
    named = [Path(part) for part in env.get("PRX_PROVIDERS", "").split(os.pathsep) if part]
    given = [Path(providers)] if isinstance(providers, str | Path) else [Path(part) for part in providers or ()]
    for folder in (*named, *given):
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder", hint="Check --providers and PRX_PROVIDERS.")
    # Absolute, since a program may change its working directory; not resolved, so that messages have the given path.
    return [Path(os.path.abspath(folder)) for folder in (*usual, *named, *given[::-1])]  # noqa: PTH100
