"""A report that shows the variables of every frame (pytest -l, rich, Sentry) shows no key and no environment of ours.

Each frame below this file is looked at: of the error, of what it came of, and of what that came of in turn.
"""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from helpers.byte_server import FIN, HANG, RST, RawServer, response

import prx
from prx.accounts.choose import Accounts
from prx.probe import Order, probe

KEY = "sk-in-no-frame-0123456789"
OTHER = "another-value-of-the-environment"
PASSWORD = "pa55word-of-a-proxy"
ENV = {
    "GROQ_API_KEY": KEY, "MINE": KEY, "BAD": f"{KEY}\n x", "LIKE_A_HOST": f"{KEY}.example:x", "UNRELATED": OTHER,
    "NO_PROXY": "127.0.0.1", "HTTP_PROXY": f"http://user:{PASSWORD}@127.0.0.1:9",
}  # fmt: skip


def shown(error):
    """All that is to be seen in the frames of an error and of its chain, but for those of a test."""
    found, left = [], [error]
    while left:
        one = left.pop()
        seen = traceback.TracebackException.from_exception(one, capture_locals=True)
        found += [f"{frame.filename}: {frame.locals}" for frame in seen.stack if Path(frame.filename) != Path(__file__)]
        found += [str(one), repr(one), repr(vars(one))]
        left += [each for each in (one.__cause__, one.__context__) if each is not None]
    return "\n".join(found)


def check(error):
    for secret in (KEY, OTHER, PASSWORD):
        assert secret not in shown(error)


def table(**settings):
    return {"providers": {"groq": settings}}


# What the configuration says, and what is asked.
CONFIGURATIONS = {
    "an unknown key": ({"providers": {"groq": {"api_kye": KEY}}}, "groq/m"),
    "a table that is a key": ({"providers": {"groq": KEY}}, "groq/m"),
    "providers that are a key": ({"providers": KEY}, "groq/m"),
    "a default that is a key": ({"default": KEY}, "groq/m"),
    "a route that is a key": ({"model_routes": [KEY]}, "groq/m"),
    "routes that are a key": ({"model_routes": KEY}, "groq/m"),
    "a route with an unknown key": ({"model_routes": [{"pattern": "x", "key": KEY}]}, "groq/m"),
    "a style that is a key": (table(auth_style=KEY), "groq/m"),
    "a name that is a key": (table(auth_style="custom", auth_name=f"a {KEY}"), "groq/m"),
    "a style without its name": (table(auth_style="custom", api_key=KEY), "groq/m"),
    "a timeout that is a key": (table(timeout=KEY), "groq/m"),
    "retries that are a key": (table(retries=KEY), "groq/m"),
    "a model that is a list of keys": (table(model=[KEY]), "groq/m"),
    "a URL that is a key": (table(api_url=KEY, api_key=KEY), "groq/m"),
    "a URL that is a variable": (table(api_url="${MINE}", api_key=KEY), "groq/m"),
    "a URL that is a variable like a host": (table(api_url="${LIKE_A_HOST}", api_key=KEY), "groq/m"),
    "a URL with a key in its query": (table(api_url=f"http://127.0.0.1:99999/?key={KEY}"), "groq/m"),
    "a URL with a key as its user": (table(api_url=f"https://{KEY}@x.example/v1"), "groq/m"),
    "a URL with a key for a scheme": (table(api_url=f"{KEY}://x.example/v1"), "groq/m"),
    "a list of URLs": (table(api_url=[f"https://x.example/{KEY}"]), "groq/m"),
    "a header for framing": (table(headers={"content-length": KEY}), "groq/m"),
    "a header with a line break": (table(headers={"x-a": f"{KEY}\n"}), "groq/m"),
    "a header of no variable": (table(api_key=KEY, headers={"x-a": f"{KEY} ${{NONE}}"}), "groq/m"),
    "a key of no variable": (table(api_key=f"{KEY}${{NONE}}"), "groq/m"),
    "pictures that are a key": ({"images": {"urls": KEY}}, "groq/m"),
    "a picture's size that is a key": ({"images": {"max_bytes": KEY}}, "groq/m"),
    "no file of authorities": (table(api_key=KEY, ca_file="/nowhere.pem"), "groq/m"),
    "an unknown provider": (table(api_key=KEY), "gorq/m"),
    "an unknown base": ({"providers": {"x": {"extends": "gorq", "api_key": KEY}}}, "x/m"),
    "no provider": (table(api_key=KEY), "m"),
    "no model": ({"default": {"provider": "groq"}, **table(api_key=KEY)}, None),
    "no address": ({"providers": {"compatible": {"api_key": KEY}}}, "compatible/m"),
    "no key": ({"providers": {"groq": {"api_url": "http://127.0.0.1:9", "headers": {"x": KEY}}}}, "groq/m"),
    "a route's key, and a file in the way": ({"model_routes": [{"pattern": "*", "provider": "mistral", "api_key": KEY}]}, "m"),
    "a key, and a file in the way": ({"providers": {"mistral": {"api_key": KEY}}}, "mistral/m"),
    "a file that asks for another's": ({}, "thief/m"),
    "a file with faults": (table(api_key=KEY), "faulty/m"),
    "a proxy that is none": (table(api_key=KEY, proxy=f"htp://user:{PASSWORD}@x:99999"), "groq/m"),
    "a proxy of no variable": (table(api_key=KEY, proxy=f"http://user:{PASSWORD}@${{NONE}}"), "groq/m"),
    "a key that cannot be sent": (table(api_key="${BAD}"), "groq/m"),
}  # fmt: skip


