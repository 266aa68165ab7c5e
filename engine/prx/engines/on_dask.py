"""Dask: a task is a future, and what is held for all of them stands on the scheduler, without which there are none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import dask
import distributed
from distributed.protocol import pickle as wire  # what Dask itself writes and reads all tasks with

from prx.engines.engine import Engine, Fault, Lost, check_reachable, guarded
from prx.errors import ConfigError

_LOOK_SECONDS = 0.5  # after which a wait is interrupted, for a look whether there is room for more tasks
_JOIN_SECONDS = 20  # for a scheduler to answer
_ANSWER_SECONDS = 30.0  # for it to answer a task


def opened(address: str | None, workers: int | None) -> DaskEngine:
    """Join the cluster at this address, or start one here. Raises ConfigError."""
    logging.getLogger("distributed").setLevel(
        logging.CRITICAL
    )  # it tells of each worker that dies, with all its frames
    cluster = None
    # A task is not run again by the scheduler, which does not tell of it, but by `map`, which counts it.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), warnings.catch_warnings():
        # Where another Dask runs here, its port for status is taken, and another one is used: no news for anybody.
        warnings.filterwarnings("ignore", message="Port .* is already in use", category=UserWarning)
        try:
            if address is None:
                cluster = distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
                )  # fmt: skip
            else:
                check_reachable(address)
            client = distributed.Client(cluster if cluster is not None else address, timeout=_JOIN_SECONDS)
        except Exception as error:  # whatever it is: nothing has been begun
            place = f"no Dask can be joined at {address}" if address is not None else "Dask cannot be started here"
            raise ConfigError(f"{place}: {_first_line(error)}", hint="tcp://HOST:8786 is an address.") from None
    if cluster is not None:
        client.register_plugin(_Uninterrupted())
    return DaskEngine(client, cluster)


class DaskEngine(Engine):
    """Dask, joined or started by `opened`."""

    name = "dask"

    def __init__(self, client: Any, cluster: Any) -> None:
        self._client, self._cluster = client, cluster
        self._plugins: list[str] = []

    def slots(self) -> int:
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def hold(self, make: Callable[..., Any], *arguments: Any) -> DaskHeld:
        """An object on the scheduler, which answers to a name of its own."""
        name = f"prx_{secrets.token_hex(8)}"
        try:
            self._client.register_plugin(_Holder(make, arguments, name), name=name)
        except Exception as error:
            raise ConfigError(
                f"the scheduler cannot hold what the tasks share: {_first_line(error)}", hint=_SAME
            ) from None
        self._plugins.append(name)
        return DaskHeld(name)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            for name in self._plugins:
                self._client.unregister_scheduler_plugin(name)
        for each in filter(None, (self._client, self._cluster)):
            with contextlib.suppress(Exception):
                each.close()

    def _begin(self, function: Any, task: Any) -> Any:
        return self._client.submit(guarded, function, task, key=f"prx-task-{secrets.token_hex(8)}", pure=False)

    def _ended(self, running: list[Any]) -> list[tuple[Any, Any]]:
        with contextlib.suppress(TimeoutError):
            distributed.wait(running, timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
        return [(run, self._found(run)) for run in running if run.status != "pending"]

    def _found(self, run: Any) -> Any:
        if run.status in ("lost", "cancelled"):
            return Lost("the scheduler lost it")
        error = run.exception() if run.status == "error" else None
        if isinstance(error, distributed.KilledWorker):
            return Lost("its worker was killed")
        if error is not None:  # what a task raises is caught by `guarded`: it never came so far
            return None, Fault("config", f"a worker cannot run the task: {_first_line(error)}", _SAME)
        try:
            return run.result()
        except Exception as error:  # the worker that had the result has died since
            return Lost(type(error).__name__)

    def _stop(self, running: Iterable[Any]) -> None:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self._client.cancel([*running], force=True)


class DaskHeld:
    """The name of an object on the scheduler; asked by the program itself, or in the thread of a task."""

    def __init__(self, name: str) -> None:
        self._name = name

    def ask(self, method: str, *arguments: Any) -> Any:
        asker: Any
        try:
            asker = distributed.get_worker()
        except ValueError:  # no task runs here
            asker = distributed.get_client()
        given = wire.dumps((method, arguments))

        async def answer() -> Any:
            handler = getattr(asker.scheduler, self._name)
            return await asyncio.wait_for(handler(given=given), _ANSWER_SECONDS)

        try:
            found = distributed.utils.sync(asker.loop, answer)
        except Exception:
            raise LookupError("what the tasks share is gone") from None
        return wire.loads(found)


class _Uninterrupted(distributed.WorkerPlugin):  # type: ignore[misc]
    """Workers that were started here pass over Ctrl-C, which a terminal sends to them as well: the program ends them."""

    name = "prx-uninterrupted"

    def setup(self, worker: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Holder(distributed.SchedulerPlugin):  # type: ignore[misc]
    """What the scheduler has: one object, and a handler that calls it."""

    idempotent = True

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...], name: str) -> None:
        self._make, self._arguments, self.name = make, arguments, name

    def start(self, scheduler: Any) -> None:
        self._object = self._make(*self._arguments)
        self._handlers = scheduler.handlers
        self._handlers[self.name] = self._ask

    async def close(self) -> None:
        self._handlers.pop(self.name, None)

    def _ask(self, given: bytes, **_: Any) -> bytes:
        method, arguments = wire.loads(given)
        answer: bytes = wire.dumps(getattr(self._object, method)(*arguments))
        return answer


_SAME = "Install the same version of prx-engine, and of Python, on all machines, the scheduler's too."


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
