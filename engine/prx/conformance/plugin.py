"""A pytest plugin: a folder of provider files becomes tests, one a provider and case.

    pytest --prx-providers DIR [--prx-cassettes DIR] [--prx-live]

A file is collected as any other, so -k, xdist, --junit-xml and --last-failed work as always. In pytest's
configuration `prx_providers` names folders of which files are collected wherever pytest meets them.
Nothing of prx is imported until then: this module is loaded in every run of pytest.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from prx.conformance.cases import Case
    from prx.conformance.run import Result
    from prx.conformance.suite import Plan
    from prx.spec.loader import Loader
    from prx.spec.model import Spec


class CaseFailed(Exception):  # noqa: N818 - pytest prints the name
    """A case that does not hold."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("prx", "conformance of providers")
    group.addoption(
        "--prx-providers", action="append", default=[], metavar="DIR", help="test the provider files of DIR"
    )
    group.addoption("--prx-cassettes", metavar="DIR", help="folder of recordings (default: cassettes)")
    group.addoption("--prx-live", action="store_true", help="ask the providers themselves; costs tokens")
    parser.addini("prx_providers", "folders of provider files that are tests", type="paths", default=[])
    parser.addini("prx_ledger", "YAML file with the reasons for what is not recorded", default="")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before pytest loads what lies where it begins: a conftest.py that it knows already is not loaded."""
    for given in early_config.known_args_namespace.prx_providers:
        folder = Path(given)
        _refuse_settings_of(given, early_config)
        for place in (folder, *folder.glob("test*")):
            for path in {str((place / "conftest.py").absolute()), str((place / "conftest.py").resolve())}:
                if not early_config.pluginmanager.has_plugin(path):
                    early_config.pluginmanager.register(ModuleType("conftest"), path)


def _refuse_settings_of(folder: str, config: pytest.Config) -> None:
    """The word behind an option that pytest does not know yet is a path to it, near which it looks for its settings."""
    named = config.known_args_namespace.inifilename or folder not in config.invocation_params.args
    if named or config.inipath is None:
        return
    settings, theirs = config.inipath.resolve().parent, Path(folder).resolve()
    near = settings.is_relative_to(theirs) or theirs.is_relative_to(settings)
    if near and not config.invocation_params.dir.resolve().is_relative_to(settings):
        raise pytest.UsageError(f"pytest would take {config.inipath} for its settings: write --prx-providers={folder}")


def pytest_configure(config: pytest.Config) -> None:
    given: list[str] = config.getoption("--prx-providers")
    if wrong := [folder for folder in given if not Path(folder).is_dir()]:
        raise pytest.UsageError(f"--prx-providers {wrong[0]}: no such folder")
    config.args += [folder for folder in given if folder not in config.args]


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A folder of --prx-providers is looked into for provider files alone: it may be anybody's, and nothing of it is run."""
    if path.resolve() not in [Path(folder).resolve() for folder in parent.config.getoption("--prx-providers")]:
        return None
    made: ProviderFolder = ProviderFolder.from_parent(parent, path=path)
    return made


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix not in (".yaml", ".yml") or file_path.parent.resolve() not in _folders(parent.config):
        return None
    made: ProviderFile = ProviderFile.from_parent(parent, path=file_path)
    return made


def _folders(config: pytest.Config) -> list[Path]:
    given = [Path(folder) for folder in config.getoption("--prx-providers")]
    return [folder.resolve() for folder in (*given, *config.getini("prx_providers"))]


class _NothingOfTheFolder:
    """pytest loads the conftest.py of a node's folder when it looks for the node's hooks; these have the general ones."""

    config: pytest.Config

    @property
    def ihook(self) -> Any:
        return self.config.hook


class ProviderFolder(_NothingOfTheFolder, pytest.File):  # of a pytest.Directory the conftest.py is loaded in any case
    """The provider files of a folder, and nothing else of it."""

    def collect(self) -> Iterable[pytest.Collector]:
        for path in sorted(self.path.iterdir()):
            if path.suffix in (".yaml", ".yml") and path.is_file():
                yield ProviderFile.from_parent(self, path=path)


