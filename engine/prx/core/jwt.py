"""Signs JSON Web Tokens with RSA and SHA-256 (RS256), which needs the package cryptography."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from prx.core.request import encoded
from prx.errors import OPENING, ConfigError


def signed(header: Mapping[str, Any], claims: Mapping[str, Any], pem: str, *, provider: str) -> str:
    """The token. pem: the private key. Raises ConfigError where it is none, or the package is missing."""
    text = ".".join(map(_coded, (encoded({"alg": "RS256", "typ": "JWT", **header}), encoded(claims))))
    return f"{text}.{_coded(_signature(text.encode(), pem, provider))}"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _signature(data: bytes, pem: str, provider: str) -> bytes:
    try:
        with OPENING:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.asymmetric import padding, rsa
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise ConfigError(
            "its key signs a token, for which the package cryptography is needed",
            provider=provider,
            hint="Install it: pip install 'prx-engine[jwt]'",
        ) from None
    try:
        # A variable of the environment often has \n in two characters where the key has a line break.
        key = load_pem_private_key(pem.replace("\\n", "\n").encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError(
            "the private key of its credential cannot be read",
            provider=provider,
            hint="It must be an RSA key in PEM, without a passphrase.",
        )
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
