"""A key never appears in any output: not in errors, reprs, logs, dry runs, JSON, or tracebacks with every variable shown."""

from __future__ import annotations

import base64
import copy
import html
import json
import logging
import os
import pickle
import re
import time
import traceback
from urllib.parse import quote, quote_plus

import pytest
from helpers import commands
from helpers.byte_server import FIN, HANG, RST, RawServer, response

import prx
from prx.accounts.choose import Accounts
from prx.core import kinds
from prx.core.request import build
from prx.mask import Mask
from prx.secret import Secret
from prx.session import Options

KEY = "sk-very-secret-0123456789"
STYLES = [
    {},
    {"auth_style": "x-api-key"},
    {"auth_style": "query", "auth_name": "key"},
    {"auth_style": "custom", "auth_name": "x-k", "auth_template": "T {api_key}"},
]
ECHO = response(401, {"error": {"message": f"Incorrect API key provided: {KEY}."}})
TROUBLES = {
    "refused": ECHO,
    "in a 200": response(200, {"error": {"message": f"bad {KEY}"}}),
    "no json": response(200, f"<html>{KEY}</html>".encode()),
    "redirect": response(307, b"", f"location: http://127.0.0.1:9/?key={KEY}"),
    "lost": [RST],
    "cut": [response()[:-3], FIN],
    "odd headers": [b"HTTP/1.1 200 OK\r\nodd\r\n\r\n{}", FIN],
    "silent": [HANG],
    "in a status line": [f"{KEY} is no HTTP\r\n\r\n".encode(), FIN],
    "in a length": [f"HTTP/1.1 200 OK\r\ncontent-length: 5, {KEY}\r\n\r\n{{}}".encode(), FIN],
    "in an encoding": response(200, b"\0", f"content-encoding: {KEY}"),
    "in a header of a 200": response(200, {"error": {"message": "no"}}, f"x-echo: {KEY}"),
    "in a chunk size": [f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{KEY}\r\n".encode(), FIN],
}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.get("auth_style", "bearer"))
@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_trouble_shows_a_key(trouble, style, caplog):
    caplog.set_level(logging.DEBUG)
    with RawServer(TROUBLES[trouble]) as server:
        api = prx.Client(config={"providers": {"compatible": {"api_url": server.url, "api_key": KEY, **style}}}, env={})
        with pytest.raises(prx.Error) as caught:
            api.chat("hi", model="compatible/m", retries=0, fallbacks=(), timeout=0.3)
        with pytest.raises(prx.Error) as listing:
            api.models("compatible", timeout=0.3)
        assert KEY not in f"{listing.value} {vars(listing.value)}"
        server.requests.pop()
    error = caught.value
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = "".join(line for line in shown.format() if "test_secrets.py" not in line)
    values = [str(error), repr(error), str(vars(error)), frames.replace(repr(TROUBLES[trouble]), ""), caplog.text]
    for value in values:
        assert KEY not in value
    assert len(server.requests) == 1, "and it did go out"
    assert KEY in str(server.requests[0])


@pytest.mark.parametrize("key", [f"{KEY}\r\nx-evil: 1", f"{KEY}\n", "sk-ключ", f"{KEY}\x00", f"a {KEY}\x7f"])
def test_a_key_that_cannot_be_sent_is_not(key):
    with RawServer() as server:
        api = prx.Client(config={"providers": {"compatible": {"api_url": server.url, "api_key": key}}}, env={})
        if key.strip() == KEY:
            assert api.chat("hi", model="compatible/m").content == "hello", "a line break at its end is taken off"
            return
        with pytest.raises(prx.ConfigError, match="cannot carry") as caught:
            api.chat("hi", model="compatible/m")
        assert KEY not in str(caught.value)
        assert server.connections == 0


