"""The short way of a call whose body and answer go through as they are.

Where the caller speaks the provider's dialect, and the provider's file changes nothing in either, most calls differ from earlier
ones in texts and numbers alone. What an earlier one has shown, the long way need not find out again: where the call goes, with which
headers, and that nothing in it is changed or refused. Only what is certain takes the short way. A body of another form takes the
long one; so does an answer of another form, as it has come: it is read there, and called again or refused, as any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from prx.accounts.account import Account
from prx.aclient import AsyncClient
from prx.chat import Call, Reply, Usage
from prx.core.exchange import Send
from prx.core.request import encoded
from prx.errors import Error
from prx.json_text import read_strict
from prx.record import Record
from prx.session import Network, Run
from prx.spec.model import Found, Limits, Spec
from prx.transport.asynchronous import AsyncResponse, Deadline
from prx.wire import HttpRequest

if TYPE_CHECKING:
    from prx.accounts.choose import Accounts

_LONGEST_WORD = 64  # letters; in answers a longer text is no word that means something
_LONGEST = 200  # letters of a text beside the messages; with a longer one a body has a form of its own
_NAMES = frozenset(
    {"id", "created_at", "completed_at"}
)  # texts that each answer has of its own, and which stay as they came
_MOST_WAYS, _MOST_FORMS = 200, 20
_MOST_SEEN = 10_000
_MOST_ROWS = 100  # of one list in an answer

Path = tuple[str | int, ...]


class Came(NamedTuple):
    """What has come on the short way: a response, or an error in place of it. data: of its body, None where none was read."""

    response: AsyncResponse | None
    data: bytes | None = None
    error: Error | None = None


class Gone(NamedTuple):
    """A call that has gone the long way. asked: the model's name as the caller has said it."""

    asked: str
    account: Account
    call: Call
    sent: Send
    run: Run


class Way(Record):
    """What is known of calls of one form.

    asked    the model's name as callers say it; model: as its provider knows it
    request  without its body
    limits   of its phases; deadline: seconds for the whole call, or None
    text_at  where the text stands in an answer
    forms    of the answers that need no change
    """

    account: Account
    spec: Spec
    asked: str
    model: str
    request: HttpRequest
    network: Network
    limits: Limits
    deadline: float | None
    text_at: Path
    forms: set[Any]

    @property
    def is_open(self) -> bool:
        """Whether calls still go as they did: a fallback that was learned meanwhile changes them."""
        return not self.account.memory.get(self.model)

    async def answer(self, body: Mapping[str, Any], client: AsyncClient, deadline: Deadline) -> Plain | Came:
        """Make the call. What is no answer of a known form is given as it has come."""
        known, data_sent = self.request, encoded({**body, "model": self.model})
        request = HttpRequest(known.method, known.url, known.headers, data_sent, known.query)
        response: AsyncResponse | None = None
        pieces: list[bytes] | None = None
        failed: Error | None = None
        client.whole.add(deadline)
        try:
            response = await client.http(self.network).send(request, self.limits, deadline)
            if response.head.status == 200:
                pieces = []
                await self._read(response, pieces)
                if (plain := self._plain(b"".join(pieces))) is not None:
                    await response.finish()
                    return plain
        except Error as error:
            failed = error
        except BaseException:  # the task was cancelled
            if response is not None:
                response.abort()
            raise
        finally:
            client.whole.discard(deadline)
        return Came(response, b"".join(pieces) if pieces is not None else None, failed)

    async def _read(self, response: AsyncResponse, pieces: list[bytes]) -> None:
        """Read the body of a response into these pieces, or a little more of it than it may have."""
        size = 0
        while size <= self.limits.max_body and (piece := await response.read()):
            pieces.append(piece)
            size += len(piece)

    def _plain(self, data: bytes) -> Plain | None:
        try:
            body = read_strict(data.decode())  # these bytes are handed on, and not all readers take what ours takes
        except ValueError:
            return None
        text = _at(body, self.text_at)
        is_text = isinstance(text, str) and text and _is_plain(text, self.spec)
        if not is_text or len(data) > self.limits.max_body or form(body, text) not in self.forms:
            return None
        found = self.found(body)  # raises nothing: an answer of this form was read already
        return None if found.detect else Plain(data, Usage(*self.counts(found)))  # an error may be known by its number

    def found(self, body: Any) -> Found:
        return Found._make(self.spec.response.found.run(body))

    def counts(self, found: Found) -> Sequence[Any]:
        """The counts of an answer, in the order of a Usage."""
        return self.spec.response.tokens.run(found.usage) if found.usage else ()


class Plain(NamedTuple):
    """The body of an answer that needs no change, and its counts."""

    data: bytes
    usage: Usage


class Ways:
    """The ways that are known, of one configuration: that of these accounts.

    elsewhere  entrances and models of which a call has gone to a provider of another dialect: their forms are not looked at
    """

    def __init__(self, accounts: Accounts | None) -> None:
        self.accounts = accounts
        self.elsewhere: set[Any] = set()
        self._known: dict[Any, Way] = {}
        self._seen: set[int] = set()  # forms by their hashes: one that is never seen again is not worth learning

    def find(self, key: Any) -> Way | None:
        way = self._known.get(key)
        return way if way is not None and way.is_open else None

    def learn(self, key: Any, gone: Gone, body: Mapping[str, Any], reply: Reply) -> None:
        """Note that a call has gone the long way, and that its answer needed no change, where both are certain to be so again."""
        if self._is_new(key) or (way := _way(gone, body, reply)) is None:
            return
        if len(self._known) >= _MOST_WAYS:
            self._known.clear()
        forms = self._known.setdefault(key, way).forms
        if len(forms) < _MOST_FORMS:
            forms.add(form(reply.raw, _at(reply.raw, way.text_at)))

    def goes_elsewhere(self, place: Any) -> None:
        """Note that calls of an entrance for a model go to a provider of another dialect, for which there is no short way."""
        if len(self.elsewhere) >= _MOST_SEEN:
            self.elsewhere.clear()
        self.elsewhere.add(place)

    def _is_new(self, key: Any) -> bool:
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        before = len(self._seen)
        self._seen.add(hash(key))
        return len(self._seen) > before


