"""What a provider's requests are signed with, where its file has auth.sign: from the key, or from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from prx.accounts.keys import Way, filled
from prx.errors import ConfigError
from prx.json_text import parsed
from prx.secret import Secret
from prx.spec.model import Aws4
from prx.wire import Signer

_PARTS = re.compile(r"([^:\s]+):([^:\s]+)(?::([^:\s]+))?")
_JSON_PARTS = ("AccessKeyId", "SecretAccessKey", "SessionToken")


def signer(way: Way, key: str, usable: Mapping[str, str]) -> Signer | None:
    """What requests are signed with; None where the key is sent as it is. key: "" for none; usable: of the environment.

    Raises ConfigError for half a key, and where service or region have no value.
    """
    form = way.definition.spec().auth.aws4
    if form is None:
        return None
    parts = _of_text(key, way.definition.id) if key else _of_environment(form, usable, way.definition.id)
    if parts is None:
        return None
    access_id, secret, token = map(Secret, parts)
    return Signer(access_id, secret, token, _filled(form, "service", way), _filled(form, "region", way))


def scope(way: Way) -> tuple[str, ...]:
    """The texts of a file that say what is signed for: they are sent, and shown."""
    form = way.definition.spec().auth.aws4
    return (form.region, form.service) if form else ()


def _of_text(key: str, provider: str) -> tuple[str, str, str] | None:
    """The three parts of a key; None for a text of another form, which is a key that is sent."""
    if key.startswith("{"):
        value = parsed(key)
        named = value if isinstance(value, dict) else {}
        access_id, secret, token = (named.get(name) or "" for name in _JSON_PARTS)
        if not (access_id and secret) or not all(isinstance(part, str) for part in (access_id, secret, token)):
            raise ConfigError(
                "the key begins like JSON, but has no AccessKeyId and SecretAccessKey",
                provider=provider,
                hint="Give what `aws configure export-credentials --format process` prints, or ACCESS_ID:SECRET.",
            )
        return access_id, secret, token
    found = _PARTS.fullmatch(key)
    return (found[1], found[2], found[3] or "") if found else None


def _of_environment(form: Aws4, usable: Mapping[str, str], provider: str) -> tuple[str, str, str] | None:
    access_id, secret, token = (
        usable.get(name, "").strip() for name in (form.access_id, form.secret, form.session_token)
    )
    if not access_id and not secret:
        return None
    if not (access_id and secret):
        there, missing = (form.access_id, form.secret) if access_id else (form.secret, form.access_id)
        raise ConfigError(
            f"{there} is set, but {missing} is not", provider=provider, hint=f"Set it: export {missing}=…"
        )
    return access_id, secret, token


def _filled(form: Aws4, key: str, way: Way) -> str:
    return filled(getattr(form, key), way.env, way.definition.id, f"auth.aws4.{key}").strip()