def test_a_secret_keeps_to_itself():
    secret = Secret(KEY, "Bearer {api_key}")
    assert (str(secret), repr(secret), f"{secret}") == ("Bearer ***", "Secret(Bearer ***)", "Bearer ***")
    assert KEY.encode() not in pickle.dumps(secret)
    assert secret.reveal() == f"Bearer {KEY}"
    assert secret == Secret(KEY, "Bearer {api_key}")
    assert secret != Secret("other", "Bearer {api_key}")
    assert secret.redact(f'{KEY} "{KEY}"') == '*** "***"'
    assert Secret('a"b/c+d').redact('a%22b%2Fc%2Bd a\\"b/c+d') == "*** ***"
    assert Secret("k").redact("ok, keep") == "ok, keep", "a placeholder is no secret"


@pytest.mark.parametrize("command", [["--dry-run"], ["--json"], ["--events"], []])
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.get("auth_style", "bearer"))
def test_no_command_shows_a_key(command, style, tmp_path):
    with RawServer(ECHO) as server:
        settings = "".join(f'{name} = "{value}"\n' for name, value in style.items())
        (tmp_path / "c.toml").write_text(
            f'[default]\nprovider = "compatible"\nmodel = "m"\n[providers.compatible]\napi_url = "{server.url}"\napi_key = "{KEY}"\n{settings}'
        )
        for rest in (["chat", "hi", "--retries", "0", *command], ["doctor"], ["doctor", "--json"], ["models"]):
            done = commands.run(*rest, "--config", tmp_path / "c.toml")
            assert KEY not in done.stdout + done.stderr
            assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ keys that are exchanged for tokens

CREDENTIAL, TOKEN = "client-secret-0123456789", "token-made-by-loopback-0123"
EXCHANGED = """spec: 1
id: exchanged
extends: openai-chat
base_url: {url}
auth:
  required: true
  credential: {{id: X_ID, secret: X_SECRET}}
  token:
    url: {url}/token
    basic: '{{id}}:{{secret}}'
    headers: {{x-secret: 'key {{secret}}'}}
    json: {{secret: '{{secret}}'}}
    answer: {{token: access_token, expires_in: expires_in, message: error}}
"""
X_ENV = {"X_ID": "client-one", "X_SECRET": CREDENTIAL}
BASIC = base64.b64encode(f"client-one:{CREDENTIAL}".encode()).decode()
GIVEN = response(200, {"access_token": TOKEN, "expires_in": 60})
# What comes of an exchange, and of the call after it.
TROUBLES_OF_TOKENS = {
    "refused": [response(401, {"error": f"bad {CREDENTIAL}, {BASIC}"})],
    "refused in words": [response(403, f"no {CREDENTIAL} {BASIC}".encode())],
    "in a 200": [response(200, {"error": f"bad {CREDENTIAL}"})],
    "a page": [response(200, f"<html>Log in: {CREDENTIAL}</html>".encode())],
    "keys of the answer": [response(200, {CREDENTIAL: 1, BASIC: 2})],
    "redirect": [response(302, b"", f"location: http://127.0.0.1:9/?secret={CREDENTIAL}")],
    "lost": [[RST]],
    "no HTTP": [[f"{CREDENTIAL} is no HTTP\r\n\r\n".encode(), FIN]],
    "silent": [[HANG]],
    "a token that cannot be sent": [response(200, {"access_token": f"{TOKEN}\n"}), response(200, {"access_token": f"a\n{TOKEN}"})],
    "the token, refused": [GIVEN, response(401, {"error": {"message": f"bad {TOKEN}, of {CREDENTIAL}"}})],
    "the token, in a 200": [GIVEN, response(200, {"error": {"message": f"bad {TOKEN}"}})],
    "the token, in an answer": [GIVEN, response(200, {f"{TOKEN} {CREDENTIAL}": 1})],
}  # fmt: skip


def exchanging(folder, url):
    (folder / "exchanged.yaml").write_text(EXCHANGED.format(url=url))
    return folder


