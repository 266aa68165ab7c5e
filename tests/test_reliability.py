"""docs/reliability.md: each test that it names is there, each promise has one, and those that no other file keeps are kept here."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.byte_server import DONE, FIN, HANG, RST, RawServer, delta, own_authority, response, stream

import prx

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
HERE = Path(__file__).name


def rows(heading):
    """The cells of each row of the table under a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    found = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return found[1:]


def client(folder, url, more=""):
    """A client of a provider that says the usual, with one further attempt and no pause before it."""
    (folder / "careful.yaml").write_text(
        f"spec: 1\nid: careful\nextends: openai-chat\nbase_url: {url}\nretry: {{times: 1, wait: 0}}\n{more}"
    )
    return prx.Client(config={}, providers=folder, env={})


def ask(api, **options):
    return api.chat("hi", model="careful/m", fallbacks=(), **options)


# ------------------------------------------------------------------ the page

PROMISES = [
    row
    for heading in (
        "An answer is whole, or it is an error",
        "Attempts",
        "What a refusal teaches",
        "Time",
        "Memory",
        "Keys",
        "The network",
    )
    for row in rows(heading)
]


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[0][:40])
def test_every_promise_has_its_tests(row):
    assert re.fullmatch(r"(`test_\w+\.py::test_\w+` ?)+", row[1]), row


@pytest.mark.parametrize(("file", "name"), sorted(set(re.findall(r"`(\w+\.py)::(\w+)`", PAGE))))
def test_every_test_that_is_named_is_there(file, name):
    assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE)


def test_every_test_here_is_named():
    own = set(re.findall(r"^def (test_\w+)\(", Path(__file__).read_text(), re.MULTILINE))
    assert {name for name in own if not name.startswith("test_every_")} == set(re.findall(rf"`{HERE}::(\w+)`", PAGE))


# ------------------------------------------------------------------ what comes of a failure


def refusal(status, message="no", **more):
    return response(status, {"error": {"message": message, **more}})


GONE = "http://127.0.0.1:9/v1"
# By the words of the page: what happens, in one or several ways. The page says the kind, and whether it is tried again.
FAILURES = {
    "401, 403": [refusal(401), refusal(403)],
    "402; a refusal with any status that says that money is missing; 429 that speaks of a plan": [
        refusal(402), refusal(401, "insufficient balance"), refusal(500, "insufficient balance"), refusal(429, "You exceeded your current quota"),
    ],
    "404; a model that the provider does not know": [refusal(404), refusal(400, "The model `m` does not exist")],
    "408": [refusal(408)],
    "413; a context that is too long; an answer beyond the limits": [
        refusal(413), refusal(400, "maximum context length is 8192 tokens"), response(200, b" " * 2000),
    ],
    "429": [refusal(429)],
    "any other 4xx": [refusal(status) for status in (400, 405, 409, 422, 451)],
    "5xx": [refusal(status) for status in (500, 501, 502, 503, 504, 520, 524, 529)],
    "a request refused by the provider's filter": [refusal(400, "blocked", code="content_filter")],
    "no connection, or one that was lost before an answer began": [[RST], [FIN], [b"HTTP/1.", FIN]],
    "a silence, or the deadline": [[HANG]],
    "an answer that stopped before its end": [[response()[:-5], FIN], [*stream(delta("", None))]],
    "an answer that is not what it should be; a redirect": [
        response(200, {}), response(200, b"<html>"), response(204, b""), response(307, b"", f"location: {GONE}"),
    ],
}  # fmt: skip
ELSEWHERE = {"a certificate that does not hold", "configuration, file or capability"}  # nothing is answered there


def test_every_failure_of_the_page_is_played():
    assert FAILURES.keys() | ELSEWHERE == {row[0] for row in rows("What comes of a failure")}


@pytest.mark.parametrize(("what", "kind", "again"), [row for row in rows("What comes of a failure") if row[0] not in ELSEWHERE])  # fmt: skip
def test_what_is_tried_again(what, kind, again, tmp_path):
    for script in FAILURES[what]:
        with RawServer(script) as server:
            with pytest.raises(prx.Error) as caught:
                ask(client(tmp_path, server.url, "transport: {max_body: 1024}\n"), timeout=0.3)
            assert f"`{caught.value.kind}`" == kind, script
            assert caught.value.retryable == (again == "yes"), script
            assert (len(server.requests), caught.value.attempts) == ((2, 2) if again == "yes" else (1, 1)), script


def test_nothing_is_made_up(tmp_path):
    for script in (response(200, {"choices": [{"message": {"content": "a"}}]}), [*stream(delta("a"), DONE)]):
        with RawServer(script) as server:
            reply = ask(client(tmp_path, server.url))
        assert (reply.content, reply.usage, reply.finish_reason, reply.reasoning) == ("a", None, None, None)


CALL = (
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}\n\n'
)
THOUGHT = b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n'


@pytest.mark.parametrize("output", [delta("hel"), THOUGHT, CALL], ids=["text", "reasoning", "call"])
@pytest.mark.parametrize("end", [RST, FIN, HANG, b'data: {"error":{"message":"overloaded","code":503}}\n\n'])
def test_nothing_is_sent_after_any_output(output, end, tmp_path):
    with RawServer(stream(output, 0.05, end, end=False)) as server:
        with pytest.raises(prx.Error) as caught, client(tmp_path, server.url).stream("hi", "careful/m", timeout=0.3) as pieces:  # fmt: skip
            list(pieces)
        assert caught.value.retryable
        assert (len(server.requests), caught.value.attempts) == (1, 1)
        assert caught.value.partial == pieces.partial


