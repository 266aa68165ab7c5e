"""The token of an account: got before its first call, kept until shortly before its end, got anew where it is refused.

All calls of an account that need a token at once wait for one exchange. An exchange that failed is not tried again for some
seconds: the calls of that time fail with the same error.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from prx.accounts.kept import Held, Kept
from prx.core import token as tokens
from prx.core.exchange import Ask, Flow
from prx.core.token import Credential, Token
from prx.errors import Error
from prx.secret import Secret
from prx.spec.model import Spec
from prx.wire import Target

if TYPE_CHECKING:
    from prx.core.keyed import KeyChoice


class TokenSource:
    """Gives the Target of an account with a token in it.

    target    without the token
    network   of the requests, as in session.Run
    """

    exchanges = True  # a token is sent in place of the key

    def __init__(
        self, spec: Spec, credential: Credential, target: Target, network: Any = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:  # fmt: skip
        self._network = network
        self._spec, self.credential, self._target, self._new_id = spec, credential, target, new_id
        self._kept: Kept[Token] = Kept(self._get)

    @property
    def secrets(self) -> list[Secret]:
        """All that must not be shown."""
        return [*self.credential.secrets, *([token.value] if (token := self._token) else [])]

    @property
    def keys(self) -> list[Secret]:
        return self.secrets

    def shown(self) -> str:
        """The request of the exchange in a line, with its secrets masked; "" where nothing is sent for a token."""
        if not self.credential.url:
            return ""
        request = tokens.shown_request(self._spec, self.credential)
        body = bytes(request.body).decode()
        own = {name: text for name, text in request.headers.items() if name not in tokens.USUAL}
        return " · ".join(
            [
                f"{request.method} {request.url}",
                *(f"{name}: {text}" for name, text in own.items()),
                *([body] if body else []),
            ]
        )

    def for_call(self) -> KeyChoice:
        return _OneToken(self)

    @property
    def token_url(self) -> str:
        """Where its tokens are got, "" where none has to be asked for."""
        return self.credential.url

    @property
    def made_of(self) -> Credential:
        return self.credential

    @property
    def held(self) -> Target:
        """The target with the token that was got last; without one, as `target`."""
        return self._filled(token) if (token := self._token) else self._target

    @property
    def _token(self) -> Token | None:
        return self._kept.held.value if self._kept.held else None

    def obtain(self, now: float) -> Generator[Ask, Any, Target]:
        """The flow that gives the Target. now: the time, in seconds since 1970. Raises Error where there is no token."""
        token = yield from self._kept.obtain(now)
        return self._filled(token)

    def refused(self, target: Target, now: float) -> bool:
        """The provider has refused the token of this target. Gives whether another one may be better; see Kept."""
        token = self._token
        return self._kept.refused(now, held=token is not None and self._holds(target, token))

    def _get(self, now: float) -> Flow:
        token: Token = yield from tokens.obtain(self._spec, self.credential, now, self._new_id, self._network)
        return Held(token, now, token.early, token.until)

    def _filled(self, token: Token) -> Target:
        auth = {name: Secret(token.value.reveal(), self._spec.auth.template) for name in self._target.auth}
        return self._target._replace(auth=auth, base_url=token.base_url or self._target.base_url)

    @staticmethod
    def _holds(target: Target, token: Token) -> bool:
        return any(secret.within("{api_key}") == token.value for secret in target.auth.values())


class _OneToken:
    """The token of one call, and another one where it is refused."""

    hands_on = ()

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._target: Target | None = None
        self._renewed = False

    def obtain(self, now: float) -> Generator[Ask, Any, Target]:
        self._target = None
        self._target = yield from self._source.obtain(now)
        return self._target

    def other(self, error: Error, now: float) -> bool:
        if self._renewed or self._target is None or error.status != 401:
            return False
        self._renewed = True
        return self._source.refused(self._target, now)
