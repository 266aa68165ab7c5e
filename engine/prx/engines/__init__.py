"""Tasks on many processes and machines: one function, many tasks, and what came of each as it comes.

    with open_engine("ray", address=None) as engine:
        for outcome in engine.map(function, tasks):
            ...

Ray and Dask are such engines. A task whose worker died is run again; one that fails has its error in its outcome, and
the others go on. Function and tasks are pickled, and may be shown by the engine's own pages: no key belongs into them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from prx.engines.engine import Engine, Fault, Held, Outcome
from prx.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("NAMES", "Engine", "Fault", "Held", "Outcome", "open_engine")

_MODULES: Mapping[str, str] = {"ray": "prx.engines.on_ray", "dask": "prx.engines.on_dask"}  # each imports its library
NAMES = tuple(_MODULES)


def open_engine(name: str, address: str | None = None, workers: int | None = None) -> Engine:
    """An engine, to be closed at the end: one that runs at `address`, or else one that is started on this machine with so
    many workers (None: as many as there are processors). Raises ConfigError.
    """
    if name not in _MODULES:
        raise ConfigError(f"an engine is {' or '.join(NAMES)}, not {name!r:.60}")
    if address is not None and workers is not None:
        raise ConfigError(
            "workers are counted where an engine is started; one that runs at an address has its own",
            hint="Give the address or the number of workers.",
        )
    try:
        module = import_module(_MODULES[name])
    except ImportError:
        raise ConfigError(
            f"the engine {name} needs the library of this name, which is missing",
            hint=f"pip install 'prx-engine[{name}]' brings it.",
        ) from None
    opened: Engine = module.opened(address, workers)
    return opened
