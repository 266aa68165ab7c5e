"""prx: one YAML file, one working LLM provider.

    with prx.Client() as client:
        print(client.chat("Say hello.", model="provider/model"))

A Client reads provider files and a configuration, builds requests, reads answers and streams, and raises
only subclasses of prx.Error. No provider is built into the code: each one is a file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prx.chat import Delta, Message, Part, Reply, ToolCall, ToolCallDelta, Usage
from prx.client import Client, Stream
from prx.errors import (
    AuthError,
    BadRequestError,
    CapabilityError,
    ConfigError,
    ContentFilterError,
    Error,
    NotFoundError,
    OverflowedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    ServerError,
    SpecError,
    TooManyTurnsError,
    TruncatedError,
    UnfitReplyError,
)
from prx.spec.files import Reload

if TYPE_CHECKING:
    from prx.aclient import AsyncClient, AsyncStream
    from prx.batch.results import BatchResult
    from prx.core.kind_results import Embeddings, Image, Images, Moderation, Ranked, Ranking, Speech, Transcript
    from prx.toolruns import ToolRun
    from prx.typed.tool import Tool, tool

__all__ = (
    "AsyncClient",
    "AsyncStream",
    "AuthError",
    "BadRequestError",
    "BatchResult",
    "CapabilityError",
    "Client",
    "ConfigError",
    "ContentFilterError",
    "Delta",
    "Embeddings",
    "Error",
    "Image",
    "Images",
    "Message",
    "Moderation",
    "NotFoundError",
    "OverflowedError",
    "Part",
    "ProtocolError",
    "ProviderConnectionError",
    "ProviderTimeoutError",
    "QuotaError",
    "Ranked",
    "Ranking",
    "RateLimitError",
    "Reload",
    "Reply",
    "ServerError",
    "SpecError",
    "Speech",
    "Stream",
    "TooManyTurnsError",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolRun",
    "Transcript",
    "TruncatedError",
    "UnfitReplyError",
    "Usage",
    "tool",
)

# {name: the module that is imported when it is first named}: asyncio takes longer to import than the rest of prx, and most
# programs use one of the two clients, chat only, and run no tools.
_LATE = {
    **dict.fromkeys(("AsyncClient", "AsyncStream"), "prx.aclient"),
    **dict.fromkeys(
        ("Embeddings", "Image", "Images", "Moderation", "Ranked", "Ranking", "Speech", "Transcript"),
        "prx.core.kind_results",
    ),
    **dict.fromkeys(("Tool", "tool"), "prx.typed.tool"),
    "ToolRun": "prx.toolruns",
    "BatchResult": "prx.batch.results",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'prx' has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
