"""The short way of a call: what an earlier one has shown, it need not find out again.

Where calls of a model go, and with which headers, is the same for all of them: it is planned once. Where the caller speaks the
provider's dialect, and the provider's file changes nothing in either, most calls differ from earlier ones in texts and numbers
alone: their bodies and answers go through as they are. Only what is certain takes the short way. A body of another form takes the
long one; so does an answer of another form, or one with an error, as it has come: it is read there, and called again or refused,
as any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from prx.accounts.account import Account
from prx.accounts.config import Route
from prx.accounts.targets import ref_of
from prx.aclient import AsyncClient
from prx.chat import Call, Reply, Usage
from prx.core.decode import Decoder
from prx.core.exchange import Send
from prx.core.request import chat_body, encoded
from prx.errors import Error
from prx.json_text import read_strict
from prx.record import Record
from prx.serve.likeness import Path, form, place_of, value_at
from prx.session import Network, Run
from prx.spec.model import Found, Limits, Spec
from prx.transport.asynchronous import AsyncResponse, Deadline
from prx.wire import HttpRequest

if TYPE_CHECKING:
    from prx.accounts.choose import Accounts

_MOST_WAYS, _MOST_FORMS, _MOST_PLANNED = 200, 20, 1_000
_MOST_SEEN = 10_000

Answer = TypeVar("Answer")
# Gives the answer that a response has, None for one that the way is not for. The list gets the pieces of its body that were read.
Read = Callable[[AsyncResponse, list[bytes]], Awaitable[Answer | None]]


class Came(NamedTuple):
    """What has come on the short way: a response, or an error in place of it. data: of its body, None where none was read."""

    response: AsyncResponse | None
    data: bytes | None = None
    error: Error | None = None


class Gone(NamedTuple):
    """A call that has gone the long way. asked: the model's name as the caller has said it. route: the one that has led it to a target."""

    asked: str
    account: Account
    call: Call
    sent: Send
    run: Run
    route: Route | None

    @property
    def fields(self) -> Mapping[str, Any] | None:
        """The fields of a Way for calls that go where this one has gone; None where a call alike may go elsewhere, or not as it did: with
        a key that is got for each call, or a signature; by a route with several targets.
        """
        account, sent, spec = self.account, self.sent, self.account.definition.spec(self.call.model)
        if account.source is not None or account.target.signer is not None or sent.fallbacks:
            return None
        if sent.target and (self.route is None or len(self.route.targets) != 1):
            return None
        return {
            "account": account, "spec": spec, "asked": self.asked, "model": self.call.model, "route": self.route,
            "request": sent.request._replace(body=b""), "network": sent.network or self.run.network,
            "limits": self.run.limits(sent.limits), "deadline": account.settings.deadline or spec.transport.total,
        }  # fmt: skip


class Way(Record):
    """Where calls of a model go, and how.

    asked    the model's name as callers say it; model: as its provider knows it
    request  without its body
    limits   of its phases; deadline: seconds for the whole call, or None
    route    the one that leads to its only target, or None
    """

    account: Account
    spec: Spec
    asked: str
    model: str
    request: HttpRequest
    network: Network
    limits: Limits
    deadline: float | None
    route: Route | None

    @property
    def is_open(self) -> bool:
        """Whether calls still go as they did: a fallback that was learned meanwhile changes them."""
        return not self.account.memory.get(self.model)

    async def fetch(self, data: bytes, read: Read[Answer], client: AsyncClient, deadline: Deadline) -> Answer | Came:
        """Send a body, and read the answer. What is no answer for this way is given as it has come."""
        if self.route is None:
            return await self._fetch(data, read, client, deadline)
        balance, ref = client.session.balance, ref_of(self.route.targets[0])
        balance.began(ref)
        try:
            answer = await self._fetch(data, read, client, deadline)
        except BaseException:
            balance.ended(ref, None, self.route.cooldown)
            raise
        if isinstance(answer, Came):
            balance.handed_over(ref)
        else:
            balance.ended(ref, None, self.route.cooldown)
        return answer

    async def _fetch(self, data: bytes, read: Read[Answer], client: AsyncClient, deadline: Deadline) -> Answer | Came:
        known = self.request
        request = HttpRequest(known.method, known.url, known.headers, data, known.query)
        response: AsyncResponse | None = None
        pieces: list[bytes] | None = None
        failed: Error | None = None
        client.whole.add(deadline)
        try:
            response = await client.http(self.network).send(request, self.limits, deadline)
            if response.head.status == 200:
                pieces = []
                if (answer := await read(response, pieces)) is not None:
                    await response.finish()
                    self.account.remember(self.model, ())  # as after each answer: a fallback may have been learned
                    return answer
        except Error as error:
            # Its traceback has this frame: with `failed` in it, that would be a reference cycle.
            failed = error.with_traceback(None)
        except BaseException:  # the task was cancelled
            if response is not None:
                response.abort()
            raise
        finally:
            client.whole.discard(deadline)
        return Came(response, b"".join(pieces) if pieces is not None else None, failed)


class Plain(NamedTuple):
    """The body of an answer that needs no change, and its counts."""

    data: bytes
    usage: Usage


