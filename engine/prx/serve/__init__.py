"""`prx serve`: every provider behind one port, in the dialects that programs speak. `App` is an ASGI application."""

from __future__ import annotations

from prx.serve.app import App

__all__ = ("App",)
