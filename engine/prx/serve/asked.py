"""What a caller asks: its body, read and checked, and made to fit the provider that it goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prx import arguments
from prx.accounts.account import Account
from prx.chat import NO_EXTRA, Call, Extra, Given, Reply
from prx.core.inbound import Accepted, Found, accept, fitting, model_of, wants_several
from prx.errors import CapabilityError, ConfigError
from prx.serve.callers import Caller
from prx.serve.failures import RefusedError
from prx.serve.likeness import form_of, is_same
from prx.serve.other import OtherCall
from prx.serve.service import Service
from prx.serve.ways import Gone, Planned, Unchanged, Way
from prx.serve.wire import Request
from prx.session import AS_SENT, Options

if TYPE_CHECKING:
    from prx.serve.relay import Relay

_TRACE = ("traceparent", "tracestate")
_OWN_TOOLS = ("function", "custom")
_SHOWN = 100  # letters of a name that is repeated to a caller
_LONGEST_NAME = 200  # letters; what is known of models is kept by their names, and callers may write any
_MOST_LEFT_OUT = 50  # names in a header: clients refuse an answer whose head is long


class Asked:
    """What is asked in one call.

    model     as it was asked for
    accepted  the call in canonical form; empty where the body goes through as it came
    several   whether several answers at once are asked for
    other     of a call that is no chat, and that is not passed on as it is
    left_out  what the provider that was asked last does not get
    way       the short way that is known for such calls
    """

    def __init__(self, app: Service, request: Request, found: Found, body: dict[str, Any]) -> None:
        self._app, self._request, self._found, self.body = app, request, found, body
        self.model = ""
        self.accepted = Accepted("", [], [])
        self.several = False
        self.other: OtherCall | None = None
        self.left_out: list[str] = []
        self.way: Unchanged | Planned | None = None
        self._ways = app.ways  # of the configuration that the call has begun with
        # By what short ways of calls like this one are known; None where they have none.
        self._name: Any = None  # of the model, as it was seen before the body was read
        self._form: Any = None
        self._place: Any = None
        self._went: tuple[Account, Call] | None = None

    def check(self, caller: Caller) -> None:
        """Read the body. Raises RefusedError for a call that is no call, or that this caller may not make."""
        for name in arguments.EXTRA:
            if name in self.body:
                raise RefusedError(400, "bad_request", f"{name!r} is not a key of this API")
        may_be_short = self._may_be_short()
        if may_be_short:
            self._find_unchanged()
        if self.way is None:
            try:
                self.accept()
            except (CapabilityError, ConfigError) as error:
                raise RefusedError(
                    400, "capability" if error.kind == "capability" else "bad_request", error.message
                ) from None
            if may_be_short:
                self._find_planned()
        self.model = self.accepted.model if self.way is None else self.way.asked
        self._request.told.add(model=self.model[:200])
        if not caller.may_ask(self.model):
            raise RefusedError(403, "permission", f"this key may not ask for {self.model[:100]!r}")
        if self.way is None:
            self._refuse_unknown()

    def _may_be_short(self) -> bool:
        """Whether a call like this may take a short way, which only whole answers have."""
        app, entrance = self._app, self._found.entrance
        if app.client.session.hooks is not None or app.settings.log_bodies:
            return False  # who tells of calls, or shows their answers, has to see them read
        is_whole = entrance.use == "chat" and not (self.body.get("stream") or entrance.stream)
        return is_whole and self._request.headers.keys().isdisjoint(_TRACE)

    def _find_unchanged(self) -> None:
        """The way of calls of this form, whose bodies go through as they are."""
        face, entrance, path = self._found.face, self._found.entrance, self._found.path
        named = path["model"] or self.body.get("model")
        if type(named) is not str or len(named) > _LONGEST_NAME or not self._hands_on_no_headers():
            return
        self._name = (face.id, entrance.at, named)
        if self._name not in self._ways.elsewhere and (form := form_of(self.body)):
            self._form = (self._name, form)
            self.way = self._ways.unchanged(self._form)

    def _find_planned(self) -> None:
        """The way of calls for this model, whose bodies and answers are read."""
        model, form_of_answer = self.accepted.model, self.accepted.params.get("response_format")
        if len(model) > _LONGEST_NAME or type(form_of_answer) not in AS_SENT:
            return
        self._place = (self._found.face.id, self._found.entrance.at, model)
        way = self._ways.planned(self._place)
        if way is not None and self._goes_plainly(way.spec.dialect):
            # A body that has a form may have a shorter way, which only the long one can find.
            self.way = way if self._form is None or way.spec.dialect != self._found.face.id else None

    def _goes_plainly(self, dialect: str) -> bool:
        """Whether a provider of this dialect gets no header of this caller."""
        return dialect != self._found.face.id or self._hands_on_no_headers()

    def _hands_on_no_headers(self) -> bool:
        """Whether the request has none of the headers that are handed on to a provider of its dialect."""
        return self._request.headers.keys().isdisjoint(self._found.face.passes)

    @property
    def present_way(self) -> Unchanged | Planned | None:
        """The short way, if it still is one: the call may have waited for its turn meanwhile."""
        way = self.way
        return way if way is not None and way.is_open and self._app.ways is self._ways else None

    def accept(self) -> None:
        """Read what is asked. Raises CapabilityError and ConfigError."""
        face, use, body, path = self._found.face, self._found.entrance.use, self.body, self._found.path
        if use != "chat":
            self.accepted = Accepted(model_of(face, body, path), [], [])
            self.other = OtherCall(face, use, body, path) if use in face.calls else None
            return
        self.accepted = asked = accept(face, body, path)
        self.several = wants_several(face, body)
        arguments.refuse_empty(asked.messages)
        arguments.refuse_taken(asked.params)
        if asked.tools:
            arguments.tools(asked.tools)

    def _refuse_unknown(self) -> None:
        """Raise for a model that leads nowhere."""
        accounts, name = self._app.client.accounts, self.model
        config = accounts.config
        routed = any(route.fits(name) for route in config.routes)
        first, slash, rest = name.partition("/")
        if not name and not (config.provider and (config.model or config.providers.get(config.provider))):
            raise RefusedError(400, "bad_request", "no model is named")
        if name and not routed and not (slash and rest and accounts.knows(first)) and not config.provider:
            raise RefusedError(404, "not_found", f"no model is called {name[:100]!r} here", code="model_not_found")

    def options(self, way: Way | None = None) -> Options:
        """way: on which the first request goes, or has gone."""
        asked = self.accepted
        if self.other is not None:
            return Options(model=self.model or None, fit=self._fit)
        return Options(
            messages=asked.messages,
            model=self.model or None,
            tools=asked.tools or None,
            tool_choice=asked.tool_choice,
            params=asked.params,
            fit=self._fit,
            gone=(way.account, way.model, way.route) if way is not None else None,
        )

    def _fit(self, account: Account, call: Call) -> Call:
        """The call for the provider that it goes to: what has no form in its dialect is taken off, or refused."""
        spec, face = account.definition.spec(call.model), self._found.face
        wanted = (*_TRACE, *face.passes) if spec.dialect == face.id else _TRACE
        headers = {name: self._request.headers[name] for name in wanted if name in self._request.headers}
        extra = Extra(headers=headers) if headers else NO_EXTRA
        self.left_out = []
        if self.other is not None:
            call, self.left_out = self.other.fit(
                spec, call, self._found.entrance.endpoint, {each.id: each for each in self._app.faces}
            )
            return call._replace(extra=extra)
        changed: dict[str, Any] = {
            "given": Given(face.id, self.body, face.adds, self._found.entrance.endpoint),
            "extra": extra,
        }
        if spec.dialect != face.id and self._found.entrance.use == "chat":
            there = next((other for other in self._app.faces if other.id == spec.dialect), None)
            params, self.left_out = fitting(call.params, face, spec, there.keys if there is not None else None)
            changed |= {"params": params, "tools": self._tools(call)}
        call = call._replace(**changed)
        self._went = (account, call)
        return call

    def _tools(self, call: Call) -> tuple[dict[str, Any], ...]:
        """The tools without those that another vendor's server runs; one that tool_choice demands is refused."""
        kept = tuple(tool for tool in call.tools if tool.get("type") in _OWN_TOOLS)
        for tool in call.tools:
            if tool not in kept:
                name = str(tool.get("name") or tool.get("type"))[:_SHOWN]
                chosen = call.tool_choice if isinstance(call.tool_choice, dict) else {}
                if name in (chosen.get("name"), chosen.get("type")):
                    raise CapabilityError(f"the tool {name!r} is run by its vendor's server alone")
                self.left_out.append(name)
        return kept

    def learn(self, reply: Reply, body: Any, relay: Relay) -> None:
        """Note the short way of this call, if there is one: it has gone there at once, and what is changed is known."""
        may_be_short = self._form is not None or self._place is not None
        if not may_be_short or self._went is None or relay.sent is None or relay.requests != 1:
            return
        route = self._ways.route_of(self.model) if relay.sent.target else None
        gone, is_own = Gone(self.model, *self._went, relay.sent, relay.run, route), relay.dialect == self._found.face.id
        if self._form is not None and is_own:
            if not (self.several or self.left_out) and is_same(body, reply.raw):
                self._ways.learn_form(self._form, gone, self.body, reply)
        elif self._place is not None and self._goes_plainly(relay.dialect):
            self._ways.learn_place(self._place, gone)
            if self._name is not None and not is_own:
                self._ways.goes_elsewhere(self._name)

    @property
    def shown_model(self) -> str:
        return self.model[:_SHOWN]

    @property
    def dropped(self) -> str:
        """What was left out, as one line, each name once."""
        if not self.left_out:
            return ""
        once = [name[:_SHOWN] for name in dict.fromkeys(self.left_out)]
        more = len(once) - _MOST_LEFT_OUT
        return ", ".join(once[:_MOST_LEFT_OUT] + ([f"and {more} more"] if more > 0 else []))
