"""What a service is made of and what it has: configuration, faces, callers, and the calls that run."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from prx.accounts.config import expand, is_pattern
from prx.aclient import AsyncClient
from prx.core.inbound import Routes
from prx.errors import ConfigError
from prx.mask import Mask
from prx.secret import Secret
from prx.serve.callers import Callers
from prx.serve.metrics import Metrics
from prx.serve.ways import Ways
from prx.spec.face import Face

if TYPE_CHECKING:
    from prx.serve.shared import Shared

_MOST_FAILURES = 20  # that are remembered


class Service:
    """client: an AsyncClient; without one, one is made of the usual configuration, which takes in changed files.

    running   the calls that run now
    draining  the service is about to end
    problems  faults of the last reload, with those of files that only the service reads (faults)
    failures  the calls that failed last, the newest first
    workers   how many processes share the port
    began     when the process began to serve, by time.monotonic
    """

    def __init__(self, client: AsyncClient | None = None, *, otel: Any = None, **options: Any) -> None:
        """otel: a prx.otel.Telemetry, which is told of the calls; or True for one that exports, as serve.otel is.
        options: as AsyncClient's, for the client that is made here. Raises ConfigError and SpecError.
        """
        self._taken: Any = None  # the accounts that are used now
        self.client = client or AsyncClient(**{"watch": True, **options})
        self.telemetry = self._telemetry(otel)
        self.metrics = Metrics()
        self.running: set[Any] = set()
        self.draining = False
        self.problems: tuple[str, ...] = ()
        self.faults: tuple[str, ...] = ()
        self.failures: deque[dict[str, Any]] = deque(maxlen=_MOST_FAILURES)
        self.workers = 1
        self.began = time.monotonic()
        self.worked_out: dict[str, Any] = {}  # of the present configuration, by those who look at it
        self._ways = Ways(None)
        self.callers: Callers | None = None
        self.shared: Shared | None = None
        self.faces: list[Face] = []
        self.routes = Routes(())
        self.take_in()
        # Made of every packaged file, some seconds where there is no cache yet: the first call would hold up all others.
        _ = self.client.session.current().catalog.claims

    def _telemetry(self, given: Any) -> Any:
        """What makes spans of requests and calls, or None. Raises ConfigError."""
        if given is None and self.settings.otel:
            given = True
        if given is True:
            try:
                from prx.otel import exporting
            except ImportError:
                raise ConfigError(
                    "serve.otel needs OpenTelemetry, which is missing",
                    hint="pip install 'prx-engine[otel]' brings it.",
                ) from None
            given = exporting()
        if given:
            self.client.session.tell(given)
        return given or None

    # -------------------------------------------------------------- configuration

    @property
    def settings(self) -> Any:
        return (self._taken or self.client.session.accounts).config.serve

    @property
    def ways(self) -> Ways:
        """Those of the client's present configuration, also where the service has not taken it in."""
        accounts = self.client.session.accounts
        if self._ways.accounts is not accounts:
            self._ways = Ways(accounts)
        return self._ways

    def take_in(self) -> None:
        """Use the client's present configuration, if it is another one than before."""
        accounts = self.client.session.current()
        self.problems = (*self.client.session.problems, *self.faults)
        if accounts is self._taken:
            return
        callers = Callers(accounts.config.serve.keys, self.client.env, self.callers)
        faces = accounts.catalog.faces()
        shared = self._shared(accounts.config.serve.redis)
        self.callers, self.faces, self._taken = callers, faces, accounts
        self.routes = Routes(faces)
        self.worked_out.clear()
        self._share(shared)
        self.metrics.serves(self.names())

    def _shared(self, given: Secret | None) -> Shared | None:
        """What is shared with other processes by this URL. Raises ConfigError."""
        if given is None:
            return None
        url = Secret(expand(given.reveal(), self.client.env, "serve.redis"))
        if self.shared is not None and self.shared.url == url:
            return self.shared
        try:
            from prx.serve.shared import Shared
        except ImportError:
            raise ConfigError(
                "serve.redis needs the library redis, which is missing",
                hint="pip install 'prx-engine[redis]' brings it.",
            ) from None
        return Shared(url, self.metrics.redis_is, self.client.session.balance.rest)

    def _share(self, shared: Shared | None) -> None:
        earlier, self.shared = self.shared, shared
        self.client.session.balance.on_rest = shared.rest if shared is not None else None
        if shared is not None:
            shared.start()
        if earlier is not None and earlier is not shared:
            earlier.end()

    def reload(self) -> None:
        """Read all files again, whether they have changed or not."""
        self.client.reload()
        self.take_in()

    def secrets(self) -> list[Secret]:
        """All keys that are known: of callers, and of the providers that have been asked."""
        opened = tuple(self.client.accounts.opened.values())
        own = [*self.callers.secrets] if self.callers is not None else []
        own += self.shared.secrets if self.shared is not None else []
        return [*own, *(secret for account in opened for secret in account.secrets)]

    def mask(self) -> Mask:
        return Mask(self.secrets())

    def names(self) -> list[str]:
        """The models that are served: every route with a fixed name, and every provider's own model."""
        config = self.client.config
        routes = [route.pattern for route in config.routes if not is_pattern(route.pattern)]
        models = [f"{name}/{row.model}" for name, row in config.providers.items() if row.model]
        default = [f"{config.provider}/{config.model}"] if config.provider and config.model else []
        return [*dict.fromkeys([*routes, *default, *models])]

    def resting(self) -> dict[str, float]:
        """{a target that rests: for how many more seconds}."""
        return {f"{ref.provider}/{ref.model}": left for ref, left in self.client.session.balance.resting().items()}

    def failed(self, told: dict[str, Any]) -> None:
        """Remember a call that failed."""
        self.failures.appendleft(told)

    def cut_off(self) -> None:
        """End all running calls: streams with an error event."""
        for answer in [*self.running]:
            answer.cut_off()
