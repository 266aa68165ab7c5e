"""A plugin for llm: every provider of prx as a model.

What llm calls a message is made into prx's form and back; what a provider wants back in the next turn (a signature, encrypted
reasoning) travels with llm's own messages, as metadata of a part.
"""

from __future__ import annotations

import base64
import json
import os
import tomllib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import click
import llm
from llm.parts import AttachmentPart, StreamEvent, TextPart, ToolCallPart, ToolResultPart
from pydantic import ConfigDict

import prx
from prx.accounts import config as configuration
from prx.accounts.choose import ModelRef

_PICTURES = {"image/png", "image/jpeg", "image/gif", "image/webp"}
_SOUNDS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_OURS = "prx"  # the key of our metadata
_TOLD = ("role", "content", "tool_calls", "refusal", "parts")  # of an assistant's message: what llm keeps in its parts


@llm.hookimpl
def register_models(register: Any) -> None:
    register(Model("prx", "", None), AsyncModel("prx", "", None))
    listed = _listed()
    with prx.Client(config=_config()) as client:
        providers = [entry.id for entry in client.catalog.entries()]
        providers += [name for name in client.config.providers if name not in providers]
    for provider in providers:
        for name in (None, *listed.get(provider, ())):
            model_id = "/".join(filter(None, ("prx", provider, name)))
            register(Model(model_id, provider, name), AsyncModel(model_id, provider, name))


@llm.hookimpl
def register_commands(cli: Any) -> None:
    @cli.group(name="prx")
    def group() -> None:
        """Providers of prx"""

    @group.command(name="models")
    @click.argument("provider")
    @click.option("--key", help="The key to use, or its name in llm's store")
    def models(provider: str, key: str | None) -> None:
        """Ask a provider which models it has, and keep their names as models of llm"""
        try:
            with prx.Client(config=_config(provider, Model("", provider, None).get_key(key))) as client:
                names = client.models(provider)
        except prx.Error as error:
            raise click.ClickException(str(error)) from None
        _listing().write_text(json.dumps({**_listed(), provider: names}, indent=1))
        click.echo("\n".join(f"prx/{provider}/{name}" for name in names))


def _listing() -> Path:
    return Path(llm.user_dir()) / "prx-models.json"


def _listed() -> dict[str, list[str]]:
    """{provider: names of its models} as they were listed last."""
    try:
        found: dict[str, list[str]] = json.loads(_listing().read_text())
    except (OSError, ValueError):
        return {}
    return found


def _config(provider: str = "", key: str | None = None) -> dict[str, Any]:
    """The usual configuration of prx, with this key for the provider. Raises prx.ConfigError."""
    paths = [path for path in configuration.files(None, os.environ) if path.exists()]
    try:
        config: dict[str, Any] = tomllib.loads(paths[0].read_text()) if paths else {}
    except (OSError, ValueError) as error:
        raise prx.ConfigError(f"{paths[0]}: {error}") from None
    if key and provider:
        settings = {
            **_settings(config, provider),
            "api_key": key.replace("${", "$${"),
        }  # a key is no reference to a variable
        config = {**config, "providers": {**config.get("providers", {}), provider: settings}}
    return config


def _settings(config: dict[str, Any], provider: str) -> dict[str, Any]:
    found: dict[str, Any] = config.get("providers", {}).get(provider, {})
    return found


# ------------------------------------------------------------------ models


class _Shared:
    can_stream = supports_schema = supports_tools = True
    attachment_types = frozenset((*_PICTURES, *_SOUNDS, "application/pdf"))

    class Options(llm.Options):
        """model, and every parameter that the provider has."""

        model_config = ConfigDict(extra="allow", protected_namespaces=())
        model: str | None = None

    def __init__(self, model_id: str, provider: str, name: str | None) -> None:
        self.model_id, self.provider, self.name = model_id, provider, name
        self.needs_key = provider or None

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """The key that is given; else, if prx's configuration has none, that of llm's store. None leaves it to prx."""
        if not explicit_key and _settings(_config(), self.provider).get("api_key"):
            return None
        key: str | None = llm.get_key(explicit_key, self.needs_key) if self.needs_key else None
        return key

    def _asked(self, prompt: Any) -> dict[str, Any]:
        """The arguments of a call of prx."""
        options = {name: _value(value) for name, value in prompt.options.model_dump().items() if value is not None}
        messages = [each for message in prompt.messages for each in _messages(message)]
        asked: dict[str, Any] = {"messages": messages, "model": self._model_of(options.pop("model", None) or self.name)}
        if prompt.tools:
            asked["tools"] = [_tool(tool) for tool in prompt.tools]
        if prompt.schema:
            form = {"name": "answer", "schema": prompt.schema}
            asked["response_format"] = {"type": "json_schema", "json_schema": form}
        return {**asked, **options}

    def _model_of(self, name: str | None) -> str | ModelRef | None:
        if not self.provider:
            return name  # None is the default of prx's configuration
        name = name or _settings(_config(), self.provider).get("model")
        if name is None:
            raise prx.ConfigError(
                f"no model of {self.provider} is named",
                hint=f"Give one with -o model NAME; `llm prx models {self.provider}` lists them.",
            )
        return ModelRef(self.provider, name)


