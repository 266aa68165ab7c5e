"""The certificate with which prx shows a server who calls: its files are checked before a call needs them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from prx.errors import ConfigError
from prx.spec.files import data_of

# What OpenSSL says of a key that is another's; the last of them where it is of another kind.
_OF_ANOTHER = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_CERTIFICATE = rb"-----BEGIN (TRUSTED )?CERTIFICATE-----"
_KEY = rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"


def check(cert: Sequence[str], table: str) -> None:
    """Raise ConfigError where a file cannot be read or has not what it should have, or where the key is another's: the
    first call would only say that TLS failed.

    cert    PEM files of the certificate, and of its key where it has one of its own
    table   of the configuration, which names them
    """
    place = f"{table}.cert_file: {cert[0]}"
    key = f"{table}.key_file: {cert[-1]}" if len(cert) > 1 else place
    _look_for(_CERTIFICATE, cert[0], place, "has no certificate in PEM")
    _look_for(_KEY, cert[-1], key, "has no private key in PEM")
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert)
    except ssl.SSLError as error:
        if error.reason in _OF_ANOTHER:
            raise ConfigError(
                f"{key} is not the key of the certificate in {cert[0]}",
                hint="In cert_file, its own certificate comes first, and those that it depends on come after it.",
            ) from None
        raise ConfigError(f"{place}, with the key in {cert[-1]}, cannot be used: {error.reason}") from None
    except _PassphraseError:
        raise ConfigError(
            f"{key} has a passphrase, which prx does not know",
            hint="openssl pkey -in key.pem -out open.pem takes it off; let nobody else read that file.",
        ) from None


def load(context: ssl.SSLContext, cert: Sequence[str]) -> None:
    """Let connections of this context show the certificate. Raises OSError, of which ssl.SSLError is one."""
    context.load_cert_chain(cert[0], cert[-1], _refuse)


def _look_for(begin: bytes, path: str, place: str, lack: str) -> None:
    try:
        data = data_of(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place}: {getattr(error, 'strerror', None) or error}") from None
    if not re.search(begin, data):
        raise ConfigError(f"{place} {lack}")


class _PassphraseError(OSError):
    pass


def _refuse() -> NoReturn:
    """In place of a passphrase: without this, OpenSSL would ask for one at the terminal."""
    raise _PassphraseError("the key of the certificate has a passphrase")
