"""Gives an account its key where the configuration names a command, a file, or several keys.

A key becomes the target of a call by the same way as one that is written in the table: `open_with` opens the account with
it. So the same laws say where it may be sent, and a credential that has to be exchanged is exchanged.

Of several keys the first one is used until the provider refuses it. A key that is refused rests: for as long as the provider
says, or else a minute for a rate and five minutes for a quota or a refused key. If all rest, the one that rests least is used.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx.accounts.kept import Held, Kept
from prx.accounts.key_entries import Command, Entry, KeyFile, KeySources
from prx.core.exchange import Ask, Flow, Outside
from prx.errors import ConfigError, Error
from prx.secret import Secret
from prx.spec.files import data_of, stamp
from prx.text import MissingError, fill
from prx.wire import Target

if TYPE_CHECKING:  # at import, creating a Protocol class takes as long as the rest of this module
    from typing import Protocol

    from prx.accounts.tokens import TokenSource
    from prx.core.keyed import KeyChoice

    class Opened(Protocol):
        """An account with one key; see accounts.account."""

        @property
        def target(self) -> Target: ...
        @property
        def source(self) -> TokenSource | KeySource | None: ...
        @property
        def secrets(self) -> list[Secret]: ...
        @property
        def keys(self) -> list[Secret]: ...
        @property
        def token_url(self) -> str: ...


HANDED_ON = ("auth", "quota", "rate_limit")  # kinds of errors that another key may not have
_RESTS = {"rate_limit": 60.0}  # seconds for which a refused key rests; see the module
_REST = 300.0
_EARLY = 0.1  # a command is run again when this share of its key's life is left, but
_EARLIEST = 30.0  # no more than so many seconds before its end
_LARGEST = 65536  # bytes of a file with a key
# (the key, whether it is literal: no text of the configuration, where ${NAME} would be a variable) -> the account with it
OpenWith = Callable[[Secret, bool], "Opened"]


class _Place(ABC):
    """One of the keys: where it is got, and what is known of it."""

    literal = True

    def __init__(self, where: str) -> None:
        self.where = where
        self.rests_until = 0.0  # of the clock of time.time()
        self.opened: list[tuple[Secret, Opened]] = []  # the last two keys, and the accounts with them

    @abstractmethod
    def text(self, now: float) -> Generator[Ask, Any, Secret]:
        """The flow that gives the key. Raises ConfigError where there is none."""

    def again(self, now: float, refused: Secret) -> bool:
        """A key of this place was refused. Gives whether the one that is got next may be another one."""
        return False

    def rests(self, now: float) -> bool:
        """Whether the provider has refused its key, so that others come before it."""
        return now < self.rests_until

    def account(self, text: Secret, open_with: OpenWith) -> Opened:
        """The account with this key, which is opened once. The one before stays known: calls that run still have it."""
        for known, account in self.opened:
            if known == text:
                return account
        account = open_with(text, self.literal)
        self.opened = [*self.opened[-1:], (text, account)]
        return account


class _Written(_Place):
    """A key that stands in the table."""

    literal = False

    def __init__(self, where: str, text: Secret) -> None:
        super().__init__(where)
        self._text = text

    def text(self, now: float) -> Generator[Ask, Any, Secret]:
        yield from ()
        return self._text


class _OfFile(_Place):
    """A key in a file, which is read when it has changed."""

    def __init__(self, where: str, entry: KeyFile) -> None:
        super().__init__(where)
        self._path = Path(entry.path)
        self._read: tuple[Any, Secret] | None = None

    def text(self, now: float) -> Generator[Ask, Any, Secret]:
        yield from ()
        found = stamp(self._path)
        if self._read is None or found is None or self._read[0] != found:
            self._read, self.rests_until = (found, self._contents()), 0.0
        return self._read[1]

    def _contents(self) -> Secret:
        try:
            text = data_of(self._path, _LARGEST).decode().strip()
        except (OSError, ValueError) as error:
            reason = "is not UTF-8" if isinstance(error, UnicodeError) else f"cannot be read: {_reason(error)}"
            raise ConfigError(f"{self.where}: {self._path} {reason}") from None
        if not text or len(text) > _LARGEST:
            raise ConfigError(f"{self.where}: {self._path} {'is empty' if not text else 'is too large for a key'}")
        return Secret(text)

    def again(self, now: float, refused: Secret) -> bool:
        return self._read is None or self._read[1] != refused or self._changed()

    def rests(self, now: float) -> bool:
        return super().rests(now) and not self._changed()

    def _changed(self) -> bool:
        return self._read is not None and self._read[0] != stamp(self._path)


class _OfCommand(_Place):
    """A key that a command prints."""

    def __init__(self, where: str, entry: Command, env: Mapping[str, str]) -> None:
        super().__init__(where)
        from prx.accounts.command import printed  # imported here: it needs what few programs do

        self._run = partial(printed, entry.argv, env, where)
        self._life = entry.seconds
        self._kept: Kept[Secret] = Kept(self._get)

    def text(self, now: float) -> Generator[Ask, Any, Secret]:
        return self._kept.obtain(now)

    def _get(self, now: float) -> Flow:
        text = Secret((yield Outside(self._run)))
        early = self._life - min(_EARLIEST, self._life * _EARLY)
        return Held(text, now, now + early, now + self._life)

    def again(self, now: float, refused: Secret) -> bool:
        held = self._kept.held
        return self._kept.refused(now, held=held is not None and held.value == refused)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class KeySource:
    """Gives the targets of the calls of an account.

    open_with   gives the account with a key
    """

    def __init__(self, sources: KeySources, where: str, env: Mapping[str, str], open_with: OpenWith) -> None:
        self.open_with, self._sources = open_with, sources
        several = len(sources.entries) > 1
        self.places = [
            _place(entry, f"{where}[{at}]" if several else where, env) for at, entry in enumerate(sources.entries)
        ]
        self._told = " or ".join(
            "a key that is written there" if isinstance(e, Secret) else str(e) for e in sources.entries
        )
        self._written = [*_filled(sources.texts, env)]

    def for_call(self) -> KeyChoice:
        return _OneOf(self)

    @property
    def token_url(self) -> str:
        """Where its keys are exchanged for tokens, "" where they are not, or where no key is known yet."""
        return next((account.token_url for account in self._accounts()), "")

    @property
    def exchanges(self) -> bool:
        """Whether a token is sent in place of a key, as far as keys are known."""
        return any(account.source for account in self._accounts())

    @property
    def secrets(self) -> list[Secret]:
        """All keys that are known, and what they were exchanged for."""
        return [*self._known(), *(secret for account in self._accounts() for secret in account.secrets)]

    @property
    def keys(self) -> list[Secret]:
        """As `secrets`, without the headers and variables of the accounts."""
        return [*self._known(), *(key for account in self._accounts() for key in account.keys)]

    def _known(self) -> list[Secret]:
        return [*self._written, *(text for place in self.places for text, _ in place.opened if place.literal)]

    def masking(self, target: Target) -> Target:
        """The target, with all keys that are known among what must not be shown: a provider may name another one."""
        shown = {*target.secrets}
        others = [secret for secret in dict.fromkeys(self.secrets) if secret not in shown]
        return target._replace(unsent=(*target.unsent, *others)) if others else target

    @property
    def made_of(self) -> KeySources:
        """What the table says, and what its variables hold."""
        return KeySources((*self._sources.entries, *self._written))

    @property
    def held(self) -> Target | None:
        """The target with the newest key of the first place that has one, or None."""
        account = next((place.opened[-1][1] for place in self.places if place.opened), None)
        if account is None:
            return None
        return account.source.held if account.source else account.target

    def shown(self) -> str:
        """Where the keys are got."""
        return self._told

    def _accounts(self) -> list[Opened]:
        return [account for place in self.places for _, account in place.opened]


class _OneOf:
    """The keys of one call, one after the other."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._used: list[_Place] = []
        self._again: _Place | None = None  # the place whose key is to be got anew
        self._text = Secret("")  # the key that was got last
        self._renewed = False
        self._inner: KeyChoice | None = None  # of the exchange that the last key needs

    @property
    def hands_on(self) -> tuple[str, ...]:
        return HANDED_ON if len(self._used) < len(self._source.places) else ()

    def obtain(self, now: float) -> Generator[Ask, Any, Target]:
        if self._inner is None:
            place, self._again = self._again or self._next(now), None
            self._used.append(place)
            self._text = yield from place.text(now)
            account = place.account(self._text, self._source.open_with)
            if account.source is None:
                return self._source.masking(account.target)
            self._inner = account.source.for_call()
        target: Target = yield from self._inner.obtain(now)
        return self._source.masking(target)

    def other(self, error: Error, now: float) -> bool:
        if self._inner is not None and self._inner.other(error, now):
            return True
        self._inner = None
        if not self._used:
            return False
        place = self._used[-1]
        if error.kind in HANDED_ON:
            if error.status == 401 and not self._renewed and place.again(now, self._text):
                self._renewed, self._again = True, self._used.pop()
                return True
            place.rests_until = now + (error.retry_after or _RESTS.get(error.kind, _REST))
            if len(self._used) < len(self._source.places):
                return True
        self._again = self._used.pop()  # whoever tries once more all the same has no other
        return False

    def _next(self, now: float) -> _Place:
        """The first key that does not rest, of those that the call has not used; if all rest, the one that rests least."""
        unused = [place for place in self._source.places if place not in self._used]
        ready = (place for place in unused if not place.rests(now))
        return next(ready, None) or min(unused, key=lambda place: place.rests_until)


def _filled(texts: Iterable[Secret], env: Mapping[str, str]) -> Iterator[Secret]:
    """The keys that are written in the table, as far as their variables are set."""
    for text in texts:
        with contextlib.suppress(MissingError):
            yield Secret(fill(text.reveal(), env).strip())


def _place(entry: Entry, where: str, env: Mapping[str, str]) -> _Place:
    if isinstance(entry, Command):
        return _OfCommand(where, entry, env)
    return _OfFile(where, entry) if isinstance(entry, KeyFile) else _Written(where, entry)