@pytest.mark.parametrize("trouble", TROUBLES_OF_TOKENS)
def test_no_trouble_of_an_exchange_shows_a_secret(trouble, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with RawServer(*TROUBLES_OF_TOKENS[trouble]) as server:
        api = prx.Client({}, exchanging(tmp_path, server.url), env=X_ENV)
        with pytest.raises(prx.Error) as caught:
            api.chat("hi", model="exchanged/m", retries=0, fallbacks=(), timeout=0.3)
    error = caught.value
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = "".join(line for line in shown.format() if "test_secrets.py" not in line)
    account = api.accounts.get("exchanged")
    for value in (
        str(error),
        repr(error),
        str(vars(error)),
        frames,
        caplog.text,
        repr(account),
        str(vars(account.source)),
    ):
        for secret in (CREDENTIAL, BASIC, TOKEN):
            assert secret not in value
    assert CREDENTIAL.encode() not in pickle.dumps(account.target)
    assert BASIC in str(server.requests[0]), "and it did go out"


@pytest.mark.parametrize("trouble", ["refused", "keys of the answer", "the token, refused", "the token, in an answer"])
def test_no_command_shows_a_secret_of_an_exchange(trouble, tmp_path):
    with RawServer(*TROUBLES_OF_TOKENS[trouble]) as server:
        folder = exchanging(tmp_path, server.url)
        env = {**os.environ, **X_ENV}
        for rest in (
            ["chat", "-m", "exchanged/m", "hi", "--retries", "0"], ["chat", "-m", "exchanged/m", "hi", "--dry-run"],
            ["chat", "-m", "exchanged/m", "hi", "--json"], ["chat", "-m", "exchanged/m", "hi", "--events"],
            ["explain", "-m", "exchanged/m", "hi"], ["explain", "-m", "exchanged/m", "hi", "--json"],
            ["doctor", "exchanged"], ["doctor", "exchanged", "--json"], ["models", "exchanged"], ["show", "exchanged", "--resolved"],
        ):  # fmt: skip
            server.requests.clear()
            done = commands.run(*rest, "--providers", folder, env=env)
            for secret in (CREDENTIAL, BASIC, TOKEN):
                assert secret not in done.stdout + done.stderr, rest
            assert "Traceback" not in done.stderr
            if rest[0] in ("explain", "show") or "--dry-run" in rest:
                assert (done.returncode, server.requests) == (0, []), f"{rest} needs no network"
            if rest[0] == "explain" or rest == ["doctor", "exchanged"]:
                assert f"POST {server.url}/token" in done.stdout
                assert "***" in done.stdout


SPELLINGS = {
    "plain": str,
    "in a URL": quote,
    "in a query": quote_plus,
    "all of it in a URL": lambda key: quote(key, safe=""),
    "in a URL twice": lambda key: quote(quote(key, safe=""), safe=""),
    "in small letters": lambda key: re.sub("%..", lambda found: found[0].lower(), quote(key, safe="")),
    "in a page": html.escape,
    "in JSON": lambda key: json.dumps(key)[1:-1],
    "in JSON in JSON": lambda key: json.dumps(json.dumps(key)[1:-1])[1:-1],
    "in Python": lambda key: repr(key)[1:-1],
    "letter by letter in JSON": lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
    "letter by letter in a URL": lambda key: "".join(f"%{ord(char):02X}" for char in key),
    "letter by letter in a page": lambda key: "".join(f"&#{ord(char)};" for char in key),
    "letter by letter in a page, by digits": lambda key: "".join(f"&#x{ord(char):X};" for char in key),
    "in JSON, in a URL": lambda key: quote("".join(f"\\u{ord(char):04X}" for char in key), safe=""),
    "in capitals": str.upper,
    "over two lines": lambda key: f"{key[:4]}\r\n{key[4:]}",
    "with what nobody sees": "\u200b".join,
    "as hexadecimal digits": lambda key: key.encode().hex().upper(),
}


@pytest.mark.parametrize(
    "key", ["sk-0123", "sk 0123", "sk/+=0123/", "sk\"&<'0123", "sk*~%2F0123", "sk\\0\\\\123", "%sk0123\\"]
)
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_a_key_is_known_however_it_is_spelled(key, spell):
    assert Secret(key).redact(f"bad key {spell(key)}.") == "bad key ***."


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "u", "us", "user", "user:"])
@pytest.mark.parametrize("key", [KEY, "sk>?>?>?0123~~~", "sk-1"])
def test_a_key_is_known_in_the_base64_of_any_text(key, before, encode):
    secret = Secret(key)
    for after in ("", "\n", ":x"):
        text = encode(f"{before}{key}{after}".encode()).decode()
        left = secret.redact(text)
        assert "***" in left
        assert len(left.replace("***", "")) <= len(text) - len(key), "and only its edges are left"
    assert secret.redact("QUJDREVGR0g=") == "QUJDREVGR0g="


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("key", [KEY, 'a"b/c+d&%25x\\y'])
def test_a_key_is_known_in_pieces(key, spell, size):
    text = f"so {spell(key)} is said, and skeleton"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    flow = Mask([Secret(key)]).flow()
    assert "".join([*map(flow.piece, pieces), flow.rest()]) == "so *** is said, and skeleton"
    value = Mask([Secret(key)]).value([{"delta": {"text": piece, "n": 1}} for piece in pieces])
    assert "".join(event["delta"]["text"] for event in value) == "so *** is said, and skeleton"


