"""auth.token and auth.sign: a credential becomes a token, as data; what goes wrong is one sentence without a secret."""

from __future__ import annotations

import base64
import builtins
import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import data_files
from helpers.driver_without_io import definition, holds
from test_vocabulary import remove, schema_keys

import prx
from prx.core import token as tokens
from prx.core.exchange import Read, Send
from prx.secret import Secret
from prx.spec.resolve import merge
from prx.wire import Head

CASES = data_files.read(Path(__file__).parent / "tokens.yaml")
PLAIN = {
    "credential": "CREDENTIAL",
    "token": {"url": "https://login.example/token", "answer": {"token": "access_token"}},
}
ANSWER = {"json": {"access_token": "got-this-token"}}


@pytest.fixture(scope="session")
def rsa_key():
    """A private key in PEM, and a function that says whether it has signed something."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return SimpleNamespace(
        pem=pem,
        check=lambda data, signature: key.public_key().verify(signature, data, padding.PKCS1v15(), hashes.SHA256()),
    )


def credential(auth=None, **parts):
    parts = {"api_key": "all-of-it", "id": "id-1", "secret": "secret-1", **parts}
    url = ((auth or PLAIN).get("token") or {}).get("url", "")
    return tokens.Credential(url, {name: Secret(text) for name, text in parts.items()}, {"TEAM": Secret("red")})


def run(auth, answer=ANSWER, *, now=1000.0, **parts):
    """(requests, the Token or None, the Error or None) of one exchange."""
    auth = merge(PLAIN, auth)
    spec = definition({"auth": auth}).spec()
    fresh = iter(f"fresh-{place}" for place in range(1, 9))
    flow = tokens.obtain(spec, credential(auth, **parts), now, lambda: next(fresh))
    requests, result, body = [], None, b""
    try:
        while True:
            ask = flow.send(result)
            if isinstance(ask, Send):
                requests.append(ask.request)
                text = answer["text"] if "text" in answer else json.dumps(answer["json"])
                result, body = Head(answer.get("status", 200), answer.get("headers", {}), now), text.encode()
            else:
                assert isinstance(ask, Read)
                result, body = body, b""
    except StopIteration as stop:
        return requests, stop.value, None
    except prx.Error as error:
        return requests, None, error


def view(case, auth, key):
    requests, token, error = run(auth, case.get("answer", ANSWER), private_key=key.pem)
    seen = {"request": None, "token": None, "error": None, "jwt": None}
    if requests:
        (request,) = requests
        headers = {name: text.reveal() if isinstance(text, Secret) else text for name, text in request.headers.items()}
        body = bytes(request.body).decode()
        seen["request"] = {"method": request.method, "url": request.url, "headers": headers, "body": body}
        seen["json"] = json.loads(body) if body.startswith("{") else None
        seen["jwt"] = read_jwt(body.partition("assertion=")[2], key)
    if token:
        seen["token"] = {
            "value": token.value.reveal(),
            "until": token.until,
            "early": token.early,
            "base_url": token.base_url,
        }
        seen["jwt"] = seen["jwt"] or read_jwt(token.value.reveal(), key)
    if error:
        seen["error"] = {"kind": error.kind, "message": error.message, "status": error.status}
    return seen


def read_jwt(text, key):
    if text.count(".") != 2:
        return None
    header, claims, signature = (base64.urlsafe_b64decode(f"{part}==") for part in text.split("."))
    key.check(text.rpartition(".")[0].encode(), signature)  # raises where another key has signed
    return {"header": json.loads(header), "claims": json.loads(claims), "fits": True}


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "+".join(case["keys"])[:60])


@each_case
def test_a_key_of_the_exchange(case, rsa_key):
    seen = view(case, case["auth"], rsa_key)
    for condition in case["hold"]:
        assert holds(condition, seen), f"{condition}\n{json.dumps(seen, indent=1)}"


@each_case
def test_a_key_of_the_exchange_matters(case, rsa_key):
    for key in case["keys"]:
        auth = copy.deepcopy(case["auth"])
        if "without" in case:
            auth = case["without"]
        else:
            assert remove(auth, key.partition("=")[0].split(".")[1:]), key
        try:
            seen = view(case, auth, rsa_key)
        except (AssertionError, AttributeError, TypeError):
            continue  # without it there is no exchange: such a file is refused before it is compiled
        base = key in (
            "auth.token",
            "auth.token.answer",
            "auth.token.answer.token",
            "auth.token.url",
        )  # are in PLAIN as well
        assert base or not all(holds(condition, seen) for condition in case["hold"]), f"{key} makes no difference"


def test_every_key_of_the_exchange_has_a_case():
    covered = {key for case in CASES for key in case["keys"]}
    keys = {key for key in schema_keys() if key.startswith(("auth.token", "auth.jwt", "auth.sign"))}
    sent = {key for key in keys if key.startswith("auth.token.sent")}  # test_a_token_may_travel_otherwise
    assert covered == keys - sent


# ------------------------------------------------------------------ what goes wrong

BROKEN = {
    "no JSON": ({"text": "ok"}, "it answered with no JSON: ok"),
    "empty": ({"text": ""}, "it answered with an empty body"),
    "a login page": ({"text": "<!doctype html><title>Log in</title>"}, "it answered with a web page instead of JSON: <!doctype html>"),
    "no token": ({"json": {"token_type": "bearer", "scope": "x"}}, "it gave no token where auth.token.answer.token looks for it; the answer's keys: scope, token_type"),
    "a token that is none": ({"json": {"access_token": {"a": 1}}}, "it gave no token"),
    "a token that cannot be sent": ({"json": {"access_token": "a\nb"}}, "it answered with a token that no header can carry"),
    "a list": ({"json": []}, "the answer's keys: none"),
    "a redirect": ({"status": 302, "headers": {"location": "https://sso.example/secret-1"}, "text": ""}, "it redirects to https://sso.example/***, which prx does not follow"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_one_sentence(name):
    answer, sentence = BROKEN[name]
    _, token, error = run({}, answer)
    assert token is None
    assert (type(error), error.provider) == (prx.ProtocolError, "played")
    assert error.message.startswith("the exchange of the key at https://login.example/token: ")
    assert sentence in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [(400, "auth", False), (401, "auth", False), (403, "auth", False), (404, "not_found", False), (429, "rate_limit", True), (500, "server", True), (503, "server", True)],
)  # fmt: skip
def test_a_refused_exchange(status, kind, retryable):
    answer = {
        "status": status,
        "headers": {"retry-after": "7"},
        "text": '{"error": "secret-1 and all-of-it are wrong"}',
    }
    _, _, error = run({"token": {"form": {"s": "{secret}"}}}, answer)
    assert (error.kind, error.status, error.retryable, error.retry_after) == (kind, status, retryable, 7.0)
    assert (
        error.message
        == 'the exchange of the key at https://login.example/token was refused: {"error": "*** and *** are wrong"}'
    )


@pytest.mark.parametrize("url", ["https://evil.example/v1", "http://eu.api.example/v1", "https://eu.api.example:8443/", "https://api.example.evil.example", "https://u@eu.api.example", "https://[", "eu.api.example"])  # fmt: skip
def test_a_base_url_that_the_file_does_not_allow(url):
    auth = {"token": {"hosts": ["*.api.example"], "answer": {"base_url": "api"}}}
    _, token, error = run(auth, {"json": {"access_token": "got-this-token", "api": url}})
    assert token is None
    assert "which is at none of auth.token.hosts" in error.message


def test_a_part_that_is_missing():
    requests, _, error = run({"token": {"form": {"email": "{client_email}"}}})
    assert (requests, error.kind) == ([], "config")
    assert (
        error.message
        == "the credential has no part 'client_email', which the provider's file asks for; it has id, secret"
    )
    _, _, error = run({"token": {"form": {"email": "${MISSING}"}}})
    assert error.message == "the exchange of the key needs the environment variable MISSING, which is not set"


def test_an_endless_answer_ends():
    _, _, error = run({}, {"text": '{"access_token": "' + "a" * (2 << 20) + '"}'})
    assert error.kind == "protocol"
    assert len(error.message) < 700


@pytest.mark.parametrize("pem", ["", "secret", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_cannot_sign(pem):
    requests, _, error = run({"sign": "rs256", "jwt": {"key": "{private_key}"}}, private_key=pem)
    assert (requests, error.kind) == ([], "config")
    assert error.message == "the private key of its credential cannot be read"


def test_a_key_of_the_environment_may_have_its_line_breaks_in_two_characters(rsa_key):
    signing = {"sign": "rs256", "jwt": {"key": "{private_key}"}}
    _, token, error = run(signing, private_key=rsa_key.pem.replace("\n", "\\n"))
    assert (token is not None, error) == (True, None)


def test_signing_needs_a_package(monkeypatch, rsa_key):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    _, _, error = run({"sign": "rs256", "jwt": {"key": "{private_key}"}}, private_key=rsa_key.pem)
    assert (
        str(error)
        == "played: its key signs a token, for which the package cryptography is needed\nInstall it: pip install 'prx-engine[jwt]'"
    )


def test_nothing_is_imported_for_those_who_sign_nothing():
    code = "import sys, prx; prx.Client(config={}, env={}); print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_is_shown_of_an_exchange_has_no_secret():
    auth = merge(
        PLAIN,
        {
            "token": {
                "basic": "{id}:{secret}",
                "headers": {"x-a": "{api_key}", "x-b": "${TEAM}"},
                "form": {"a": "{id}", "b": "{secret}"},
            }
        },
    )
    spec = definition({"auth": auth}).spec()
    shown = tokens.shown_request(spec, credential(auth))
    assert bytes(shown.body) == b"a=id-1&b=***"
    assert {name: str(text) for name, text in shown.headers.items() if name in ("authorization", "x-a", "x-b")} == {
        "authorization": "Basic ***", "x-a": "***", "x-b": "***",
    }  # fmt: skip
    real = tokens.exchange_request(spec, credential(auth), lambda: "fresh")
    assert b"secret-1" in bytes(real.body)
    for text in (
        repr(real),
        str(real),
        f"{real}",
        repr(tokens.Token(Secret("got-this-token"), 1, 1)),
        repr(credential()),
    ):
        assert "secret-1" not in text
        assert "all-of-it" not in text
        assert "got-this-token" not in text
