"""AWS's Signature Version 4, made by botocore's signer: the key's id and a signature go into the request, the secret never.

Signed are the URL, the body, and the headers whose names say so; what a proxy may change (Accept-Encoding) is not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from prx.errors import ConfigError, unopened
from prx.secret import Secret, revealed
from prx.wire import SIGNATURE, HttpRequest, Signer

_AUTHORIZATION = "authorization"
_STAMP = "%Y%m%dT%H%M%SZ"


class _Credentials(NamedTuple):
    """As botocore's signer reads them."""

    access_key: str
    secret_key: str
    token: str | None


def signed(request: HttpRequest, signer: Signer, now: float, provider: str) -> HttpRequest:
    """The request with its signature. now: seconds since 1970. Raises ConfigError where botocore is not installed."""
    try:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
    except ImportError:
        raise ConfigError(
            "its requests have to be signed, which needs the package botocore",
            provider=provider,
            hint="pip install 'prx-engine[aws]'",
        ) from None
    except OSError as error:
        raise unopened(error) from None
    stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
    added: dict[str, str | Secret] = {"x-amz-date": stamp}
    if signer.token:
        added["x-amz-security-token"] = signer.token
    url = _encoded(request.full_url(reveal=True))
    headers = {name: value for name, value in request.headers.items() if name != _AUTHORIZATION}
    shown = {name: revealed(value) for name, value in (headers | added).items() if _is_signed(name)}
    auth = SigV4Auth(
        _Credentials(signer.access_id.reveal(), signer.secret.reveal(), signer.token.reveal() or None),
        signer.service,
        signer.region,
    )
    asked: Any = AWSRequest(request.method, url, shown, request.body)
    asked.context["timestamp"] = stamp
    signature = auth.signature(auth.string_to_sign(asked, auth.canonical_request(asked)), asked)
    names = auth.signed_headers(auth.headers_to_sign(asked))
    value = f"Credential={auth.scope(asked)}, SignedHeaders={names}, Signature={signature}"
    sent = {**headers, **added, _AUTHORIZATION: Secret(value, SIGNATURE)}
    return request._replace(url=_encoded(request.url), headers=sent)


def _is_signed(name: str) -> bool:
    return name == "content-type" or name.startswith("x-amz")


def _encoded(url: str) -> str:
    """The URL with its query as AWS writes one: a space is %20, and only letters, digits and -._~ stay as they are."""
    parts = urlsplit(url)
    if not parts.query:
        return url
    query = urlencode(parse_qsl(parts.query, keep_blank_values=True), quote_via=quote, safe="-._~")
    return urlunsplit(parts._replace(query=query))
