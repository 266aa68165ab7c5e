"""A pytest plugin: makes tests of a folder of provider files, one for each provider and case.

    pytest --prx-providers DIR [--prx-cassettes DIR] [--prx-live]

A file is collected like any other, so -k, xdist, --junit-xml and --last-failed work as usual. `prx_providers` in pytest's
configuration names folders whose provider files are collected wherever pytest finds them.
Every run of pytest loads this module, so it imports the rest of prx only when a provider file is collected.
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
    """A case whose conditions do not hold."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("prx", "conformance of providers")
    group.addoption(
        "--prx-providers", action="append", default=[], metavar="DIR", help="test the provider files of DIR"
    )
    group.addoption("--prx-cassettes", metavar="DIR", help="folder of recordings (default: cassettes)")
    group.addoption("--prx-live", action="store_true", help="call the providers themselves; costs tokens")
    parser.addini("prx_providers", "folders of provider files to test", type="paths", default=[])
    parser.addini("prx_ledger", "YAML file with the reasons why a case is not recorded", default="")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Keep pytest from running a conftest.py in a folder of --prx-providers, which may be a stranger's: an empty module is
    registered under its path, and pytest does not load a conftest.py that is registered already.
    """
    for given in early_config.known_args_namespace.prx_providers:
        folder = Path(given)
        _refuse_settings_of(given, early_config)
        for place in (folder, *folder.glob("test*")):
            for path in {str((place / "conftest.py").absolute()), str((place / "conftest.py").resolve())}:
                if not early_config.pluginmanager.has_plugin(path):
                    early_config.pluginmanager.register(ModuleType("conftest"), path)


def _refuse_settings_of(folder: str, config: pytest.Config) -> None:
    """Raise UsageError where pytest has taken its settings from the folder. It does not know --prx-providers yet when it
    looks for them, so that it takes the folder after the option for a path of tests.
    """
    named = config.known_args_namespace.inifilename or folder not in config.invocation_params.args
    if named or config.inipath is None:
        return
    settings, theirs = config.inipath.resolve().parent, Path(folder).resolve()
    near = settings.is_relative_to(theirs) or theirs.is_relative_to(settings)
    if near and not config.invocation_params.dir.resolve().is_relative_to(settings):
        raise pytest.UsageError(f"pytest would read its settings from {config.inipath}: write --prx-providers={folder}")


def pytest_configure(config: pytest.Config) -> None:
    given: list[str] = config.getoption("--prx-providers")
    if wrong := [folder for folder in given if not Path(folder).is_dir()]:
        raise pytest.UsageError(f"--prx-providers {wrong[0]}: no such folder")
    config.args += [folder for folder in given if folder not in config.args]


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """In a folder of --prx-providers only provider files are collected: it may be a stranger's, and no code in it is run."""
    if path.resolve() not in [Path(folder).resolve() for folder in parent.config.getoption("--prx-providers")]:
        return None
    collector: ProviderFolder = ProviderFolder.from_parent(parent, path=path)
    return collector


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix not in (".yaml", ".yml") or file_path.parent.resolve() not in _folders(parent.config):
        return None
    collector: ProviderFile = ProviderFile.from_parent(parent, path=file_path)
    return collector


def _folders(config: pytest.Config) -> list[Path]:
    given = [Path(folder) for folder in config.getoption("--prx-providers")]
    return [folder.resolve() for folder in (*given, *config.getini("prx_providers"))]


class _WithoutConftest:
    """A node without hooks of its folder: to find them, pytest would load the folder's conftest.py."""

    config: pytest.Config

    @property
    def ihook(self) -> Any:
        return self.config.hook


class ProviderFolder(_WithoutConftest, pytest.File):  # not a pytest.Directory: pytest loads its conftest.py in any case
    """Collects the provider files of a folder, and nothing else in it."""

    def collect(self) -> Iterable[pytest.Collector]:
        for path in sorted(self.path.iterdir()):
            if path.suffix in (".yaml", ".yml") and path.is_file():
                yield ProviderFile.from_parent(self, path=path)