def test_only_what_may_be_a_key_is_held_back():
    flow = Mask([Secret(KEY)]).flow()
    assert [flow.piece(text) for text in ("Hello", " you s", "kip", " sk-very", " much")] == [
        "Hello", " you ", "skip", " ", "sk-very much",
    ]  # fmt: skip
    assert flow.rest() == ""


LONG = {
    "backslashes": "\\" * 1000000, "one letter, and backslashes": "sk" + "\\" * 1000000, "per cent": "%25" * 300000,
    "zeros": "&#" + "0" * 1000000, "unseen": "s\u200b" * 500000, "beginnings": "sk-very-" * 120000, "escapes": "\\u00" * 200000,
    "amp": "&amp;" * 200000, "keys": KEY * 10000,
}  # fmt: skip


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_looking_for_a_key_takes_no_long(text):
    started = time.process_time()
    for key in (KEY, 'sk\\\\"%%"\\/0123', '"%/0123'):
        Secret(key).redact(text)
    Mask([Secret(KEY)]).value([{"text": text[start : start + 20]} for start in range(0, 200000, 20)])
    assert time.process_time() - started < 15


@pytest.mark.parametrize("escape", [lambda key: key.replace("/", "\\/"), lambda key: key.replace("+", "\\u002B")])
def test_a_key_that_comes_back_escaped_is_still_a_key(escape):
    key = "sk/abc+def/123456"
    body = '{"error":{"message":"Incorrect API key provided: ' + escape(key) + '"}}'
    with RawServer(response(401, body.encode())) as server:
        client = prx.Client(config={"providers": {"compatible": {"api_url": server.url, "api_key": key}}}, env={})
        with pytest.raises(prx.AuthError) as caught:
            client.chat("hi", model="compatible/m", retries=0)
    assert caught.value.message == "Incorrect API key provided: ***"
    assert key not in repr(caught.value.view)


def test_an_ordinary_value_of_a_header_breaks_no_error():
    with RawServer(response(400, b'{"error":{"message":"no","code":"odd","retryable":true}}')) as server:
        settings = {"api_url": server.url, "headers": {"x-debug": "true"}}
        with pytest.raises(prx.BadRequestError) as caught:
            prx.Client(config={"providers": {"compatible": settings}}, env={}).chat("hi", model="compatible/m")
    assert (caught.value.message, caught.value.view["code"]) == ("no", "odd")


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": 12345678901234}, {"auth_style": "custom", "auth_name": "x", "auth_template": "sk-SECRETSECRET"},
        {"headers": {"authorization": "Bearer sk-SECRETSECRET\n"}}, {"proxy": "htp://user:secretpw@h:99999"},
    ],
)  # fmt: skip
def test_a_faulty_setting_is_not_quoted(settings):
    config = {"providers": {"compatible": {"api_url": "http://127.0.0.1:9/v1", **settings}}}
    with pytest.raises(prx.Error) as caught:
        prx.Client(config=config, env={}).chat("hi", model="compatible/m", retries=0)
    for secret in ("12345678901234", "SECRETSECRET", "secretpw"):
        assert secret not in str(caught.value)


