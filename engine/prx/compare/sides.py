"""The two sides of a comparison: provider files of a file, of a folder, or of a revision in git."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from prx import resources
from prx.errors import ConfigError, SpecError
from prx.record import Record
from prx.spec.definition import Definition
from prx.spec.files import DIALECTS, SUFFIXES
from prx.spec.loader import Loader

_USUAL = "providers.d"  # the folder of a repository that is compared where none is named
_GIT_SECONDS = 60


class Side(Record):
    """One side. definitions: {name: its provider, or dialect}; faults: a sentence for each file that cannot be used."""

    definitions: dict[str, Definition]
    faults: tuple[str, ...] = ()


def of_paths(first: Path, second: Path) -> tuple[Side, Side]:
    """The sides of two files or two folders. Two files are the same provider, whatever their names are. Raises ConfigError."""
    for path in (first, second):
        if not path.exists():
            raise ConfigError(f"{path}: there is no such file, folder or revision")
    if first.is_dir() != second.is_dir():
        raise ConfigError(
            f"{first} and {second}: one is a folder, the other a file", hint="Name two files, or two folders."
        )
    if first.is_dir():
        return _folder(first), _folder(second)
    name = second.stem
    return _file(first, name), _file(second, name)


@contextlib.contextmanager
def of_revisions(first: str, second: str | None, path: Path | None) -> Iterator[tuple[Side, Side]]:
    """The sides of two revisions, or of one and the working tree. path: a file or folder in it. Raises ConfigError."""
    import tempfile

    wanted = path or Path(_USUAL if Path(_USUAL).is_dir() else ".")
    with tempfile.TemporaryDirectory() as place:
        yield (
            _revision(first, wanted, Path(place) / "a"),
            (_tree(wanted) if second is None else _revision(second, wanted, Path(place) / "b")),
        )


def _revision(revision: str, wanted: Path, place: Path) -> Side:
    _check_revision(revision)
    folder = wanted.parent if wanted.suffix in SUFFIXES else wanted
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder", hint="Name a file or a folder of the working tree.")
    place.mkdir()
    # In the folder itself: git then gives the names as seen from there.
    done = _git("archive", "--format=tar", revision, "--", ".", at=folder)
    if done.returncode == 0:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            members = [member for member in archive.getmembers() if Path(member.name).suffix in SUFFIXES]
            archive.extractall(place, members, filter="data")
    elif b"did not match" not in done.stderr and b"not a tree" not in done.stderr:
        raise ConfigError(f"git cannot read {folder} of {revision}: {_first_line(done.stderr)}")
    side = _tree(place / wanted.name if wanted.suffix in SUFFIXES else place)
    return side._replace(faults=tuple(text.replace(str(place), f"{revision}:{folder}") for text in side.faults))


def _tree(path: Path) -> Side:
    """The side of a file or folder, empty where there is none: a file may be new."""
    if path.is_dir():
        return _folder(path)
    return _file(path, path.stem) if path.exists() else Side({})


def _check_revision(revision: str) -> None:
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode:
        said = _first_line(done.stderr) or "there is no such file or folder, and no such revision in git"
        raise ConfigError(
            f"{revision}: {said}", hint="Name two files, two folders, or revisions of the repository you are in."
        )


def _git(*arguments: str, at: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = ["git", *(["-C", str(at)] if at else []), *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=_GIT_SECONDS, check=False)  # noqa: S603
    except FileNotFoundError:
        raise ConfigError("git is not installed, and revisions are compared with it") from None
    except (subprocess.TimeoutExpired, OSError, ValueError) as error:
        raise ConfigError(f"git cannot be used: {error}") from None


def _first_line(said: bytes) -> str:
    return next(iter(said.decode(errors="replace").splitlines()), "").removeprefix("fatal: ")


def _folder(folder: Path) -> Side:
    catalog = _catalog(folder)
    paths = [path for suffix in SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
    dialects = [path for suffix in SUFFIXES for path in sorted((folder / DIALECTS).glob(f"*{suffix}"))]
    return _side(catalog, [(path, path.stem) for path in paths] + [(path, f"dialect {path.stem}") for path in dialects])


def _file(path: Path, name: str) -> Side:
    return _side(_catalog(path.parent.parent if path.parent.name == DIALECTS else path.parent), [(path, name)])


def _catalog(folder: Path) -> Loader:
    """The files of a folder, over the packaged ones, which its files may extend. Nothing is kept on disk."""
    packaged = resources.folder("providers.d")
    return Loader([] if folder.resolve() == packaged.resolve() else [folder])


def _side(catalog: Loader, files: Sequence[tuple[Path, str]]) -> Side:
    definitions, faults = {}, []
    for path, name in files:
        if path.name.startswith((".", "_")):
            continue
        try:
            definition = catalog.load(catalog.entry_at(path))
        except SpecError as error:
            faults.append(error.message)
            continue
        if "chat" in definition.spec().endpoints:  # a dialect that only others build on makes no request
            definitions[name] = definition
    return Side(definitions, tuple(faults))