class ProviderFile(_NothingOfTheFolder, pytest.File):
    """One provider's file: a test for each case that it says it can do."""

    def collect(self) -> Iterable[pytest.Item]:
        from prx.conformance import cases

        plan, spec = self.plan()
        if plan.mode == "replay" and not (plan.recordings / spec.id).is_dir():
            yield ProviderCase.from_parent(self, name=f"{spec.id}-recordings", plan=plan, case=None, spec=spec)
            return
        for case in cases.load():
            name = f"{spec.id}-{case.name}"
            yield ProviderCase.from_parent(self, name=name, plan=plan, case=case, spec=spec)

    def plan(self) -> tuple[Plan, Spec]:
        """How the file is tested. A faulty file is an error of its collection, with line and column."""
        from prx import resources
        from prx.conformance import suite
        from prx.errors import Error

        cassettes = self.config.getoption("--prx-cassettes")
        recordings = Path(cassettes) if cassettes else suite.default_recordings()
        folder = self.path.parent
        folders = (
            [] if folder == resources.folder("providers.d") else [folder]
        )  # the packaged ones need no second check
        try:
            loader = _loader(self.config, tuple(folders))
            entry = loader.entry(self.path.stem)
            # Not kept on disk, as `get` does it: of most files nothing is recorded, and no more is asked of them.
            spec = (loader.load(entry) if entry else loader.get(self.path.stem)).spec()
        except Error as error:
            raise self.CollectError(str(error)) from None
        mode: Any = "live" if self.config.getoption("--prx-live") else "replay"
        return suite.Plan(mode, (), folders, recordings), spec


class ProviderCase(_NothingOfTheFolder, pytest.Item):
    """One case of one provider."""

    def __init__(self, *, plan: Plan, case: Case | None, spec: Spec, **more: Any) -> None:
        super().__init__(**more)
        self.plan, self.case, self.spec = plan, case, spec

    def runtest(self) -> None:
        result = self._result(self.case) if self.case else self._unrecorded()
        reason = reason_for(_ledger(self.config), self.spec.id, result.case)
        if result.outcome in ("skipped", "unrecorded"):
            if result.outcome == "unrecorded" and not reason and self.config.getini("prx_ledger"):
                raise CaseFailed(f"{result.why}, and the ledger has no reason for it")
            pytest.skip(reason or result.why)
        if result.outcome != "passed":
            raise CaseFailed("\n".join([result.why, *result.failures]))

    def _unrecorded(self) -> Result:
        """In place of every case of a provider that has no recording at all."""
        from prx.conformance.run import Result

        return Result(self.spec.id, "", "unrecorded", "nothing was recorded: prx record, or --prx-live")

    def _result(self, case: Case) -> Result:
        from prx.conformance import suite

        with _offline() if self.plan.mode == "replay" else nullcontext():
            (result,) = suite.results(replace(self.plan, cases=[case]), self.spec.id, self.spec)
        return result

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if excinfo.errisinstance(CaseFailed) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


_LOADERS: pytest.StashKey[dict[tuple[Path, ...], Loader]] = pytest.StashKey()


def _loader(config: pytest.Config, folders: tuple[Path, ...]) -> Loader:
    """One for all files of a folder: what they extend is read once."""
    from prx.spec.loader import Loader

    loaders = config.stash.setdefault(_LOADERS, {})
    return loaders.get(folders) or loaders.setdefault(folders, Loader(folders))


def _ledger(config: pytest.Config) -> dict[str, str]:
    path = config.getini("prx_ledger")
    return _read(config.rootpath / path) if path else {}


@cache
def _read(path: Path) -> dict[str, str]:
    import yaml

    found: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return found


def reason_for(ledger: Mapping[str, str], provider: str, case: str) -> str:
    """Why there is no recording: a line for the case, for the provider, or for both by pattern; "" for no reason."""
    name = f"{provider}/{case}"
    return next((why for key, why in ledger.items() if key == provider or fnmatchcase(name, key)), "")


@contextmanager
def _offline() -> Iterator[None]:
    """No socket connects: what a replay would fetch is a fault of it."""

    def blocked(*_: Any) -> Any:
        raise AssertionError("a replay reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, blocked)
        patch.setattr(socket, "getaddrinfo", blocked)
        yield