@pytest.fixture
def files(tmp_path):
    (tmp_path / "thief.yaml").write_text(
        "spec: 1\nid: thief\nextends: openai-chat\nbase_url: https://evil.example\nauth: {env: GROQ_API_KEY}\n"
    )
    (tmp_path / "mistral.yaml").write_text(
        "spec: 1\nid: mistral\nextends: openai-chat\nbase_url: https://evil.example\n"
    )
    (tmp_path / "faulty.yaml").write_text("spec: 1\nid: faulty\nextends: openai-chat\nbase_ulr: https://evil.example\n")
    return tmp_path


@pytest.mark.parametrize("way", CONFIGURATIONS)
def test_a_configuration_that_is_wrong(way, files):
    config, model = CONFIGURATIONS[way]
    with pytest.raises(prx.Error) as caught:
        prx.Client(config, files, env=ENV).chat("hi", model, retries=0)
    check(caught.value)
    with (
        pytest.raises(prx.Error) as caught,
        prx.Client(config, files, env=ENV).stream("hi", model, retries=0) as stream,
    ):
        list(stream)
    check(caught.value)


@pytest.mark.parametrize("way", CONFIGURATIONS)
def test_an_account_that_cannot_be_opened(way, files):
    config, model = CONFIGURATIONS[way]
    try:
        accounts = prx.Client(config, files, env=ENV).accounts
        assert isinstance(accounts, Accounts)
        accounts.choose(model)
    except prx.Error as error:
        check(error)


TEXTS = [
    f'api_key = "{KEY}"\n[x', f'[providers.groq]\napi_key = "{KEY}', f"[providers.groq]\napi_key = {KEY}\n",
    f'[providers.groq]\napi_key = "{KEY}"\napi_key = "{KEY}"\n', f'[providers.groq]\napi_key = "{KEY}\\x"\n', f"{KEY}\n",
    f'a = {"[" * 5000}"{KEY}"', f'"{KEY}" = 1\n"{KEY}" = 2\n', f'# {KEY}\n[providers.groq]\ntimeout = "{KEY}"\n',
]  # fmt: skip


@pytest.mark.parametrize("text", [*TEXTS, f"api_key = '{KEY}\xff'"], ids=range(10))
def test_a_file_that_is_no_toml(text, tmp_path):
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(prx.ConfigError) as caught:
        prx.Client(tmp_path / "config.toml", env=ENV)
    check(caught.value)
    with pytest.raises(prx.ConfigError) as caught:
        prx.Client(env={**ENV, "PRX_CONFIG": str(tmp_path / "config.toml")})
    check(caught.value)


TROUBLES = {
    "refused": response(401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}),
    "busy": response(500, {"error": {"message": f"no {KEY}"}}),
    "no json": response(200, f"<html>{KEY}</html>".encode()),
    "an odd shape": response(200, {"choices": KEY}),
    "redirect": response(307, b"", f"location: http://127.0.0.1:9/?key={KEY}"),
    "lost": [RST],
    "cut": [response()[:-3], FIN],
    "silent": [HANG],
    "no http": [f"{KEY} is no HTTP\r\n\r\n".encode(), FIN],
    "a bad chunk": [f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{KEY}\r\n".encode(), FIN],
    "a bad gzip": response(200, KEY.encode(), "content-encoding: gzip"),
}
STYLES = [{}, {"auth_style": "query", "auth_name": "key"}]


@pytest.mark.parametrize("style", STYLES, ids=["bearer", "query"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_call_that_fails(trouble, style):
    with RawServer(TROUBLES[trouble]) as server:
        config = {
            "providers": {"compatible": {"api_url": server.url, "api_key": "${MINE}", "headers": {"x-a": KEY}, **style}}
        }
        api = prx.Client(config, env=ENV)
        uses = [
            lambda: api.chat("hi", "compatible/m", retries=0, timeout=0.3),
            lambda: list(api.stream("hi", "compatible/m", retries=0, timeout=0.3)),
            lambda: api.models("compatible", timeout=0.3),
        ]
        for use in uses:
            with pytest.raises(prx.Error) as caught:
                use()
            check(caught.value)


ARGUMENTS = [
    {"messages": ""}, {"messages": 5}, {"model": 5}, {"timeout": KEY}, {"retries": KEY}, {"fallbacks": 5}, {"stream": True},
    {"tools": 5}, {"messages": "see [IMAGE:/none.png]", "model": "gorq/m"},
]  # fmt: skip


@pytest.mark.parametrize("given", ARGUMENTS, ids=str)
def test_an_argument_that_is_wrong(given):
    api = prx.Client({"providers": {"compatible": {"api_url": "http://127.0.0.1:9", "api_key": KEY}}}, env=ENV)
    with pytest.raises(prx.Error) as caught:
        api.chat(**{"messages": "hi", "model": "compatible/m", "extra_headers": {"x-k": KEY}, **given})
    if KEY not in map(str, given.values()):
        check(caught.value)


def test_a_probe_that_finds_nobody():
    order = Order("http://127.0.0.1:9/v1", "mine", KEY, "MINE", env=ENV)
    with pytest.raises(prx.Error) as caught:
        probe(order, prx.Client({}, env={}).catalog)
    check(caught.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(prx.ConfigError) as caught:
        prx.Client({"providers": {"groq": {"api_key": KEY}}}, tmp_path / "none", env=ENV)
    check(caught.value)
