"""The wire formats of the emulator: those that `prx serve` speaks, each by the `serve` of its dialect's file.

Keys of a persona, of which a face knows nothing:
    refuses          {key of a body: the sentence with which it is refused}
    key_status       the status for a wrong key; default: 401
    keep_alive       true: a comment comes before the first event of a stream
    serve            {dialect: what is laid over the `serve` of its file}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from prx import arguments
from prx.core.inbound import Accepted, Found, Routes, accept, accept_call
from prx.core.kind_inputs import checked
from prx.core.weave import MEDIA_TYPES, Identity, Weaver
from prx.emulator.brain import Answer, deltas_of, reply_of
from prx.emulator.common import Asked, Head, Json, Persona, RefusedError
from prx.errors import CapabilityError, ConfigError
from prx.spec.face import Face, compile_face, faults
from prx.spec.loader import Loader
from prx.spec.model import KINDS_OF_CALLS

# 2026-01-01; constant, so that recordings can be compared.
_CREATED, _CREATED_TEXT = 1767225600, "2026-01-01T00:00:00Z"
HABITS = frozenset(
    {"key", "auth", "models", "only_at", "delay", "refuses", "key_status", "keep_alive", "serve"}
)  # of a persona
_KINDS = {"key": "auth", "model": "not_found", "path": "not_found", "request": "bad_request"}
_VERSION = "/v1"  # before the paths of most routes; some providers have another word there, or none
_SEGMENTS = 12  # of a path, from its end: no route has more


class Faces:
    """The faces of a catalogue's dialects, with a persona's habits. Raises ConfigError for habits that no face can have."""

    def __init__(self, persona: Persona, catalog: Loader | None = None) -> None:
        self._persona = persona
        self._routes = Routes(_faces(catalog or Loader(), persona.get("serve") or {}))

    def find(self, head: Head) -> Spoken | None:
        """The face of a request, whatever stands before the route in its path: providers have it under paths of their own."""
        for path in _places(head.path):
            found = self._routes.find(head.method, path, head.headers, head.query)
            if found is not None and found.entrance.use != "pass":
                return Spoken(found, self._persona)
        return None


def _places(path: str) -> Iterator[str]:
    """A path, and what is left of it without its first segments; each also behind _VERSION."""
    segments = path.split("/")[1:][-_SEGMENTS:]
    for first in range(len(segments)):
        rest = "/" + "/".join(segments[first:])
        yield from (rest, _VERSION + rest)


def _faces(catalog: Loader, over: Mapping[str, Any]) -> Iterable[Face]:
    dialects = catalog.dialects()
    if strange := [name for name in over if name not in dialects]:
        raise ConfigError(f"serve: there is no dialect {strange[0]!r}", hint=f"Known are: {', '.join(dialects)}.")
    for name in dialects:
        serve = catalog.dialect_or_provider(name).get("serve")
        if name in over:
            serve = _laid_over(serve or {}, over[name])
            _check(name, serve, catalog)
        if serve:
            yield compile_face(name, serve, catalog.expressions)


def _laid_over(base: Any, over: Any) -> Any:
    """`over` on top of `base`: mappings are merged, every other value replaces."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: _laid_over(base.get(key), value) for key, value in over.items()}}


def _check(name: str, serve: Any, catalog: Loader) -> None:
    try:
        found = [f"{'.'.join(map(str, path))}: {text}" for path, text, _ in faults(name, serve, catalog.expressions)]
    except (AttributeError, KeyError, TypeError, ValueError):  # of another form than the schema has
        found = ["not of the form that `serve` has in a dialect's file"]
    if found:
        raise ConfigError(f"serve.{name}: {found[0]}")


class Spoken:
    """One request in the dialect of a face."""

    def __init__(self, found: Found, persona: Persona) -> None:
        self._found, self._face, self._persona = found, found.face, persona
        self._body: Json = {}
        self._framing = found.entrance.framing or found.face.framing
        self._kind = found.entrance.use if found.entrance.use in found.face.calls else ""
        self.asks = bool(self._kind) or found.entrance.use == "chat"
        self.media = MEDIA_TYPES[self._framing]

    def read(self, body: Json) -> Asked:
        self._body = body
        for name, sentence in self._persona.get("refuses", {}).items():
            if body.get(name):
                raise RefusedError("request", sentence)
        try:
            accepted = self._accepted(body)
            if not self._kind or "body" in KINDS_OF_CALLS[self._kind][0]:
                arguments.messages(accepted.messages)
            arguments.params(accepted.params)
            arguments.tools(accepted.tools)
        except (CapabilityError, ConfigError) as error:
            raise RefusedError("request", error.message) from None
        return replace(_asked(accepted), kind=self._kind, inputs=accepted.inputs)

    def _accepted(self, body: Json) -> Accepted:
        if not self._kind:
            return accept(self._face, body, self._found.path)
        accepted = accept_call(self._face, self._kind, body, self._found.path)
        return accepted._replace(inputs=checked(self._kind, accepted.inputs))

    def whole(self, answer: Any, asked: Asked) -> Any:
        if asked.kind:
            return self._weaver(asked.model).call_body(asked.kind, answer, asked.inputs)
        return self._weaver(asked.model).body(reply_of(answer, asked.model))

    def events(self, answer: Answer, asked: Asked) -> Iterator[bytes]:
        weaver, reply = self._weaver(asked.model), reply_of(answer, asked.model)
        if self._persona.get("keep_alive") and self._framing == "sse":
            yield b": keep-alive\n\n"
        for delta in deltas_of(answer):
            yield weaver.feed([delta], lambda: reply)
        yield weaver.end(reply)

    def listed(self, names: list[str]) -> Any:
        use, name = self._found.entrance.use, self._found.path["model"]
        if use == "model" and name not in names:
            raise RefusedError("model", f"The model `{name}` does not exist", "model_not_found", str(name))
        template = self._face.operations.get(use)
        return template({"names": names, "name": name}) if template is not None else {}

    def error(self, refused: RefusedError) -> tuple[int, Any]:
        status = self._persona.get("key_status", refused.status) if refused.kind == "key" else refused.status
        facts = {
            "message": str(refused), "kind": _KINDS[refused.kind], "status": status, "code": refused.code,
            "param": None, "provider": None, "retryable": False, "retry_after": None,
        }  # fmt: skip
        return status, self._weaver("").error_body(facts)

    def _weaver(self, model: str) -> Weaver:
        return Weaver(self._face, self._body, Identity("1", model, _CREATED, _CREATED_TEXT), self._framing)


def _asked(accepted: Accepted) -> Asked:
    params = accepted.params
    stop = params.get("stop") or []
    effort = params.get("reasoning_effort") or (params.get("reasoning") or {}).get("effort")
    return Asked(
        accepted.model,
        accepted.messages,
        [] if accepted.tool_choice == "none" else accepted.tools,
        stream=accepted.stream,
        reason=effort not in (None, "none") or _is_switched_on(params) or accepted.model.endswith("reasoner"),
        limit=params.get("max_completion_tokens") or params.get("max_tokens"),
        stop=[stop] if isinstance(stop, str) else stop,
    )


def _is_switched_on(params: Mapping[str, Any]) -> bool:
    """Whether the request enables reasoning by a switch, which some vendors have in place of reasoning_effort."""
    return bool(params.get("enable_thinking")) or (params.get("thinking") or {}).get("type") == "enabled"