class Model(_Shared, llm.KeyModel):
    def execute(
        self, prompt: Any, stream: bool, response: Any, conversation: Any = None, key: str | None = None
    ) -> Iterator[StreamEvent]:
        try:
            with prx.Client(config=_config(self.provider, key)) as client:
                if stream:
                    heard = _Heard()
                    with client.stream(**self._asked(prompt)) as pieces:
                        for piece in pieces:
                            yield from heard.events(piece)
                    yield from _finish(response, pieces.reply, shown=True)
                else:
                    yield from _finish(response, client.chat(**self._asked(prompt)), shown=False)
        except prx.Error as error:
            raise llm.ModelError(str(error)) from None


class AsyncModel(_Shared, llm.AsyncKeyModel):
    async def execute(
        self, prompt: Any, stream: bool, response: Any, conversation: Any = None, key: str | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        try:
            async with prx.AsyncClient(config=_config(self.provider, key)) as client:
                if stream:
                    heard = _Heard()
                    async with client.stream(**self._asked(prompt)) as pieces:
                        async for piece in pieces:
                            for event in heard.events(piece):
                                yield event
                    reply = pieces.reply
                else:
                    reply = await client.chat(**self._asked(prompt))
                for event in _finish(response, reply, shown=stream):
                    yield event
        except prx.Error as error:
            raise llm.ModelError(str(error)) from None


def _value(text: Any) -> Any:
    """An option's value: the command line gives every value as a text."""
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text


# ------------------------------------------------------------------ from llm to prx


def _tool(tool: Any) -> dict[str, Any]:
    schema = tool.input_schema or {"type": "object", "properties": {}}
    told = {"description": tool.description} if tool.description else {}
    return {"type": "function", "function": {"name": tool.name, **told, "parameters": schema}}


def _messages(message: Any) -> Iterator[dict[str, Any]]:
    """A message of llm's as those of prx: each result of a tool is a message of its own."""
    texts = [part.text for part in message.parts if isinstance(part, TextPart)]
    calls = [_call(part) for part in message.parts if isinstance(part, ToolCallPart)]
    attached = [
        _attached(part.attachment) for part in message.parts if isinstance(part, AttachmentPart) and part.attachment
    ]
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            yield {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.output}
            attached += [_attached(each) for each in part.attachments]
    text = "".join(texts)
    if message.role == "tool":
        if attached:
            yield {"role": "user", "content": attached}
        return
    content: Any = [*([{"type": "text", "text": text}] if text else []), *attached] if attached else text
    back: dict[str, Any] = {}
    for part in message.parts:
        back |= (getattr(part, "provider_metadata", None) or {}).get(_OURS, {})
    if content or calls or back:
        yield {"role": message.role, "content": content or None, **({"tool_calls": calls} if calls else {}), **back}


def _call(part: Any) -> dict[str, Any]:
    function = {"name": part.name, "arguments": json.dumps(part.arguments)}
    return {"type": "function", "id": part.tool_call_id, "function": function}


def _attached(attachment: Any) -> dict[str, Any]:
    kind = attachment.resolve_type()
    if kind in _PICTURES:
        url = attachment.url or f"data:{kind};base64,{attachment.base64_content()}"
        return {"type": "image_url", "image_url": {"url": url}}
    data = base64.b64encode(attachment.content_bytes()).decode()
    if kind in _SOUNDS:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _SOUNDS[kind]}}
    return {"type": "file", "file": {"filename": "attachment.pdf", "file_data": f"data:{kind};base64,{data}"}}


# ------------------------------------------------------------------ from prx to llm


class _Heard:
    """The pieces of a stream as llm's events; a call's id comes with its first piece alone."""

    def __init__(self) -> None:
        self._ids: dict[int, str | None] = {}

    def events(self, piece: prx.Delta) -> Iterator[StreamEvent]:
        if piece.reasoning:
            yield StreamEvent("reasoning", piece.reasoning)
        if piece.content or piece.refusal:
            yield StreamEvent("text", piece.content or piece.refusal or "")
        for call in piece.tool_calls:
            if call.index not in self._ids:
                self._ids[call.index] = call.id
                yield StreamEvent("tool_call_name", call.name or "", tool_call_id=call.id)
            if call.arguments:
                yield StreamEvent("tool_call_args", call.arguments, tool_call_id=self._ids[call.index])


def _finish(response: Any, reply: prx.Reply, *, shown: bool) -> Iterator[StreamEvent]:
    """Tell llm of the whole reply. shown: its pieces were handed on already."""
    if not shown:
        calls = (
            prx.ToolCallDelta(place, call.id, call.name, call.arguments) for place, call in enumerate(reply.tool_calls)
        )
        thought = reply.reasoning if reply.content_source == "content" else None
        whole = prx.Delta(reply.content or None, thought, tuple(calls), refusal=reply.refusal)
        yield from _Heard().events(whole)
    elif reply.content_source == "reasoning":
        yield StreamEvent("text", reply.content)
    back = {name: value for name, value in reply.message.items() if name not in _TOLD}
    if back:
        yield StreamEvent("reasoning", "", provider_metadata={_OURS: back})
    for call in reply.tool_calls:
        try:
            given = json.loads(call.arguments or "{}")
        except ValueError:
            raise llm.ModelError(
                f"the answer ended within the arguments of {call.name}; allow more with -o max_tokens"
            ) from None
        response.add_tool_call(llm.ToolCall(tool_call_id=call.id, name=call.name, arguments=given))
    usage = reply.usage or prx.Usage()
    more = {
        name: count for name, count in usage._asdict().items() if count and name.startswith(("cached", "reasoning"))
    }
    response.set_usage(input=usage.prompt_tokens, output=usage.completion_tokens, details=more or None)
    response.set_resolved_model(reply.model)
    response.response_json = reply.to_dict()
