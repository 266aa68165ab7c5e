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
from prx.session import Options

if TYPE_CHECKING:
    from prx.serve.relay import Relay

_TRACE = ("traceparent", "tracestate")
_OWN_TOOLS = ("function", "custom")
_SHOWN = 100  # letters of a name that is repeated to a caller
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
        self._place: Any = None  # of calls that go where this one goes, where a short way of theirs may be known
        self._form: Any = None
        self._went: tuple[Account, Call] | None = None

    def check(self, caller: Caller) -> None:
        """Read the body. Raises RefusedError for a call that is no call, or that this caller may not make."""
        for name in arguments.EXTRA:
            if name in self.body:
                raise RefusedError(400, "bad_request", f"{name!r} is not a key of this API")
        self._find_way()
        if not isinstance(self.way, Unchanged):
            try:
                self.accept()
            except (CapabilityError, ConfigError) as error:
                raise RefusedError(
                    400, "capability" if error.kind == "capability" else "bad_request", error.message
                ) from None
            if self.way is not None and self.way.asked != self.accepted.model:
                self.way = None  # not every dialect names the model where ways are looked for
        self.model = self.accepted.model if self.way is None else self.way.asked
        self._request.told.add(model=self.model[:200])
        if not caller.may_ask(self.model):
            raise RefusedError(403, "permission", f"this key may not ask for {self.model[:100]!r}")
        if self.way is None:
            self._refuse_unknown()

    def _find_way(self) -> None:
        """The short way for calls of this form, if one is known."""
        app, found, headers = self._app, self._found, self._request.headers
        if found.entrance.use != "chat" or app.client.session.hooks is not None or app.settings.log_bodies:
            return  # who tells of calls, or shows their answers, has to see them read
        if not headers.keys().isdisjoint(_TRACE):
            return
        self._place = place = (found.face.id, found.entrance.at, found.path["model"], str(self.body.get("model")))
        if place in self._ways.elsewhere:
            self.way = self._ways.planned(place)
        elif self._hands_on_no_headers():
            if form := form_of(self.body):
                self._form = (place, form)
                self.way = self._ways.unchanged(self._form)
            else:
                self.way = self._ways.planned(place)

    def _hands_on_no_headers(self) -> bool:
        """Whether the request has none of the headers that are handed on to a provider of its dialect."""
        return self._request.headers.keys().isdisjoint(self._found.face.passes)

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
        if self._place is None or self._went is None or relay.sent is None or relay.requests != 1:
            return
        route = self._ways.route_of(self.model) if relay.sent.target else None
        gone = Gone(self.model, *self._went, relay.sent, relay.run, route)
        if relay.dialect != self._found.face.id:
            self._ways.goes_elsewhere(self._place)
            self._ways.learn_place(self._place, gone)
        elif self._form is not None:
            if not (self.several or self.left_out) and is_same(body, reply.raw):
                self._ways.learn_form(self._form, gone, self.body, reply)
        elif self._hands_on_no_headers():
            self._ways.learn_place(self._place, gone)

    @property
    def told(self) -> str:
        """What was left out, as one line, each name once."""
        if not self.left_out:
            return ""
        once = [name[:_SHOWN] for name in dict.fromkeys(self.left_out)]
        more = len(once) - _MOST_LEFT_OUT
        return ", ".join(once[:_MOST_LEFT_OUT] + ([f"and {more} more"] if more > 0 else []))
