"""What is measured: a file each. VENV "" is prx's own environment, IMPORT what one imports to use it; then

connect(url)   -> chat, stream
chat(text)     -> the answer's text
stream(text)   -> iterator of its pieces

An asynchronous client has `async def connect`, an asynchronous context manager that gives the same two: chat is awaited,
stream is read with `async for`. One that can build a request without sending it has also

build(messages, tools, provider)   -> a function that builds it, and gives its body
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

AsyncChat = Callable[[str], Awaitable[str]]
AsyncStream = Callable[[str], AsyncIterator[str]]
