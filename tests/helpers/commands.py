"""Commands as processes of their own, without the price of a start: each is forked from one that has imported all it needs.

A process begins as `python -m MODULE` does: its arguments, environment, folder and the files behind 0, 1 and 2 are its
own, it waits for its threads and runs what `atexit` has as Python does, and its exit code is what the system says. What
a start itself does (which modules are imported, what a signal at that time comes to) is to be tested with a start:
subprocess.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# What a module's processes will want, so that they find it there. Packages with all that is in them.
WANTED = {
    "prx": ("prx", "rich.console", "rich.table", "jsonschema", "requests", "yaml"),
    # With what the plugins that are installed here import in each run.
    "pytest": ("_pytest", "pytest", "prx", "hypothesis.core", "hypothesis.internal.conjecture.engine",
               "hypothesis.statistics", "execnet", "pdb", "anyio._backends._asyncio", "anyio.streams.tls"),
}  # fmt: skip
LENGTH = struct.Struct("!I")


def run(
    *arguments: Any,
    module: str = "prx",
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Any = None,
    timeout: float = 60,
    together: bool = False,
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run([python, "-m", module, …], input=stdin, capture_output=True, text=True)` gives.

    together: what goes to standard error is with the rest, as on a terminal.
    """
    with contextlib.ExitStack() as files:
        pipes = [os.pipe() for _ in range(3)]
        theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
        files_of_it = (*theirs[:2], theirs[1]) if together else theirs
        to, *outputs = (files.enter_context(os.fdopen(fd, mode)) for fd, mode in ((pipes[0][1], "wb"), (pipes[1][0], "rb"), (pipes[2][0], "rb")))  # fmt: skip
        try:
            process = start(*arguments, module=module, files=files_of_it, env=env, cwd=cwd)
        finally:
            for fd in theirs:
                os.close(fd)
        said = [b"", b""]
        threads = [threading.Thread(target=_feed, args=(to, stdin.encode()), daemon=True)]
        threads += [threading.Thread(target=_collect, args=(file, said, at), daemon=True) for at, file in enumerate(outputs)]  # fmt: skip
        for thread in threads:
            thread.start()
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            for thread in threads:
                thread.join(10)
    texts = (io.TextIOWrapper(io.BytesIO(data), "utf-8").read() for data in said)
    return subprocess.CompletedProcess([module, *map(str, arguments)], code, *texts)


def _feed(file: Any, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), file:
        file.write(data)


def _collect(file: Any, said: list[bytes], at: int) -> None:
    said[at] = file.read()


def start(
    *arguments: Any, module: str = "prx", files: Sequence[int], env: Mapping[str, str] | None = None, cwd: Any = None
) -> Process:
    """Begin a process; files: what it has for 0, 1 and 2."""
    env = dict(os.environ if env is None else env)
    said = {"arguments": list(map(str, arguments)), "env": env, "cwd": str(cwd or Path.cwd())}
    # What the interpreter looks at when it starts is as it is in the process that others are forked from.
    at_start = {name: value for name, value in env.items() if name.startswith(("PYTHON", "LANG", "LC_"))}
    return _parent(os.getpid(), module, json.dumps(at_start, sort_keys=True)).begin(json.dumps(said).encode(), files)


class Process:
    """One that runs."""

    def __init__(self, news: int) -> None:
        self._news = open(news, "rb")  # noqa: SIM115 - the pid, and the exit code when it has ended
        self.pid = int(self._news.readline())

    def wait(self, timeout: float) -> int:
        if not select.select([self._news], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        with self._news:
            return int(self._news.readline())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait(10)


@cache
def _parent(of: int, module: str, at_start: str) -> Parent:
    return Parent(module, json.loads(at_start))


class Parent:
    """The process that others are forked from. It ends when we do, since nobody is left on the other end of its socket."""

    def __init__(self, module: str, env: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        env = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", **env}
        command = [sys.executable, __file__, module, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env, pass_fds=[theirs.fileno()]
            )

        atexit.register(self._close, os.getpid())

    def _close(self, of: int) -> None:
        if os.getpid() == of:
            self._socket.close()
            self._process.wait(10)

    def begin(self, asked: bytes, files: Sequence[int]) -> Process:
        news, theirs = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._socket, [LENGTH.pack(len(asked))], [*files, theirs])
                self._socket.sendall(asked)
        finally:
            os.close(theirs)
        return Process(news)


# ------------------------------------------------------------------ in that process


def _serve(module: str, fd: int) -> dict[str, Any]:
    """Fork for each who asks. Comes back in the process that was forked, with what was asked of it."""
    listening = socket.socket(fileno=fd)
    ended, woken = socket.socketpair()
    ended.setblocking(False)
    woken.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ended.fileno())
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([listening, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _tell(running)
        if listening in ready:
            head, files, _, _ = socket.recv_fds(listening, LENGTH.size, 4)
            if len(head) < LENGTH.size:
                os._exit(0)
            asked = json.loads(_exactly(listening, LENGTH.unpack(head)[0]))
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number, file in enumerate(files[:3]):
                    os.dup2(file, number)
                for kept in (listening, ended, woken):
                    kept.detach()
                os.closerange(3, max([*files, *running.values(), 64]) + 1)
                return {"module": module, **asked}
            for file in files[:3]:
                os.close(file)
            running[pid] = files[3]
            os.write(files[3], f"{pid}\n".encode())


def _tell(running: dict[int, int]) -> None:
    """Those who asked are told what has ended."""
    for pid in list(running):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            news = running.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(news, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(news)


def _exactly(listening: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += listening.recv(size - len(data))
    return data


def _begin(asked: dict[str, Any]) -> None:
    """As the interpreter begins: the standard files are made anew, for a terminal is another thing than a pipe."""
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.path.insert(0, asked["cwd"])
    sys.argv = ["-m", *asked["arguments"]]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        was = getattr(sys, name)
        made = open(  # noqa: SIM115 - for as long as the process lasts
            number,
            "r" if number == 0 else "w",
            encoding=was.encoding,
            errors=was.errors,
            newline=None if number == 0 else "\n",
            closefd=False,
        )
        made.reconfigure(line_buffering=number == 2 or made.isatty())
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)


def _end(ended: BaseException | None) -> None:
    """As the interpreter ends, but for taking every object apart, which takes longer than most commands."""
    code = 0
    if isinstance(ended, SystemExit):
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    elif ended:
        traceback.print_exception(ended)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        try:
            if file and not file.closed:
                file.flush()
        except (OSError, ValueError):
            code = 120
    os._exit(code & 0xFF)


def _prepare(module: str) -> None:
    for name in WANTED[module]:
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError:  # a plugin of pytest: the lowest versions run without those that they do not need
            continue
        for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}.") if name == "prx" else ():
            if found.name.endswith(("__main__", "conformance.plugin", "cli.editing")) or found.name.startswith(
                "prx.serve"
            ):
                continue
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if str(error.name).startswith("prx"):
                    raise  # any other name is of an extra: the lowest versions run without
    from prx.conformance import cases

    cases.load()  # packaged files that nothing changes


if __name__ == "__main__":
    del sys.path[0]
    _prepare(sys.argv[1])
    gc.collect()
    gc.freeze()  # what is there before a fork is never looked through after it
    _asked = _serve(sys.argv[1], int(sys.argv[2]))
    _begin(_asked)
    _ended: BaseException | None = None
    try:
        runpy.run_module(_asked["module"], run_name="__main__", alter_sys=True)
    except BaseException as error:
        _ended = error
    _end(_ended)
