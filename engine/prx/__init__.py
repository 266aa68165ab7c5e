"""prx: one YAML file, one working LLM provider.

    with prx.Client() as client:
        print(client.chat("Say hello.", model="provider/model"))

A Client reads provider files and a configuration, builds requests, reads answers and streams, and raises
one kind of exception, prx.Error. It refuses to know any provider by name: all of that is in the files.
"""

from __future__ import annotations

from prx.chat import Delta, Message, Part, Reply, ToolCall, ToolCallDelta, Usage
from prx.client import Client
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
)
from prx.running import Stream
from prx.spec.files import Reload

__all__ = (
    "AuthError",
    "BadRequestError",
    "CapabilityError",
    "Client",
    "ConfigError",
    "ContentFilterError",
    "Delta",
    "Error",
    "Message",
    "NotFoundError",
    "OverflowedError",
    "Part",
    "ProtocolError",
    "ProviderConnectionError",
    "ProviderTimeoutError",
    "QuotaError",
    "RateLimitError",
    "Reload",
    "Reply",
    "ServerError",
    "SpecError",
    "Stream",
    "ToolCall",
    "ToolCallDelta",
    "TruncatedError",
    "Usage",
)
