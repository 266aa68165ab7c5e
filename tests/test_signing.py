"""auth.sign: aws4. A server that knows the key works out the signature of what arrives; the key itself arrives nowhere."""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import re
import sys
import traceback
from urllib.parse import unquote

import pytest
from helpers import commands
from helpers.signature_judge import ID, SECRET, TOKEN, SignatureJudge

import prx
from prx.core import aws4
from prx.secret import Secret
from prx.wire import HttpRequest, Signer

KEY, LONG = f"{ID}:{SECRET}", f"{ID}:{SECRET}:{TOKEN}"
EXPORTED = json.dumps(
    {
        "Version": 1,
        "AccessKeyId": ID,
        "SecretAccessKey": SECRET,
        "SessionToken": TOKEN,
        "Expiration": "2026-12-01T00:00:00Z",
    }
)
REGION = {"AWS_REGION": "eu-west-1"}
FILE = """spec: 1
id: own
extends: bedrock-converse
base_url: URL
auth: {sign: aws4, required: true, aws4: {service: bedrock, region: eu-west-1, access_id: OWN_ID, secret: OWN_SECRET, session_token: OWN_TOKEN}}
"""
MODELS = [
    "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1dadi0g15f",
    "a b+c~d é%41",
]


def client(url, key, **settings):
    return prx.Client({"providers": {"bedrock": {"api_url": url, "api_key": key, **settings}}}, env=REGION)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "query", ["", "/?", "?x=a%20b&y=%2F+~*'()&x=2&empty=", "/some/path?a=é"], ids=["plain", "slash", "odd", "path"]
)
@pytest.mark.parametrize("key", [KEY, LONG, EXPORTED], ids=["id and secret", "with a token", "as it is exported"])
def test_what_is_signed_is_what_arrives(key, query, model):
    with SignatureJudge("" if key == KEY else TOKEN) as judge, client(judge.url + query, key) as api:
        assert api.chat("hi é", f"bedrock/{model}", max_tokens=5).content == "hello", judge.faults
        with api.stream("hi", f"bedrock/{model}") as stream:
            assert [piece.content for piece in stream if piece.content] == ["hel", "lo"]
    for path, headers, body in judge.requests:
        assert SECRET not in f"{path}{headers}{body}"
        assert unquote(re.search("/model/([^/?]+)/converse", path)[1]) == model
        assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={ID}/")


def test_asynchronously_and_other_kinds_of_call():
    async def asked(url):
        async with prx.AsyncClient({"providers": {"bedrock": {"api_url": url, "api_key": LONG}}}, env=REGION) as api:
            return (await api.chat("hi", "bedrock/m:0")).content

    with SignatureJudge(TOKEN) as judge:
        assert asyncio.run(asked(judge.url)) == "hello"
    with (
        SignatureJudge(answer={"embedding": [0.5, 1], "inputTextTokenCount": 3}) as judge,
        client(judge.url, KEY) as api,
    ):
        assert api.embed(["a", "b"], "bedrock/amazon.titan-embed-text-v2:0").vectors == ((0.5, 1.0), (0.5, 1.0))
    assert len(judge.requests) == 2
    with SignatureJudge(answer={"inputTokens": 7}) as judge, client(judge.url, KEY) as api:
        assert api.count_tokens([{"role": "user", "content": "hi"}], "bedrock/m") == 7


def test_each_attempt_is_signed_anew(monkeypatch):
    times = iter(range(100))
    import time

    begin = time.time()
    monkeypatch.setattr("prx.session.time.time", lambda: begin + next(times))
    with SignatureJudge(fails=[500, 503]) as judge, client(judge.url, KEY) as api:
        assert api.chat("hi", "bedrock/m", retries=2).attempts == 3
    assert judge.faults == []
    dates = [headers["x-amz-date"] for _, headers, _ in judge.requests]
    signatures = {headers["authorization"] for _, headers, _ in judge.requests}
    assert dates == sorted(dates)
    assert len(signatures) == len({*dates}) == 3


