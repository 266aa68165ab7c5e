"""Ray: a task is a remote task of one processor, and what is held for all of them is an actor beside the program itself."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prx.engines.engine import Engine, Fault, Lost, check_reachable, guarded
from prx.errors import ConfigError

_LOOK_SECONDS = 0.5  # after which a wait is interrupted, for a look whether there is room for more tasks
_ANSWER_SECONDS = 30.0  # for which the actor may be away, while it is started again
_LOCAL = {"include_dashboard": False}


def opened(address: str | None, workers: int | None) -> RayEngine:
    """Join the cluster at this address, or start one here. Raises ConfigError."""
    where = {"address": "local", "num_cpus": workers, **_LOCAL} if address is None else {"address": address}
    # Of each worker that dies it prints on standard output, whatever it is told; `map` says so itself where it matters.
    printing: Any = import_module("ray._private.worker")
    printing.print_to_stdstream = lambda *_, **__: None
    try:
        if address is not None:
            check_reachable(address)
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # whatever it is: nothing has been begun
        place = f"no Ray can be joined at {address}" if address is not None else "Ray cannot be started here"
        raise ConfigError(f"{place}: {_first_line(error)}", hint=_HINT) from None
    return RayEngine()


class RayEngine(Engine):
    """Ray, joined or started by `opened`."""

    name = "ray"

    def __init__(self) -> None:
        # What is lost is run again by `map`, which counts it.
        self._remote = ray.remote(guarded).options(max_retries=0, num_cpus=1)

    def slots(self) -> int:
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def hold(self, make: Callable[..., Any], *arguments: Any) -> RayHeld:
        """An actor on the node of the program: what ends that ends the run as well. It is begun anew where it dies."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = ray.remote(_Holder).options(
            name=f"prx-{secrets.token_hex(8)}", num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        )  # fmt: skip
        held = RayHeld(actor.remote(make, arguments))
        held.ask("__class__")
        return held

    def close(self) -> None:
        ray.shutdown()

    def _begin(self, function: Any, task: Any) -> Any:
        return self._remote.remote(function, task)

    def _ended(self, running: list[Any]) -> list[tuple[Any, Any]]:
        done, _ = ray.wait(running, num_returns=len(running), timeout=0)
        if not done:
            done, _ = ray.wait(running, num_returns=1, timeout=_LOOK_SECONDS)
        return [(run, self._found(run)) for run in done]

    def _found(self, run: Any) -> Any:
        try:
            return ray.get(run)
        except ray.exceptions.TaskCancelledError:
            return Lost("it was cancelled")
        except ray.exceptions.RayTaskError as error:  # what a task raises is caught by `guarded`: it never came so far
            return None, Fault("config", f"a worker cannot run the task: {_first_line(error.cause)}", _SAME)
        except (ray.exceptions.RuntimeEnvSetupError, ray.exceptions.TaskUnschedulableError) as error:
            return None, Fault("config", f"Ray cannot run the task: {_first_line(error)}")
        except ray.exceptions.RayError as error:
            return Lost(type(error).__name__)

    def _stop(self, running: Iterable[Any]) -> None:
        for run in running:
            with contextlib.suppress(Exception):  # the cluster may be gone
                ray.cancel(run, force=False)


class RayHeld:
    """The handle of an actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def ask(self, method: str, *arguments: Any) -> Any:
        try:
            return ray.get(self._actor.ask.remote(method, arguments), timeout=_ANSWER_SECONDS)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            raise LookupError("what the tasks share is gone") from None


class _Holder:
    """The actor: it has one object, and calls it."""

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._object = make(*arguments)

    def ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        found = getattr(self._object, method)
        return found(*arguments) if method != "__class__" else found.__name__


_HINT = "ray://HOST:10001 and HOST:6379 are addresses, and auto is the cluster of this machine."
_SAME = "Install the same version of prx-engine, and of Python, on all machines."


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
