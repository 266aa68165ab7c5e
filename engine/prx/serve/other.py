"""A call of a caller that is no chat: handed on as it came where the provider is asked in the same way, otherwise read and written anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prx import arguments
from prx.chat import Call, Given
from prx.core.inbound import Accepted, accept_call, fitting_call
from prx.core.kind_inputs import checked
from prx.core.kinds import Passed
from prx.core.weave import Weaver
from prx.errors import CapabilityError, ConfigError, Error
from prx.serve.wire import json_bytes
from prx.spec.face import Face
from prx.spec.model import KINDS_OF_CALLS, Spec


class OtherCall:
    """asked: the call as it was read, None where the body has no form but its own; a provider of its dialect gets it as it came."""

    def __init__(self, face: Face, kind: str, body: Mapping[str, Any], path: Mapping[str, Any]) -> None:
        """Raises CapabilityError and ConfigError."""
        self.face, self.kind, self.body = face, kind, body
        self.served = face.calls[kind]
        self._fault: Error | None = None
        self.asked = Accepted("", [], [])
        try:
            self.asked = self._read(path)
        except (CapabilityError, ConfigError) as error:
            if not self.served.as_it_comes:
                raise
            self._fault = error.with_traceback(None)

    def _read(self, path: Mapping[str, Any]) -> Accepted:
        asked = accept_call(self.face, self.kind, self.body, path)
        if "body" in KINDS_OF_CALLS[self.kind][0]:
            arguments.messages(asked.messages)
            arguments.tools(asked.tools)
        arguments.params(asked.params)
        return asked._replace(inputs=checked(self.kind, asked.inputs))

    @property
    def wants_pieces(self) -> bool:
        """Whether the answer is a stream, or bytes that nobody reads on their way."""
        return self.served.reply is None or self._wants_stream

    @property
    def _wants_stream(self) -> bool:
        """Whether the body asks for a stream; in a form true is a text."""
        return str(self.body.get("stream")).lower() == "true"

    def fit(self, spec: Spec, call: Call, endpoint: str, faces: Mapping[str, Face]) -> tuple[Call, list[str]]:
        """(the call for a provider, what it does not get). endpoint: of the route. faces: of all dialects. Raises CapabilityError for
        what has no form there.
        """
        form = spec.calls.get(self.kind)
        if form is None:  # refused when the request is built, so that the next target of a route may be asked
            return call._replace(given=Given("", {}, (), "/")), []
        same = spec.dialect == self.face.id
        path = endpoint or form.endpoint
        if same and self.served.as_it_comes and not spec.own_calls.get(self.kind) and isinstance(path, str):
            given = Given(self.face.id, self.body, (), path, form.encoding)
            return call._replace(given=given, stream=self.wants_pieces), []
        if self._fault is not None:
            # A caller of the service has to mend its request.
            raise CapabilityError(self._fault.message, provider=spec.id)
        if self._wants_stream:
            raise CapabilityError(
                "'stream' has no form in what is asked here: the answer comes as a whole", provider=spec.id
            )
        asked = self.asked
        full = call._replace(
            messages=tuple(asked.messages), tools=tuple(asked.tools), tool_choice=asked.tool_choice,
            params=asked.params, inputs=asked.inputs,
        )  # fmt: skip
        there = None if same else faces.get(spec.dialect)
        row = there.calls.get(self.kind) if there is not None else None
        return fitting_call(full, self.served, spec, None if same else row.parameters if row is not None else ())


def written(call: OtherCall | None, weaver: Weaver, result: Any) -> tuple[bytes, str]:
    """(the body of an answer, its media type)."""
    if call is None or isinstance(result, Passed):
        return result.data, result.media_type or "application/json"
    body = weaver.call_body(call.kind, result, call.asked.inputs)
    if isinstance(body, bytes):
        return body, result.media_type or "application/octet-stream"
    return (
        (body.encode(), "text/plain; charset=utf-8")
        if isinstance(body, str)
        else (json_bytes(body), "application/json")
    )
