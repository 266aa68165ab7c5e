"""A server that knows a key of AWS, and answers only what is signed with it: botocore works out the signature of what arrived."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import parse_qsl, unquote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from helpers import event_stream
from helpers.answering import Server

ID, SECRET, TOKEN = (
    "AKIDPLAYED0123456789",
    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYzEXAMPLE",
    "FwoGZXIvYXdzEJr//////played+token/==",
)
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
}
EVENTS = [
    {"event": "messageStart", "role": "assistant"},
    {"event": "contentBlockDelta", "contentBlockIndex": 0, "delta": {"text": "hel"}},
    {"event": "contentBlockDelta", "contentBlockIndex": 0, "delta": {"text": "lo"}},
    {"event": "messageStop", "stopReason": "end_turn"},
    {"event": "metadata", "usage": ANSWER["usage"]},
]
_FORM = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})")  # fmt: skip


class SignatureJudge(Server):
    """Arrived requests are in `requests`, as (path with query, headers, body). fails: statuses for the first requests."""

    def __init__(self, token="", fails=(), service="bedrock", region="eu-west-1", answer=ANSWER):
        self.key, self.fails, self.scope, self.whole = (
            Credentials(ID, SECRET, token or None),
            [*fails],
            (region, service),
            answer,
        )
        self.faults = []
        super().__init__()

    @property
    def requests(self):
        return self.asked

    def answer(self, path, headers, body):
        if fault := self.fault(path, headers, body):
            self.faults.append(fault)
            return 403, "application/json", json.dumps({"message": fault}).encode()
        if self.fails:
            return self.fails.pop(0), "application/json", b'{"message": "once more"}'
        if urlsplit(path).path.endswith("-stream"):
            return 200, "application/vnd.amazon.eventstream", event_stream.written(EVENTS)
        return 200, "application/json", json.dumps(self.whole).encode()

    def fault(self, path, headers, body):
        """What is wrong with a request; "" where its signature is right."""
        found = _FORM.fullmatch(headers.get("authorization", ""))
        if not found:
            return f"no signature: {headers.get('authorization', 'no header')[:12]}"
        access_id, day, region, service, names, signature = found.groups()
        stamp, names = headers.get("x-amz-date", ""), names.split(";")
        if (access_id, (region, service)) != (ID, self.scope) or not stamp.startswith(day):
            return "another key, scope or day"
        if abs(time.time() - _seconds(stamp)) > 300:
            return "Signature expired"
        if headers.get("x-amz-security-token") != self.key.token or not {"host", "x-amz-date", "content-type"} <= {
            *names
        }:
            return "another token, or a header is not signed"
        if self.key.token and "x-amz-security-token" not in names:
            return "the token is not signed"
        return "" if self.signature(path, headers, body, names, stamp) == signature else "the signature does not match"

    def signature(self, path, headers, body, names, stamp):
        place, _, query = path.partition("?")
        params = [tuple(map(unquote, pair.partition("=")[::2])) for pair in query.split("&")] if query else None
        if query and any(letter in query for letter in "+ "):
            return "a space of a query is %20"
        assert params is None or params == parse_qsl(query, keep_blank_values=True)
        signed = {name: headers[name] for name in names}
        request = AWSRequest("POST", f"http://{headers['host']}{place}", signed, body, params=params)
        request.context["timestamp"] = stamp
        auth = SigV4Auth(self.key, self.scope[1], self.scope[0])
        return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


def _seconds(stamp):
    import calendar

    return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
