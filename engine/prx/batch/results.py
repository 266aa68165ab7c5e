"""What comes of a row: its answer or its failure, and the forms in which they are written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from prx.batch.rows import Row
from prx.chat import Reply, plain
from prx.core import overlay
from prx.core.kind_results import Embeddings
from prx.core.weave import Identity, Weaver
from prx.errors import ConfigError, Error
from prx.json_text import compact
from prx.record import Record

UNFIT = "schema"  # the kind of a failure that no call has: the answer does not fit its schema
_MOST = 300  # letters of a validator's sentence


class Failure(Record):
    """Why a row has no answer. kind: one of prx.Error's, or "schema". attempts: requests that were sent for it."""

    kind: str
    message: str
    status: int | None = None
    attempts: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class BatchResult(Record, often=True):
    """One row of a batch, and what came of it.

    index  its place among the rows, from 0
    id     as the row has it, or None
    row    as it was given
    reply  a Reply, or Embeddings; None where there is none. An answer that does not fit its schema is here all the same
    error  a Failure: kind, message, status, attempts; or None
    """

    index: int
    id: Any
    row: Any
    reply: Any = None
    error: Failure | None = None


def failure(error: Error, attempts: int) -> Failure:
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return Failure(error.kind, message, error.status, attempts)


class Schemas:
    """Checks answers against the schemas that their calls ask for. Raises ConfigError for what is no schema."""

    def __init__(self) -> None:
        self._validators: dict[str, Any] = {}

    def validator(self, schema: Any) -> Any:
        text = compact(schema)
        if text not in self._validators:
            from jsonschema import Draft202012Validator, SchemaError
            from referencing import Registry

            try:
                Draft202012Validator.check_schema(schema)
            except SchemaError as error:
                raise ConfigError(f"response_format: not a JSON Schema: {error.message[:_MOST]}") from None
            self._validators[text] = Draft202012Validator(schema, registry=Registry())
        return self._validators[text]

    def fault(self, schema: Any, reply: Reply) -> str:
        """What of an answer does not fit, "" for nothing."""
        if reply.tool_calls and not reply.content:
            return ""
        try:
            value = json.loads(reply.content)
        except (ValueError, RecursionError):
            cut = "; it was cut off at its limit of tokens" if reply.finish_reason == "length" else ""
            return f"the answer is not JSON{cut}"
        try:
            unfit = next(self.validator(schema).iter_errors(value), None)
        except Exception as error:  # what a schema refers to is not there, or it goes in a circle
            return f"the answer cannot be checked: {type(error).__name__}"
        where = f"{unfit.json_path}: " if unfit else ""
        return f"the answer does not fit its schema: {where}{unfit.message[:_MOST]}" if unfit else ""


# ------------------------------------------------------------------ as they are written


def written(row: Row, result: BatchResult, dialect: str) -> dict[str, Any]:
    """The result in the form of its row. dialect: of the provider."""
    return _formed(row, result, dialect) if row.shape is not None else plain_form(result)


def plain_form(result: BatchResult) -> dict[str, Any]:
    """The result in prx's own form."""
    identity = result.index + 1 if result.id is None else result.id
    return {"id": identity, **_answer(result.reply), "error": _plain_error(result.error)}


def _answer(reply: Any) -> dict[str, Any]:
    if reply is None:
        return {}
    if isinstance(reply, Embeddings):
        vectors = [list(vector) for vector in reply.vectors]
        found = {"embedding": vectors[0]} if len(vectors) == 1 else {"embeddings": vectors}
    else:
        also = {"reasoning": reply.reasoning, "refusal": reply.refusal}
        also["tool_calls"] = [plain(call) for call in reply.tool_calls]
        found = {"content": str(reply.content), **{name: value for name, value in also.items() if value}}
        found["finish_reason"] = reply.finish_reason
    usage = {name: count for name, count in plain(reply.usage).items() if count is not None} if reply.usage else None
    return {**found, "model": reply.model, "provider": reply.provider, "usage": usage}


def _plain_error(error: Failure | None) -> dict[str, Any] | None:
    return None if error is None else dict(plain(error))


def _formed(row: Row, result: BatchResult, dialect: str) -> dict[str, Any]:
    response = None
    if result.reply is not None:
        body = _body(row, result.reply, dialect)
        response = {"status_code": 200, "request_id": result.reply.request_id, "body": body}
    error = result.error
    said = None if error is None else {"code": error.kind, **plain(error)}
    return {"id": f"row-{result.index + 1}", "custom_id": result.id, "response": response, "error": said}


def _body(row: Row, reply: Any, dialect: str) -> Any:
    assert row.shape is not None
    found = row.shape.found
    if found is None:
        return _passed(reply)
    created = int(time.time())
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created))
    identity = Identity(reply.request_id or f"row-{row.index + 1}", reply.model, created, text)
    body = Weaver(found.face, row.shape.body, identity).body(reply)
    own = dialect == found.face.id and isinstance(reply.raw, Mapping) and not reply.fallbacks
    return overlay.overlaid(reply.raw, body) if own else body


def _passed(reply: Any) -> dict[str, Any]:
    """The body of an answer that is no chat, as OpenAI's API has it."""
    if isinstance(reply, Embeddings):
        data = [
            {"object": "embedding", "index": place, "embedding": list(vector)}
            for place, vector in enumerate(reply.vectors)
        ]
        return {"object": "list", "data": data, "model": reply.model, "usage": plain(reply.usage) or {}}
    choice = {"index": 0, "text": reply.content, "finish_reason": reply.finish_reason}
    return {"object": "text_completion", "choices": [choice], "model": reply.model, "usage": plain(reply.usage) or {}}


# {column of a table: what is in it}; what a table of answers has beside the columns of its rows
COLUMNS = (
    "answer", "answer_reasoning", "answer_tool_calls", "answer_finish_reason", "answer_model", "answer_prompt_tokens",
    "answer_completion_tokens", "answer_error", "answer_error_message", "answer_error_status",
)  # fmt: skip


def columns(found: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an answer, from its plain form."""
    usage, error, calls = found.get("usage") or {}, found.get("error") or {}, found.get("tool_calls")
    values = (
        found.get("content", found.get("embedding", found.get("embeddings"))), found.get("reasoning"), compact(calls) if calls else None,
        found.get("finish_reason"), found.get("model"), usage.get("prompt_tokens"), usage.get("completion_tokens"),
        error.get("kind"), error.get("message"), error.get("status"),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))
