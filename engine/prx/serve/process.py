"""Runs the application: uvicorn, with our handling of signals, and with several processes where they are wanted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

import uvicorn
from prometheus_client.multiprocess import mark_process_dead

from prx.errors import ConfigError, Error
from prx.serve import logs, tls
from prx.serve.app import App
from prx.serve.door import guarded
from prx.serve.drain import IDLE, Draining
from prx.serve.metrics import FOLDER

_AFTER_GRACE = 5.0  # seconds that connections have to end once their calls are cut off
# How many new objects Python's garbage collector lets come together before it looks for unreachable ones, and how often it looks at
# the new ones alone before it looks at older ones, too: what a reload replaces is in circles, and would stay for hundreds of reloads.
_COLLECTED = (50_000, 2, 2)
_AT_ONCE = 262_144  # bytes that an event loop reads at once, at most
_PAUSE = (
    1.0  # seconds until a process is started in place of one that has died: where each dies at its start, they are few
)
_PORT_HINTS = {
    errno.EADDRINUSE: "Another program has this port: end it, or choose another one with --port.",
    errno.EACCES: "Ports below 1024 are for the administrator: choose another one with --port.",
    errno.EADDRNOTAVAIL: "The host has to be an address of this machine; 0.0.0.0 is all of them.",
}


class Server(Draining):
    """uvicorn's server: the first signal ends it after the calls that run, the second at once; both with exit code 0."""

    app: App
    signals: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)  # that end it
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, app: App, host: str, port: int) -> Server:
        """Raises ConfigError for a certificate that cannot be used."""
        config = _config(host, port, app)
        config.load()
        config.ssl = made = tls.context(app.settings)
        server = cls(config)
        server.app, server.tls = app, made
        return server

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in self.signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, self._reload)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # see Processes._started
        if (first := multiprocessing.parent_process()) is not None and hasattr(signal, "SIGHUP"):
            # One of several whose first process was killed: nobody would end it or hand a signal on, and it holds the port.
            loop.add_reader(first.sentinel, self._left_alone, first.sentinel)
        yield

    def _left_alone(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        if not self.should_exit:
            self.handle_exit(signal.SIGTERM, None)

    def _reload(self) -> None:
        self.app.reload()
        if self.tls is None or not self.app.settings.tls_cert:
            return
        self.app.faults = ()
        try:
            tls.read(self.tls, self.app.settings)
        except Error as error:
            self.app.faults = (str(error),)
            logging.getLogger("prx.serve").warning("%s; the certificate until now stays in use", error)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
            self.app.cut_off()
            return
        self.app.draining = True
        # At a terminal no proxy is waited for.
        self.drain(0.0 if sig == signal.SIGINT else IDLE, self.app.settings.grace + _AFTER_GRACE)
        asyncio.get_running_loop().call_later(self.app.settings.grace, self.app.cut_off)


def check_port(host: str, port: int) -> None:
    """Raise ConfigError where nothing can listen at a port: uvicorn says it only in the log, after it is said to be served."""
    faults = []
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(f"cannot listen at {host}: no address has this name") from None
    for family, kind, protocol, _, place in places:
        try:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(place)
        except OSError as error:
            faults.append(error)
    # A name may stand for an address that this machine has not, beside one that it has.
    missing = [error for error in faults if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)]
    found = [error for error in faults if error not in missing] or (missing if len(missing) == len(places) else [])
    if found:
        reason, hint = os.strerror(found[0].errno or 0), _PORT_HINTS.get(found[0].errno or 0, "")
        raise ConfigError(f"cannot listen at {host}, port {port}: {reason}", hint=hint)


def serve(app: App, host: str, port: int) -> int:
    """Serve in this process until a signal ends it; gives the exit code."""
    server = Server.of(app, host, port)
    _collect_rarely()
    server.run()
    return 0 if server.started else 1


def _collect_rarely() -> None:
    """Let the garbage collector run rarely, and leave what is there now, catalogue and code, out of it. Calls leave it nothing to do, and
    with its usual settings it looked through the objects of all running calls after every other call: a tenth of a call's time.
    """
    if sys.implementation.name == "cpython":  # other Pythons collect in other ways
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECTED)


def _config(host: str, port: int, app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=guarded(lambda: app.settings),
        h11_max_incomplete_event_size=app.settings.max_head + _AT_ONCE,  # ours is looked at first, and says 431
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=1,  # after all that is waited for in drain.py
        timeout_keep_alive=75,
    )


class _Worker:
    """What each process of several runs. It is pickled: it makes its own application."""

    def __init__(self, options: dict[str, Any], host: str, port: int, log: tuple[str, str], count: int) -> None:
        """log: its level and its form."""
        self.options, self.host, self.port, self.log, self.count = options, host, port, log, count

    def __call__(self, listening: socket.socket) -> None:
        try:
            app = App(**self.options)
            logs.set_up(*self.log, app.mask)
            app.workers = self.count
            server = Server.of(app, self.host, self.port)
        except Error as error:  # a file has become a broken one since the first start; there are more tries
            logging.getLogger("prx.serve").error("a process cannot start: %s", error)  # noqa: TRY400
            sys.exit(1)
        # Ctrl-C reaches every process of a terminal, and the first one hands it on: it would count as a second signal.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server.signals = (signal.SIGTERM,)
        server.is_alone = self.count == 1
        _collect_rarely()
        server.run(sockets=[listening])


class Processes:
    """Several processes on one listening socket. One that dies is started again; signals are handed on to all."""

    def __init__(self, count: int, worker: _Worker, listening: socket.socket) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._worker, self._listening = worker, listening
        self._all = [self._started() for _ in range(count)]
        self._ending = False

    def run(self) -> None:
        """Until a signal ends them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._hand_on)
        while not self._ending or any(process.is_alive() for process in self._all):
            alive = [process.sentinel for process in self._all if process.is_alive()]
            if not self._ending and len(alive) < len(self._all):
                self._replace_dead()
            else:
                multiprocessing.connection.wait(alive, timeout=_PAUSE)

    def _replace_dead(self) -> None:
        time.sleep(_PAUSE)
        for place, process in enumerate(self._all):
            if process.is_alive() or self._ending:
                continue
            # Its counts stay, and its running calls do not.
            mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
            self._all[place] = self._started()
        if self._ending:  # the signal may have come before a new process was in the list
            self._hand_on(signal.SIGTERM, None)

    def _started(self) -> SpawnProcess:
        process = self._context.Process(target=self._worker, args=(self._listening,))
        if not hasattr(signal, "SIGHUP"):
            process.start()
            return process
        # A process has this from the one that starts it: one that has no handler yet is not ended by the signal, but has it later.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        return process

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        self._listening.close()  # or connections would wait at the port, unanswered, while other processes end
        self._hand_on(signal.SIGTERM, frame)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        for process in self._all:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)


def serve_in(workers: int, options: dict[str, Any], host: str, port: int, log: tuple[str, str]) -> int:
    """Serve in so many processes, which share a port, until a signal ends them; gives the exit code."""
    listening = uvicorn.Config("", host=host, port=port, log_config=None).bind_socket()
    with tempfile.TemporaryDirectory(prefix="prx-metrics-") as folder:
        os.environ[FOLDER] = folder  # the processes inherit it
        Processes(workers, _Worker(options, host, port, log, workers), listening).run()
    return 0