class ProviderFile(_WithoutConftest, pytest.File):
    """One provider's file: a test for each case; without any recording, one test that says so."""

    def collect(self) -> Iterable[pytest.Item]:
        from prx.conformance import cases

        plan, spec = self.plan()
        if plan.mode == "replay" and not (plan.recordings / spec.id).is_dir():
            yield ProviderCase.from_parent(self, name=f"{spec.id}-recordings", plan=plan, case=None, spec=spec)
            return
        for case in (case for case in cases.load() if plan.concerns(case, spec)):
            name = f"{spec.id}-{case.name}"
            yield ProviderCase.from_parent(self, name=name, plan=plan, case=case, spec=spec)

    def plan(self) -> tuple[Plan, Spec]:
        """The plan and the spec with which the file is tested. A faulty file is a CollectError, with line and column."""
        from prx import resources
        from prx.conformance import suite
        from prx.errors import Error

        cassettes = self.config.getoption("--prx-cassettes")
        recordings = Path(cassettes) if cassettes else suite.default_recordings()
        folder = self.path.parent
        # Loader has the packaged folder already; given again, its files would be checked in full.
        folders = [] if folder == resources.folder("providers.d") else [folder]
        try:
            loader = _loader(self.config, tuple(folders))
            entry = loader.entry(self.path.stem)
            # load instead of get, which would store the definition on disk: most files have no recording to play.
            spec = (loader.load(entry) if entry else loader.get(self.path.stem)).spec()
        except Error as error:
            raise self.CollectError(str(error)) from None
        mode: Any = "live" if self.config.getoption("--prx-live") else "replay"
        return suite.Plan(mode, (), folders, recordings), spec


class ProviderCase(_WithoutConftest, pytest.Item):
    """One case of one provider."""

    def __init__(self, *, plan: Plan, case: Case | None, spec: Spec, **more: Any) -> None:
        super().__init__(**more)
        self.plan, self.case, self.spec = plan, case, spec

    def runtest(self) -> None:
        result = self._result(self.case) if self.case else self._unrecorded()
        reason = reason_for(_ledger(self.config), self.spec.id, result.case)
        if result.outcome in ("skipped", "unclaimed", "unrecorded"):
            if result.outcome == "unrecorded" and not reason and self.config.getini("prx_ledger"):
                raise CaseFailed(f"{result.why}, and {self.config.getini('prx_ledger')} has no reason for it")
            pytest.skip(reason or result.why)
        if result.outcome != "passed":
            raise CaseFailed("\n".join(self._told(result)))

    def _told(self, result: Result) -> Iterator[str]:
        """Why a case has failed: what was wanted and what came, and with -v the exchanges."""
        from prx.conformance import transcript

        yield result.why
        yield from (line for line in map(str, result.came) if line not in result.why)
        if self.config.get_verbosity() > 0:
            yield from transcript.lines(result.exchanges)

    def _unrecorded(self) -> Result:
        """The result in place of all cases of a provider that has no recording at all."""
        from prx.conformance.run import Result

        return Result(self.spec.id, "", "unrecorded", "nothing was recorded: use `prx record`, or --prx-live")

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
    """The loader for all files of a folder, cached, so that the files that they extend are read once."""
    from prx.spec.loader import Loader

    loaders = config.stash.setdefault(_LOADERS, {})
    return loaders.get(folders) or loaders.setdefault(folders, Loader(folders))


def _ledger(config: pytest.Config) -> dict[str, str]:
    path = config.getini("prx_ledger")
    return _read(config.rootpath / path) if path else {}


@cache
def _read(path: Path) -> dict[str, str]:
    import yaml

    ledger: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return ledger


def reason_for(ledger: Mapping[str, str], provider: str, case: str) -> str:
    """Why there is no recording: the ledger's line for provider/case, for a pattern of it, or for the provider; or ""."""
    name = f"{provider}/{case}"
    return next((why for key, why in ledger.items() if key == provider or fnmatchcase(name, key)), "")


@contextmanager
def _offline() -> Iterator[None]:
    """Make every attempt to connect fail: a replay that uses the network is a fault."""

    def blocked(*_: Any) -> Any:
        raise AssertionError("a replay tried to use the network")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, blocked)
        patch.setattr(socket, "getaddrinfo", blocked)
        yield
