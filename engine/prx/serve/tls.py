"""TLS of the service: its certificate and key, read at the start, and again at each SIGHUP."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from prx.errors import ConfigError

_HINT = "Both are PEM files; the key may stand in the certificate's file, and must not have a passphrase."


def context(settings: Any) -> ssl.SSLContext | None:
    """What connections are encrypted with; None without a certificate. Raises ConfigError."""
    if not settings.tls_cert:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    read(made, settings)
    return made


def read(into: ssl.SSLContext, settings: Any) -> None:
    """Use what the files have now, for connections made from now on. Raises ConfigError; then nothing has changed."""
    for key, path in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        if path:
            _check_readable(key, path)
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for each in (trial, into):
        try:
            each.load_cert_chain(settings.tls_cert, settings.tls_key, password=_no_passphrase)
        except (ssl.SSLError, ValueError, OSError):
            raise ConfigError(_fault(settings), hint=_HINT) from None


def _fault(settings: Any) -> str:
    if settings.tls_key:
        return f"serve.tls_cert, serve.tls_key: {settings.tls_cert} and {settings.tls_key} are not a certificate and its key"
    return f"serve.tls_cert: {settings.tls_cert} has not both a certificate and its key"


def _check_readable(key: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"serve.{key}: {path} cannot be read: {error.strerror}") from None


def _no_passphrase() -> str:
    """In place of a question at the terminal."""
    raise ValueError("the key has a passphrase")