def _way(gone: Gone, body: Mapping[str, Any], reply: Reply) -> Way | None:
    account, call, sent = gone.account, gone.call, gone.sent
    spec, text_at = account.definition.spec(call.model), _place_of(reply.content, reply.raw)
    names_model = (body.get("model") or "") == gone.asked  # a text: of two numbers the forms may be the same
    has_own_key = account.source is None and account.target.signer is None  # and none that is got for each call
    as_it_is = spec.plain and spec.reads_plainly and sent.request.body == encoded({**body, "model": call.model})
    # What a template adds to the caller's body, or writes over it, may depend on numbers.
    adds = [key for key in call.given.adds if key not in body] if call.given is not None else []
    writes_no_more = spec.request.body.only(("model", *adds)).reads <= _FIXED
    goes_there = has_own_key and names_model and writes_no_more and not sent.target
    if not goes_there or not as_it_is or text_at is None or not _is_simple(reply, spec):
        return None
    request, limits = sent.request._replace(body=b""), gone.run.limits(sent.limits)
    network, deadline = gone.run.network, gone.run.deadline
    way = Way(account, spec, gone.asked, call.model, request, network, limits, deadline, text_at, set())
    found = way.found(reply.raw)
    counts = tuple(way.counts(found))
    # A number that says how the answer has ended is like any other in the form, and a count with a point may be no whole one.
    is_certain = type(found.finish_reason) is not int and _COUNTS.issuperset(map(type, counts))
    return way if is_certain and counts == tuple(reply.usage or ()) else None


def form_of(body: Mapping[str, Any]) -> Any:
    """What a caller's body has in common with others of its form: all but the texts of its messages and numbers. None for a body
    that has more than messages of texts, and single values.
    """
    rows: list[Any] = []
    for key, value in body.items():
        kind = type(value)
        if kind is list:
            if not (objects := _objects(value)):
                return None
            rows.append((key, objects))
        elif kind is dict or (kind is str and len(value) > _LONGEST):
            return None
        else:
            rows.append((key, kind, _in_common(value)))
    return tuple(rows)


def _objects(rows: list[Any]) -> frozenset[Any] | None:
    """The objects in a list without what messages say; None where they have anything but texts, or others that are long. A role, a
    type and their like decide whether a call is refused.
    """
    for row in rows:
        if type(row) is not dict or not _TEXTS.issuperset(map(type, row.values())):
            return None
    found = frozenset([tuple([(key, "" if key == "content" else text) for key, text in row.items()]) for row in rows])
    return None if any(len(text) > _LONGEST for row in found for _, text in row) else found


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON: 1, 1.0 and true are equal in Python alone."""
    return one is other or (one == other and _in_order(one) == _in_order(other))


def form(value: Any, text: Any) -> Any:
    """What an answer has in common with others of its form: all but this text, longer texts, what it is called, and numbers."""
    kind = type(value)
    if kind is dict:  # its values are looked at here, since a call for each takes longer than all the rest
        rows: list[Any] = []
        for key, item in value.items():
            kind = type(item)
            if kind is dict or kind is list:
                rows.append((key, form(item, text)))
            elif kind is str:
                is_own = key in _NAMES and item
                rows.append((key, _TEXT if item is text else str if is_own or len(item) > _LONGEST_WORD else item))
            else:
                rows.append((key, kind, _in_common(item) if kind is int or kind is float else item))
        return tuple(rows)
    if kind is list:
        return tuple([form(item, text) for item in value[:_MOST_ROWS]]) if len(value) <= _MOST_ROWS else object()
    if kind is str:
        return _TEXT if value is text else value if len(value) <= _LONGEST_WORD else str
    return kind, _in_common(value)


def _in_common(value: Any) -> Any:
    """A single value; None for a number that says no more than how many, as 0 and 1 may."""
    return None if (type(value) is int and value > 1) or (type(value) is float and value) else value


def _place_of(text: str, value: Any, path: Path = ()) -> Path | None:
    """Where this very text stands in a value; None where it does not, or more than once."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [place for step, item in steps if (place := _place_of(text, item, (*path, step))) is not None]
    if value is text:
        return path
    return found[0] if len(found) == 1 else None


def _is_simple(reply: Reply, spec: Spec) -> bool:
    """Whether an answer is one text, which is read as it stands."""
    alone = len(reply.parts) == 1 and reply.parts[0].kind == "text" and not reply.parts[0].replay
    return alone and not reply.fallbacks and reply.attempts == 1 and _is_plain(reply.content, spec)


def _is_plain(text: str, spec: Spec) -> bool:
    """Whether a text is read as it stands: it has no tags of reasoning, and no half of a character."""
    for pair in spec.response.think_tags:
        if pair[0][0] in text or pair[1][0] in text:
            return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _at(value: Any, path: Path) -> Any:
    try:
        for step in path:
            value = value[step]
    except (LookupError, TypeError):
        return None
    return value


_FIXED = frozenset({"model", "stream"})  # what is the same in all calls of one form
_COUNTS = frozenset({int, type(None)})
_TEXTS = frozenset({str})
_in_order = json.JSONEncoder(sort_keys=True).encode
_TEXT = object()