def test_the_example_of_another_signer():
    """Held against botocore's own way of adding a signature, which takes the time from the clock."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signer = Signer(Secret(ID), Secret(SECRET), Secret(TOKEN), "bedrock", "eu-west-1")
    request = HttpRequest("POST", "https://x.example/model/a%3A0/converse", {"content-type": "application/json"}, b"{}")
    theirs = AWSRequest("POST", request.url, {"content-type": "application/json"}, b"{}")
    SigV4Auth(Credentials(ID, SECRET, TOKEN), "bedrock", "eu-west-1").add_auth(theirs)
    from datetime import UTC, datetime

    now = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    ours = aws4.signed(request, signer, now, "x")
    assert ours.headers["authorization"].reveal() == theirs.headers["Authorization"]
    assert str(ours.headers["authorization"]) == "AWS4-HMAC-SHA256 ***"


# ------------------------------------------------------------------ where a key comes from


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_key_of_the_environment(tmp_path, token):
    with SignatureJudge(token) as judge:
        (tmp_path / "own.yaml").write_text(FILE.replace("URL", judge.url))
        env = {"OWN_ID": ID, "OWN_SECRET": SECRET, "OWN_TOKEN": token}
        with prx.Client(providers=[tmp_path], env=env) as api:
            assert api.chat("hi", "own/m").content == "hello"
        for half, missing in (("OWN_ID", "OWN_SECRET"), ("OWN_SECRET", "OWN_ID")):
            with prx.Client(providers=[tmp_path], env={half: "x1"}) as api:
                with pytest.raises(prx.ConfigError, match=f"{half} is set, but {missing} is not"):
                    api.chat("hi", "own/m")
        with prx.Client(providers=[tmp_path], env={}) as api:
            with pytest.raises(prx.ConfigError, match="no API key"):
                api.chat("hi", "own/m")


def test_a_key_by_a_command():
    command = [sys.executable, "-c", f"print({EXPORTED!r})"]
    settings = {"api_key": {"command": command, "for": 900}}
    with SignatureJudge(TOKEN) as judge:
        with prx.Client({"providers": {"bedrock": {"api_url": judge.url, **settings}}}, env=REGION) as api:
            assert api.chat("hi", "bedrock/m").content == "hello"
            judge.answer = lambda *_: (400, "application/json", ECHOES["json"])
            with pytest.raises(prx.Error) as caught:
                api.chat("hi", "bedrock/m", retries=0)
    for part in (ID, SECRET, TOKEN):
        assert part not in f"{caught.value} {vars(caught.value)}"


def test_a_key_of_another_form_is_sent_as_it_is():
    key = "ABSKQmVkcm9ja0FQSUtleS1wbGF5ZWQ="
    with SignatureJudge() as judge, client(judge.url, key) as api, pytest.raises(prx.AuthError):
        api.chat("hi", "bedrock/m", retries=0)
    assert judge.requests[0][1]["authorization"] == f"Bearer {key}"


def test_the_configuration_may_say_how_the_key_travels():
    with SignatureJudge() as judge, client(judge.url, "a:b", auth_style="bearer") as api, pytest.raises(prx.AuthError):
        api.chat("hi", "bedrock/m", retries=0)
    assert judge.requests[0][1]["authorization"] == "Bearer a:b"


def test_the_key_that_is_sent_comes_first_in_the_environment():
    env = REGION | {"AWS_BEARER_TOKEN_BEDROCK": "bearer-1", "AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    target = prx.Client(env=env).accounts.get("bedrock").target
    assert (target.signer, target.auth["authorization"].reveal()) == (None, "Bearer bearer-1")
    del env["AWS_BEARER_TOKEN_BEDROCK"]
    target = prx.Client(env=env).accounts.get("bedrock").target
    assert (target.base_url, target.signer.region) == ("https://bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1")
    with pytest.raises(prx.ConfigError, match="not known yet"):
        target.auth["authorization"].reveal()


def test_a_key_that_looks_like_json_and_is_none():
    for key in ('{"AccessKeyId": "a"}', "{nothing", '{"AccessKeyId": 1, "SecretAccessKey": 2}'):
        with client("http://127.0.0.1:9", key) as api, pytest.raises(prx.ConfigError, match="no AccessKeyId") as caught:
            api.chat("hi", "bedrock/m")
        assert key not in str(caught.value)


def test_without_a_region():
    with prx.Client({"providers": {"bedrock": {"api_url": "http://127.0.0.1:9", "api_key": KEY}}}, env={}) as api:
        with pytest.raises(prx.ConfigError, match=r"auth.aws4.region needs the environment variable AWS_REGION"):
            api.chat("hi", "bedrock/m")


def test_without_the_package(monkeypatch):
    real = builtins.__import__

    def no_botocore(name, *more):
        if name.startswith("botocore"):
            raise ImportError(name)
        return real(name, *more)

    with client("http://127.0.0.1:9", KEY) as api:
        monkeypatch.setattr(builtins, "__import__", no_botocore)
        with pytest.raises(prx.ConfigError, match="needs the package botocore") as caught:
            api.chat("hi", "bedrock/m")
    assert caught.value.hint == "pip install 'prx-engine[aws]'"
    assert caught.value.attempts == 0


# ------------------------------------------------------------------ who may have it


@pytest.mark.parametrize(
    "part",
    [
        "access_id: AWS_ACCESS_KEY_ID, secret: OWN",
        "access_id: OWN, secret: AWS_SECRET_ACCESS_KEY",
        "session_token: AWS_SESSION_TOKEN, access_id: OWN, secret: OWN",
    ],
)
def test_a_file_cannot_have_the_parts_of_a_packaged_providers_key(tmp_path, part):
    (tmp_path / "thief.yaml").write_text(
        f"spec: 1\nid: thief\nextends: bedrock-converse\nbase_url: http://127.0.0.1:9\nauth: {{sign: aws4, aws4: {{service: s, region: r, {part}}}}}\n"
    )
    env = {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN, "OWN": "x1"} | REGION
    with (
        prx.Client(providers=[tmp_path], env=env) as api,
        pytest.raises(prx.ConfigError, match="which belongs to") as caught,
    ):
        api.chat("hi", "thief/m")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["region", "service"])
def test_a_file_cannot_put_a_key_into_the_scope(tmp_path, key):
    scope = {"region": "r", "service": "s"} | {key: "${GROQ_API_KEY}"}
    (tmp_path / "thief.yaml").write_text(
        f"spec: 1\nid: thief\nextends: bedrock-converse\nbase_url: http://127.0.0.1:9\nauth: {{sign: aws4, aws4: {json.dumps(scope)[:-1]}, access_id: OWN, secret: OWN}}}}\n"
    )
    with prx.Client(providers=[tmp_path], env={"GROQ_API_KEY": "gsk-1", "OWN": "x1"}) as api:
        with pytest.raises(prx.ConfigError, match="GROQ_API_KEY is the key of"):
            api.chat("hi", "thief/m")


def test_the_environments_key_does_not_go_to_an_address_of_ones_own():
    env = {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    with prx.Client({"providers": {"bedrock": {"api_url": "http://127.0.0.1:9"}}}, env=REGION | env) as api:
        with pytest.raises(prx.ConfigError, match="no API key"):
            api.chat("hi", "bedrock/m")


# ------------------------------------------------------------------ nothing shows it

ECHOES = {
    "json": json.dumps({"message": f"{ID} {SECRET} {TOKEN}"}).encode(),
    "text": f"<b>{SECRET}</b> {TOKEN}".encode(),
}


@pytest.mark.parametrize("echo", ECHOES)
def test_no_part_of_a_key_is_shown(echo, caplog):
    caplog.set_level("DEBUG")
    with SignatureJudge(TOKEN) as judge:
        judge.answer = lambda *_: (400, "application/json", ECHOES[echo])
        with client(judge.url, LONG) as api, pytest.raises(prx.Error) as caught:
            api.chat("hi", "bedrock/m", retries=0)
    error = caught.value
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    frames = "\n".join(line for line in shown.splitlines() if "test_signing.py" not in line and "judge" not in line)
    for text in (str(error), repr(error), str(vars(error)), caplog.text, frames):
        for part in (SECRET, TOKEN):
            assert part not in text


@pytest.mark.parametrize(
    "arguments",
    [["chat", "hi", "--retries", "0"], ["chat", "hi", "--dry-run"], ["chat", "hi", "--json"], ["chat", "hi", "-v"], ["explain", "hi"], ["doctor"], ["doctor", "--json"]],
    ids=" ".join,
)  # fmt: skip
def test_no_command_shows_a_part_of_a_key(tmp_path, arguments):
    with SignatureJudge(TOKEN) as judge:
        (tmp_path / "c.toml").write_text(
            f'[default]\nprovider = "bedrock"\nmodel = "m:0"\n[providers.bedrock]\napi_url = "{judge.url}"\napi_key = "${{KEY}}"\n'
        )
        done = commands.run(
            *arguments,
            "--config",
            tmp_path / "c.toml",
            env={"KEY": LONG, "HOME": str(tmp_path), "PATH": os.environ["PATH"], **REGION},
        )
    said = done.stdout + done.stderr
    for part in (SECRET, TOKEN, ID):
        assert part not in said
    assert not re.search(r"Signature=[0-9a-f]", said)
    assert "Traceback" not in said
    assert judge.faults == []
    if "--dry-run" in arguments or arguments[0] != "chat":
        assert "AWS4-HMAC-SHA256 ***" in said
    else:
        assert done.returncode == 0, said


def test_a_signer_is_masked_when_it_is_shown():
    target = prx.Client({"providers": {"bedrock": {"api_key": LONG}}}, env=REGION).accounts.get("bedrock").target
    for part in (ID, SECRET, TOKEN):
        assert part not in repr(target)
        assert any(secret.redact(f"x{part}x") == "x***x" for secret in target.secrets)