# ------------------------------------------------------------------ limits


def test_the_deadline_holds_in_an_upload(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        api = client(tmp_path, f"http://127.0.0.1:{deaf.getsockname()[1]}/v1")
        started = time.monotonic()
        with pytest.raises(prx.ProviderTimeoutError, match="deadline"):
            api.chat("x" * 30_000_000, model="careful/m", deadline=0.5)
        assert time.monotonic() - started < 3


def test_an_endless_error_is_read_to_its_limit(tmp_path):
    head = b"HTTP/1.1 500 X\r\ncontent-type: text/plain\r\n\r\n"
    with RawServer([head, *[b"x" * 65536] * 2000]) as server:
        with pytest.raises(prx.ServerError):
            ask(client(tmp_path, server.url), retries=0)
        assert server.left.wait(5), "the rest was read"


# ------------------------------------------------------------------ no file can be opened any more

STARVED = """
import os, resource, sys, prx

url, when, warm, model, prompt = sys.argv[1:]
config = {"providers": {name: {"api_url": url, "api_key": "k"} for name in ("compatible", "mine")}}

def client():
    return prx.Client(config=config, env={"ZAI_API_KEY": "k", "https_proxy": url.removesuffix("/v1")})  # nobody outside is asked

def ask(api, model, prompt="hi"):
    try:
        print(api.chat(prompt, model=model, retries=0))
    except prx.Error as error:
        print(type(error).__name__, *str(error).splitlines()[:1], error.partial or "")

if when == "later":
    api = client()
if warm:
    ask(api, "compatible/m")
if when == "inside":
    api = client()
    pieces = api.stream("hi", model="compatible/m", retries=0)
    print(next(pieces).content)
    del sys.modules["sseclient"]  # it stands for whatever a rare file needs late
full = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, full[1]))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
if when == "inside":
    try:
        list(pieces)
    except prx.Error as error:
        print(type(error).__name__, error.partial, error.attempts, error.provider)
else:
    ask(api if when == "later" else client(), model, prompt)
resource.setrlimit(resource.RLIMIT_NOFILE, full)
for one in held:
    os.close(one)
ask(client() if when == "at once" else api, model, prompt)
"""
TWO_LINES = b'data: {"choices":\ndata: [{"delta": {"content": "lo"}}]}\n\n'  # sseclient-py reads these
NONE = "ConfigError a file that prx needs cannot be opened: Too many open files"


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit that POSIX has")
@pytest.mark.parametrize(
    ("when", "warm", "model", "prompt", "script", "said"),
    [
        ("later", "", "compatible/m", "hi", [], [NONE, "hello"]),
        ("later", "", "mine/m", "hi", [], [NONE, "hello"]),
        ("later", "", "nobody/m", "hi", [], [NONE, "ConfigError unknown provider 'nobody'"]),
        ("later", "yes", "glm/m", "hi", [], ["hello", NONE, "ProviderConnectionError zai"]),
        ("later", "yes", "compatible/m", "[IMAGE:x.png]", [], ["hello", "hello", "hello"]),
        ("later", "yes", "compatible/m", "hi", [response(200, None, "connection: close")], ["hello", "ProviderConnectionError", "hello"]),
        ("inside", "", "compatible/m", "hi", [stream(delta("hel"), 0.3, TWO_LINES, end=False), response()],
         ["hel", "ConfigError hel 1 compatible", "hello"]),
    ],
)  # fmt: skip
def test_where_no_file_can_be_opened(when, warm, model, prompt, script, said):
    """Not even the engine's own: what is loaded late, or for an error alone. Afterwards all is as if nothing had been."""
    with RawServer(*script) as server:
        command = [sys.executable, "-c", STARVED, server.url, when, warm, model, prompt]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert [line[: len(begin)] for line, begin in zip(lines, said, strict=True)] == said, done.stdout + done.stderr


# ------------------------------------------------------------------ connections

FORGED = response(200, {"choices": [{"message": {"content": "FORGED"}, "finish_reason": "stop"}]})
LATE = {
    "an answer nobody asked for": FORGED,
    "a 408 for the silence": b"HTTP/1.1 408 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_bytes_that_come_late_never_answer_the_next_call(late, tmp_path):
    with RawServer([response(), 0.1, late], response()) as server:
        api = client(tmp_path, server.url)
        ask(api)
        time.sleep(0.3)
        assert ask(api).content == "hello"
        assert server.connections == 2


def test_no_variable_turns_certificates_off(tmp_path, monkeypatch):
    context, cert = own_authority(tmp_path)
    for name, value in {"PYTHONHTTPSVERIFY": "0", "REQUESTS_CA_BUNDLE": cert, "CURL_CA_BUNDLE": ""}.items():
        monkeypatch.setenv(name, value)
    with RawServer(tls=context) as server:
        with pytest.raises(prx.ProviderConnectionError, match="certificate") as caught:
            ask(client(tmp_path, server.url))
        assert (server.requests, caught.value.retryable, caught.value.attempts) == ([], False, 1)