class Unchanged(Way):
    """For calls whose body and answer go through as they are.

    text_at  where the text stands in an answer
    forms    of the answers that need no change
    """

    text_at: Path
    forms: set[Any]

    async def answer(self, body: Mapping[str, Any], client: AsyncClient, deadline: Deadline) -> Plain | Came:
        """Make the call of a caller's body."""
        return await self.fetch(self.written(body), self._read, client, deadline)

    def written(self, body: Mapping[str, Any]) -> bytes:
        """What is sent for a caller's body."""
        return encoded({**body, "model": self.model})

    async def _read(self, response: AsyncResponse, pieces: list[bytes]) -> Plain | None:
        size = 0
        while size <= self.limits.max_body and (piece := await response.read()):
            pieces.append(piece)
            size += len(piece)
        return self._plain(b"".join(pieces))

    def _plain(self, data: bytes) -> Plain | None:
        try:
            body = read_strict(data.decode())  # these bytes are handed on, and not all readers take what ours takes
        except ValueError:
            return None
        text = value_at(body, self.text_at)
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


class Planned(Way):
    """For calls whose body and answer are made and read as on the long way, as those between dialects are: where they go is known.

    new_id   makes ids for tool calls that have none
    """

    new_id: Callable[[], str]

    async def answer(self, call: Call, client: AsyncClient, deadline: Deadline) -> Reply | Came:
        """Make a call for a whole answer."""
        try:
            data = chat_body(self.spec, call)
        except Error as error:
            return Came(None, None, error)
        return await self.fetch(data, partial(self._read, call), client, deadline)

    async def _read(self, call: Call, response: AsyncResponse, pieces: list[bytes]) -> Reply | None:
        reader = Decoder(self.spec, call, self.account.target, response.head, self.new_id)
        while not reader.complete and (piece := await response.read()):
            pieces.append(piece)
            if reader.feed(piece)[1] is not None:
                return None
        if reader.end()[1] is not None:
            return None
        return reader.reply()


class Ways:
    """The ways that are known, of one configuration: that of these accounts.

    elsewhere  entrances with names in bodies with which calls have gone to a provider of another dialect: the forms of such bodies
               are not looked at
    """

    def __init__(self, accounts: Accounts | None) -> None:
        self.accounts = accounts
        self.elsewhere: set[Any] = set()
        self._unchanged: dict[Any, Unchanged] = {}
        self._planned: dict[Any, Planned] = {}
        self._seen: set[int] = set()  # forms by their hashes: one that is never seen again is not worth learning

    def route_of(self, model: str) -> Route | None:
        """The route with targets that a model's name takes."""
        return self.accounts.route_with_targets(model) if self.accounts is not None else None

    def unchanged(self, key: Any) -> Unchanged | None:
        """The way of calls of one form, whose bodies go through as they are."""
        way = self._unchanged.get(key)
        return way if way is not None and way.is_open else None

    def planned(self, place: Any) -> Planned | None:
        """The way of calls whose bodies are read. place: an entrance and a model's name."""
        way = self._planned.get(place)
        return way if way is not None and way.is_open else None

    def learn_form(self, key: Any, gone: Gone, body: Mapping[str, Any], reply: Reply) -> None:
        """Note that a call has gone the long way, and that its answer needed no change, where both are certain to be so again."""
        if self._is_new(key) or (way := _unchanged(gone, body, reply)) is None:
            return
        if len(self._unchanged) >= _MOST_WAYS:
            self._unchanged.clear()
        forms = self._unchanged.setdefault(key, way).forms
        if len(forms) < _MOST_FORMS:
            forms.add(form(reply.raw, value_at(reply.raw, way.text_at)))

    def learn_place(self, place: Any, gone: Gone) -> None:
        """Note that a call of a place has gone the long way."""
        if (way := _planned(gone)) is None:
            return
        if len(self._planned) >= _MOST_PLANNED:
            self._planned.clear()
        self._planned[place] = way

    def goes_elsewhere(self, name: Any) -> None:
        """Note that a call of this entrance and name has gone to a provider of another dialect."""
        if len(self.elsewhere) >= _MOST_PLANNED:
            self.elsewhere.clear()
        self.elsewhere.add(name)

    def _is_new(self, key: Any) -> bool:
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        before = len(self._seen)
        self._seen.add(hash(key))
        return len(self._seen) > before


def _unchanged(gone: Gone, body: Mapping[str, Any], reply: Reply) -> Unchanged | None:
    call, sent, fields, text_at = gone.call, gone.sent, gone.fields, place_of(reply.content, reply.raw)
    if fields is None or text_at is None:
        return None
    way = Unchanged(**fields, text_at=text_at, forms=set())
    spec = way.spec
    names_model = (body.get("model") or "") == gone.asked  # a text: of two numbers the forms may be the same
    as_it_is = spec.plain and spec.reads_plainly and sent.request.body == way.written(body)
    # What a template adds to the caller's body, or writes over it, may depend on numbers.
    adds = [key for key in call.given.adds if key not in body] if call.given is not None else []
    writes_no_more = spec.request.body.only(("model", *adds)).reads <= _FIXED
    if not names_model or not as_it_is or not writes_no_more or not _is_simple(reply, spec):
        return None
    found = way.found(reply.raw)
    counts = tuple(way.counts(found))
    # A number that says how the answer has ended is like any other in the form, and a count with a point may be no whole one.
    is_certain = type(found.finish_reason) is not int and _COUNTS.issuperset(map(type, counts))
    return way if is_certain and counts == tuple(reply.usage or ()) else None


def _planned(gone: Gone) -> Planned | None:
    fields, attempt, given = gone.fields, gone.sent.attempt, gone.call.given
    # A provider that only streams is asked for a stream; a body that is passed on has an endpoint of its own.
    if fields is None or attempt.call.stream or (given is not None and given.endpoint):
        return None
    return Planned(**fields, new_id=attempt.policy.new_id)


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


_FIXED = frozenset({"model", "stream"})  # what is the same in all calls of one form
_COUNTS = frozenset({int, type(None)})