PASSWORD = "proxy-pa55word"
PROXIES = [
    f"http://user:{PASSWORD}@127.0.0.1:9",
    f"http://user:{PASSWORD}\\@127.0.0.1:9",
    f"http://user:{PASSWORD}@[::1",
    f"user:{PASSWORD}@:x",
]


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_password_of_a_proxy_is_not_shown(proxy):
    settings = {"api_url": "http://198.51.100.7:9/v1", "api_key": KEY}
    by_config = prx.Client({"providers": {"compatible": {**settings, "proxy": proxy}}}, env={})
    by_environment = prx.Client({"providers": {"compatible": settings}}, env={"HTTP_PROXY": proxy})
    for api in (by_config, by_environment):
        account, _ = api.plan("hi", "compatible/m")
        for shown in (account, account.settings, account.target, api.config):
            assert PASSWORD not in repr(shown)
        for kept in (account.settings, account.target, account.network, api.config):
            assert PASSWORD.encode() not in pickle.dumps(kept)
            assert KEY.encode() not in pickle.dumps(kept)
        with pytest.raises(prx.Error) as caught:
            api.chat("hi", "compatible/m", retries=0)
        with pytest.raises(prx.Error) as listing:
            api.models("compatible")
        for error in (caught.value, listing.value):
            assert PASSWORD not in f"{error} {vars(error)}"


LOGIN = base64.b64encode(f"user:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("said", [PASSWORD, f"user:{PASSWORD}", LOGIN])
def test_a_proxy_that_says_its_password(scheme, said):
    refusal = f"HTTP/1.1 407 no {said}\r\ncontent-length: {len(said)}\r\nx-said: {said}\r\n\r\n{said}".encode()
    with RawServer(refusal) as server:
        proxy = f"http://user:{PASSWORD}@127.0.0.1:{server.port}"
        settings = {"api_url": f"{scheme}://198.51.100.7/v1", "api_key": KEY, "proxy": proxy}
        with pytest.raises(prx.Error) as caught:
            prx.Client({"providers": {"compatible": settings}}, env={}).chat("hi", "compatible/m", retries=0)
        assert LOGIN in str(server.requests)
    assert said not in f"{caught.value} {vars(caught.value)}"


def test_a_copy_keeps_the_key_and_a_pickle_has_none():
    """What comes out of a pickle sends nothing."""
    with RawServer() as server:
        settings = {"api_url": server.url, "api_key": KEY, "headers": {"x-team": "t"}}
        api = prx.Client({"providers": {"compatible": settings}}, env={})
        account, call = api.plan("hi", "compatible/m")
        for again in (copy.copy(account), copy.deepcopy(account)):
            assert (
                build(again.definition.spec(), call, again.target).headers["authorization"].reveal() == f"Bearer {KEY}"
            )
            assert again.same(account)
        for kept in (account.target, account.settings, api.config.providers["compatible"]):
            assert KEY.encode() not in pickle.dumps(kept)
            assert repr(pickle.loads(pickle.dumps(kept))) != ""
        lost = account._replace(target=pickle.loads(pickle.dumps(account.target)))
        assert lost.target != account.target
        with pytest.raises(prx.ConfigError, match="pickle"):
            list(api._stream(api._session._run(kinds.CHAT, lost, call, Options())))
        again = pickle.loads(pickle.dumps(api.config))
        with pytest.raises(prx.ConfigError, match="pickle"):
            Accounts(again, api.catalog, {}).get("compatible")
        assert server.connections == 0
