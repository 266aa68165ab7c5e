"""prx: one YAML file, one working LLM provider.

    with prx.Client() as client:
        print(client.chat("Say hello.", model="provider/model"))

A Client reads provider files and a configuration, builds requests, reads answers and streams, and raises
only subclasses of prx.Error. No provider is built into the code: each one is a file.
"""

from __future__ import annotations

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
    TruncatedError,
    UnfitReplyError,
)
from prx.spec.files import Reload

if TYPE_CHECKING:
    from prx.aclient import AsyncClient, AsyncStream
    from prx.core.kind_results import Embeddings, Image, Images, Moderation, Ranked, Ranking, Speech, Transcript

__all__ = (
    "AsyncClient",
    "AsyncStream",
    "AuthError",
    "BadRequestError",
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
    "ToolCall",
    "ToolCallDelta",
    "Transcript",
    "TruncatedError",
    "UnfitReplyError",
    "Usage",
)

_RESULTS = ("Embeddings", "Image", "Images", "Moderation", "Ranked", "Ranking", "Speech", "Transcript")


def __getattr__(name: str) -> Any:
    # asyncio takes longer to import than the rest of prx, and most programs use one of the two clients.
    if name in ("AsyncClient", "AsyncStream"):
        from prx import aclient

        return getattr(aclient, name)
    if name in _RESULTS:
        from prx.core import kind_results  # of calls that are no chats, which most programs do not make

        return getattr(kind_results, name)
    raise AttributeError(f"module 'prx' has no attribute {name!r}")
