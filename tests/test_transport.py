"""The wire, on real sockets: limits, reuse, and nothing that a key or a prompt should not meet."""

from __future__ import annotations

import gc
import gzip
import json
import os
import socket
import threading
import time

import pytest
from helpers.byte_server import DONE, FIN, HANG, RST, RawServer, delta, own_authority, response, stream

import prx
from prx.transport.watchdog import Watchdog

pytestmark = pytest.mark.usefixtures(
    "client_class"
)  # every test here asks the same of both clients, but those that are about threads


def client(url, **settings):
    return prx.Client(
        config={"providers": {"compatible": {"api_url": url, "api_key": "sk-secret-key", **settings}}}, env={}
    )


def ask(url, *, api=None, **options):
    return (api or client(url)).chat("hi", model="compatible/m", **{"retries": 0, "fallbacks": (), **options})


def with_limits(tmp_path, url, limits):
    """A client whose provider file sets limits of its own."""
    (tmp_path / "limited.yaml").write_text(
        f"spec: 1\nid: limited\nextends: openai-chat\nbase_url: {url}\nretry: {{times: 0}}\ntransport: {limits}\n"
    )
    return prx.Client(config={}, providers=tmp_path, env={})


# ------------------------------------------------------------------ limits


def test_connect_limit(tmp_path):
    """A listening socket whose queue is full lets nobody connect."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        blockers = [socket.socket() for _ in range(4)]
        for blocker in blockers:
            blocker.setblocking(False)
            blocker.connect_ex(("127.0.0.1", port))
        time.sleep(0.1)
        started = time.monotonic()
        with pytest.raises(prx.ProviderTimeoutError):
            with_limits(tmp_path, f"http://127.0.0.1:{port}/v1", "{connect: 0.3, first_byte: 9}").chat(
                "hi", model="limited/m"
            )
        assert time.monotonic() - started < 5
        for blocker in blockers:
            blocker.close()


def test_first_byte_limit(tmp_path):
    with RawServer([HANG]) as server, pytest.raises(prx.ProviderTimeoutError, match=r"sent nothing for 0\.3 s"):
        with_limits(tmp_path, server.url, "{first_byte: 0.3, idle: 9}").chat("hi", model="limited/m")


def test_headers_that_drip(tmp_path):
    """No byte is late, and yet there is an end."""
    with RawServer([b"HTTP/1.1 200 OK\r\nx: ", *[b"a", 0.1] * 100]) as server:
        started = time.monotonic()
        with pytest.raises(prx.ProviderTimeoutError, match=r"did not end its headers in 0\.5 s"):
            with_limits(tmp_path, server.url, "{first_byte: 0.5, idle: 9}").chat("hi", model="limited/m")
        assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "begin",
    [
        b"\r\nno room today",
        b"transfer-encoding: chunked\r\n\r\nd\r\nno room today\r\n5;x=",
        b"transfer-encoding: chunked\r\n\r\nd\r\nno room today\r\n0\r\nx: ",
    ],
    ids=["body", "chunk size", "trailer"],
)
def test_an_error_that_drips(tmp_path, begin):
    with RawServer([b"HTTP/1.1 500 X\r\ncontent-type: text/plain\r\n" + begin, *[b" ", 0.1] * 100]) as server:
        started = time.monotonic()
        with pytest.raises(prx.ServerError, match="no room today"):
            with_limits(tmp_path, server.url, "{first_byte: 9, idle: 0.5}").chat("hi", model="limited/m")
        assert time.monotonic() - started < 3


def test_idle_limit(tmp_path):
    with RawServer(stream(delta("hel"), delta("lo"), HANG)) as server:
        api = with_limits(tmp_path, server.url, "{first_byte: 9, idle: 0.3}")
        with pytest.raises(prx.ProviderTimeoutError) as caught, api.stream("hi", model="limited/m") as pieces:
            list(pieces)
    assert caught.value.partial.content == "hello"
    assert caught.value.retryable


def test_total_limit(tmp_path):
    """A deadline holds where every byte comes in time."""
    with RawServer([b"HTTP/1.1 200 OK\r\nx: ", *[b"a", 0.1] * 50]) as server:
        started = time.monotonic()
        with pytest.raises(prx.ProviderTimeoutError, match="deadline"):
            with_limits(tmp_path, server.url, "{total: 0.5}").chat("hi", model="limited/m")
        assert time.monotonic() - started < 3


def test_limits_hold_in_a_body_that_ends_with_its_connection():
    head = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    with RawServer([head, *[delta("x"), 0.1] * 50], [head, delta("x"), HANG]) as server:
        started = time.monotonic()
        with pytest.raises(prx.ProviderTimeoutError, match="deadline") as caught:
            ask(server.url, deadline=0.5)
        assert caught.value.partial.content.startswith("xx")
        with pytest.raises(prx.ProviderTimeoutError, match=r"0\.2 s"):
            ask(server.url, timeout=0.2)
        assert time.monotonic() - started < 4


def test_a_timeout_and_a_deadline_of_the_call():
    with RawServer([HANG]) as server:
        with pytest.raises(prx.ProviderTimeoutError, match=r"0\.2 s"):
            ask(server.url, timeout=0.2)
        with pytest.raises(prx.ProviderTimeoutError, match="deadline"):
            ask(server.url, deadline=0.3)
        with pytest.raises(prx.ProviderTimeoutError, match=r"0\.2 s"):
            ask(server.url, api=client(server.url, timeout=0.2))


def test_a_slow_healthy_stream_is_not_cut():
    with (
        RawServer(
            stream(*[piece for i in range(8) for piece in (delta(str(i)), 0.15)], delta("", "stop"), DONE)
        ) as server,
        client(server.url).stream("hi", model="compatible/m", timeout=0.8) as pieces,
    ):
        assert "".join(piece.content or "" for piece in pieces) == "01234567"


def test_the_deadline_covers_waiting_between_attempts():
    busy = response(503, {"error": {"message": "busy"}}, "retry-after: 5")
    with RawServer(busy) as server:
        started = time.monotonic()
        with pytest.raises(prx.ServerError):
            ask(server.url, retries=3, deadline=1)
        assert time.monotonic() - started < 2
        assert len(server.requests) == 1


# ------------------------------------------------------------------ as it arrives


@pytest.mark.parametrize("framing", ["chunked", "until the end"])
def test_a_piece_is_handed_on_when_it_arrives(framing):
    first, second = delta("hel"), delta("lo", "stop") + DONE
    until_the_end = [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
        first,
        2,
        second,
        FIN,
    ]
    with RawServer(stream(first, 2, second) if framing == "chunked" else until_the_end) as server:
        with client(server.url).stream("hi", model="compatible/m") as pieces:
            started = time.monotonic()
            assert next(pieces).content == "hel"
            assert time.monotonic() - started < 1.5
            assert next(pieces).content == "lo"


def test_the_end_mark_ends_a_stream_that_stays_open():
    with RawServer(stream(delta("hello", "stop"), DONE, HANG, end=False)) as server:
        started = time.monotonic()
        with client(server.url).stream("hi", model="compatible/m") as pieces:
            list(pieces)
        assert pieces.reply.content == "hello"
        assert time.monotonic() - started < 2


def test_leaving_early_stops_the_provider():
    with RawServer(stream(delta("hel"), *[delta("."), 0.02] * 400)) as server:
        with client(server.url).stream("hi", model="compatible/m") as pieces:
            next(pieces)
        assert server.left.wait(3), "the provider was not told"
        assert pieces.partial.content.startswith("hel")


# ------------------------------------------------------------------ connections


def test_one_connection_serves_calls_and_streams_in_turn():
    with RawServer(response(), stream(delta("hello", "stop"), DONE), response()) as server, client(server.url) as api:
        ask("", api=api)
        with api.stream("hi", model="compatible/m") as pieces:
            list(pieces)
        ask("", api=api)
        assert server.connections == 1
        assert len(server.requests) == 3


def test_a_connection_that_was_closed_is_replaced():
    with RawServer([response(), FIN]) as server, client(server.url) as api:
        ask("", api=api)
        time.sleep(0.1)
        assert ask("", api=api).content == "hello"
        assert server.connections == 2


def test_bytes_left_over_never_answer_the_next_call():
    forged = response(200, {"choices": [{"message": {"content": "FORGED"}, "finish_reason": "stop"}]})
    with RawServer([response() + forged], response()) as server, client(server.url) as api:
        ask("", api=api)
        assert ask("", api=api).content == "hello"


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_interim_response_is_passed_over(status):
    """Its answer comes after it, and never answers the next call."""
    with RawServer([f"HTTP/1.1 {status} X\r\n\r\n".encode(), 0.2, response()], response(200, {})) as server:
        assert ask(server.url, api=client(server.url)).content == "hello"


def test_what_switched_protocols_is_not_used_again():
    with (
        RawServer([b"HTTP/1.1 101 X\r\n\r\n", 0.2, response(200, {})], response()) as server,
        client(server.url) as api,
    ):
        assert fails("", api=api) == "protocol"
        assert ask("", api=api).content == "hello"


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, chunked", "odd"])
def test_a_transfer_that_is_not_understood_is_refused_at_once(coding):
    with RawServer(response(200, None, f"transfer-encoding: {coding}")) as server:
        assert fails(server.url) == "connection"
    with RawServer(response(200, None, "transfer-encoding: identity")) as server:
        assert ask(server.url).content == "hello"


def test_what_goes_out():
    """HTTP/1.1, our own headers, no cookie of an earlier answer, the key where it belongs."""
    with RawServer(response(200, None, "set-cookie: sid=1; path=/")) as server, client(server.url) as api:
        ask("", api=api)
        ask("", api=api)
        for request in server.requests:
            assert request["line"] == "POST /v1/chat/completions HTTP/1.1"
            assert request["headers"].keys() == {
                "host",
                "user-agent",
                "accept",
                "accept-encoding",
                "content-type",
                "content-length",
                "authorization",
            }
            assert request["headers"]["authorization"] == "Bearer sk-secret-key"


def test_settings_of_one_call_do_not_change_the_next():
    with RawServer([response()], [0.4, response()]) as server, client(server.url) as api:
        ask("", api=api, timeout=0.2)
        assert ask("", api=api).content == "hello"


def test_no_netrc(tmp_path, monkeypatch):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login u password NETRC\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with RawServer() as server:
        ask(server.url)
        assert server.requests[0]["headers"]["authorization"] == "Bearer sk-secret-key"


@pytest.mark.parametrize("style", [{}, {"auth_style": "x-api-key"}, {"auth_style": "query", "auth_name": "key"}])
def test_no_redirect_is_followed(style):
    with RawServer(response(200, {})) as other, RawServer(response(307, b"", f"location: {other.url}")) as server:
        with pytest.raises(prx.ProtocolError) as caught:
            ask(server.url, api=client(server.url, **style))
        assert other.connections == 0
        assert caught.value.status == 307
        assert other.url in str(caught.value), "says where it was sent"


def test_proxies():
    """A proxy of the configuration or the environment is used; never for loopback unless it is configured."""
    with RawServer() as proxy, RawServer() as server:
        env = {"HTTP_PROXY": proxy.url[:-3], "http_proxy": proxy.url[:-3], "ALL_PROXY": proxy.url[:-3]}
        config = {"providers": {"compatible": {"api_url": server.url, "api_key": "k"}}}
        prx.Client(config=config, env=env).chat("hi", model="compatible/m")
        assert (len(server.requests), len(proxy.requests)) == (1, 0)
        away = {"providers": {"compatible": {"api_url": "http://example.invalid/v1", "api_key": "k"}}}
        prx.Client(config=away, env=env).chat("hi", model="compatible/m")
        assert proxy.requests[0]["line"] == "POST http://example.invalid/v1/chat/completions HTTP/1.1"
        config["providers"]["compatible"]["proxy"] = proxy.url[:-3]
        prx.Client(config=config, env={}).chat("hi", model="compatible/m")
        assert len(proxy.requests) == 2
        with pytest.raises(prx.ProviderConnectionError):
            prx.Client(config=away, env={**env, "NO_PROXY": "example.invalid"}).chat(
                "hi", model="compatible/m", retries=0
            )


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:1", "nobody.invalid:1"])
def test_a_proxy_that_cannot_be_reached_is_named(scheme, host):
    """The provider's own server may be well, so that nobody should look for the fault there."""
    with pytest.raises(prx.ProviderConnectionError) as caught:
        ask("", api=client(f"{scheme}://example.invalid/v1", proxy=f"http://me:secret-word@{host}"))
    assert f"no connection to the proxy http://{host}: " in str(caught.value)
    assert "HTTPS_PROXY" in caught.value.hint
    assert caught.value.retryable
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "script", "message", "hint"),
    [
        (
            None,
            [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", FIN],
            "does not answer in HTTP/1.1 but with: SSH-2.0-OpenSSH_9.2",
            "another service",
        ),
        (None, [b"HTTP/2.0 200 OK\r\n\r\n"], "does not answer in HTTP/1.1 but with: HTTP/2.0", "another service"),
        ("http://a..b/v1", [FIN], "http://a..b: this host is not a name that can be looked up", "api_url"),
        (f"http://{'a' * 70}.com/v1", [FIN], "this host is not a name that can be looked up", "api_url"),
    ],
)
def test_what_is_no_server_of_http_is_told_in_words(url, script, message, hint):
    with RawServer(script) as server, pytest.raises(prx.Error) as caught:
        ask(url or server.url)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_stream_without_a_reply_says_why():
    """One that has ended with an error cannot be read to its end any more."""
    with RawServer(response(401, {"error": {"message": "no"}})) as server:
        pieces = client(server.url).stream("hi", model="compatible/m", fallbacks=())
        with pytest.raises(prx.AuthError):
            next(pieces)
        with pytest.raises(prx.ConfigError, match="has not ended yet, or ended with an error, or was closed"):
            pieces.reply  # noqa: B018 - it raises


# ------------------------------------------------------------------ what comes back


def test_gzip():
    packed = gzip.compress(b'{"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}')
    with RawServer(response(200, packed, "content-encoding: gzip")) as server:
        assert ask(server.url).content == "hello"
    with RawServer(response(200, packed[:-4], "content-encoding: gzip")) as server, pytest.raises(prx.TruncatedError):
        ask(server.url)
    with RawServer(response(200, None, "content-encoding: gzip")) as server:
        assert ask(server.url).content == "hello", "a body that says gzip and is none"
    with (
        RawServer(response(200, b"\x1f\x8bnonsense", "content-encoding: gzip")) as server,
        pytest.raises(prx.ProtocolError),
    ):
        ask(server.url)
    with (
        RawServer(response(200, b"\x8b\x00", "content-encoding: br")) as server,
        pytest.raises(prx.ProtocolError, match="compressed as br"),
    ):
        ask(server.url)


def test_a_small_body_that_unpacks_into_a_large_one():
    packed = gzip.compress(b'{"a": "' + b" " * (200 << 20) + b'"}', 1)
    with RawServer(response(200, packed, "content-encoding: gzip")) as server, pytest.raises(prx.OverflowedError):
        ask(server.url)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([RST], "connection"),
        ([FIN], "connection"),
        ([response()[:-5], FIN], "truncated"),
        ([response()[:-5], 0.05, RST], "truncated"),
        ([*stream(delta("hel"), end=False), 0.05, RST], "truncated"),
        ([*stream(delta("hel"), end=False), b"zz\r\n"], "truncated"),
        ([b"\x00\x01 not HTTP\r\n\r\n", FIN], "connection"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nhello", FIN], "connection"),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n", FIN], "connection"),
    ],
)
def test_a_broken_wire_is_one_kind_of_error(script, kind):
    with RawServer(script) as server, pytest.raises(prx.Error) as caught:
        ask(server.url)
    assert caught.value.kind == kind
    assert caught.value.retryable
    assert caught.value.provider == "compatible"


@pytest.mark.parametrize("client_class", ["Client"], indirect=True)
def test_a_failure_leaves_nothing_in_circles():
    """Frames and sockets go with the error, not when the garbage collector happens to come by."""
    no_json = [*stream(delta("hel"), b"data: {no json\n\n")]
    scripts = [RST], [response()[:-5], 0.05, RST], [response()[:-5], HANG], no_json
    with RawServer(*scripts * 3) as server, client(server.url) as api:
        for round_ in range(3):
            gc.collect()
            gc.disable()
            try:
                kinds = [fails(server.url, api=api, timeout=0.2) for _ in scripts]
                left = gc.collect()
            finally:
                gc.enable()
            assert (kinds, round_ and left) == (
                ["connection", "truncated", "timeout", "protocol"],
                0,
            )  # the first makes what stays


def fails(url, **options):
    try:
        ask(url, **options)
    except prx.Error as error:
        return error.kind
    return None


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(prx.ProviderConnectionError, match=f"no server listens at http://127.0.0.1:{port}") as caught:
        ask(f"http://127.0.0.1:{port}/v1")
    assert "curl" in caught.value.hint


def test_a_name_that_no_one_has():
    with pytest.raises(prx.ProviderConnectionError, match="cannot be resolved"):
        ask("http://no-such-host.invalid/v1")


def test_tls(tmp_path):
    """Our own authority is trusted where ca_file names it; nothing else is, and the error says what to set."""
    context, cert = own_authority(tmp_path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with RawServer(tls=context) as server:
        with pytest.raises(prx.ProviderConnectionError, match="certificate") as caught:
            ask(server.url)
        assert not caught.value.retryable
        assert "ca_file" in caught.value.hint
        assert server.requests == []
        assert ask(server.url, api=client(server.url, ca_file=cert)).content == "hello"
    with RawServer([b"HTTP/1.1 400 X\r\n\r\n", FIN]) as plain, pytest.raises(prx.ProviderConnectionError):
        ask(plain.url.replace("http:", "https:"))


def test_only_http_1_1_is_offered(tmp_path):
    """ALPN as a server sees it: a server that would rather speak HTTP/2 is offered HTTP/1.1 alone."""
    import ssl

    offered = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        offered.append(connection.recv(65536))
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(prx.ProviderConnectionError):
        ask(f"https://127.0.0.1:{listener.getsockname()[1]}/v1")
    thread.join(5)
    assert b"\x08http/1.1" in offered[0]
    assert b"\x02h2" not in offered[0]
    assert ssl.HAS_ALPN
    listener.close()


def packed(*members, more=b""):
    body = b"".join(gzip.compress(member) for member in members) + more
    return [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
        % len(body)
        + body
    ]


def test_a_packed_body_may_be_several_and_nothing_after_it_is_read():
    whole = json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}).encode()
    with RawServer(packed(whole[:20], whole[20:]), packed(whole, more=b"x" * 24_000_000)) as server:
        assert ask(server.url).content == "hello"
        assert ask(server.url).content == "hello"


def test_a_large_body_may_take_its_time():
    """A timeout is for a silence: a server that keeps reading, slowly, is not silent."""

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            seen = 0
            while seen < 24_000_000:
                before, seen = seen, seen + len(connection.recv(1_000_000))
                time.sleep(0.12 if seen // 1_000_000 > before // 1_000_000 else 0)
            connection.sendall(response(200, {"choices": [{"message": {"content": "hello"}}]}))

    with socket.socket() as listener:
        # What the system holds for the server, who reads it after the last byte went out, is the silence at the end.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        api = client(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        started = time.monotonic()
        reply = api.chat("x" * 24_000_000, model="compatible/m", retries=0, timeout=2.0)
    assert reply.content == "hello"
    assert time.monotonic() - started > 2.0, "the server was too quick to prove anything"


@pytest.mark.parametrize("start", [b"data: ", b"event: x\ndata: ", b": hi\n\ndata: ", b"\xef\xbb\xbfdata: "])
def test_an_unasked_stream_is_known_however_it_is_cut(start):
    body = (
        start + json.dumps({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}).encode() + b"\n\n"
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    for cut in range(1, 9):
        with RawServer([head, body[:cut], 0.02, body[cut:]]) as server:
            assert ask(server.url).content == "hello"


def test_a_list_of_models_has_its_time_too():
    with RawServer([b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", *[b" ", 0.1] * 100]) as server:
        started = time.monotonic()
        with pytest.raises(prx.ProviderTimeoutError, match="deadline"):
            client(server.url, deadline=0.5).models("compatible")
        assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout", 0), ("timeout", "5"), ("deadline", float("inf")), ("retries", -1), ("fallbacks", "x")],
)
def test_limits_that_are_none(name, value):
    with pytest.raises(prx.ConfigError, match=name):
        ask("http://127.0.0.1:9/v1", **{name: value})


def whole_stream():
    body = delta("hel") + delta("lo", "stop") + DONE
    return response(200, body).replace(b"application/json", b"text/event-stream")


@pytest.mark.parametrize("client_class", ["Client"], indirect=True)
@pytest.mark.parametrize("end", ["left", "read on", "deadline"])
def test_a_connection_given_back_is_nobody_elses(end):
    """The last byte has been read, the stream has not been: its connection may be another call's by now."""
    with RawServer([whole_stream()], [0.2, response()[:-9], 0.4, response()[-9:]]) as server, client(server.url) as api:
        stream = api.stream("hi", "compatible/m", deadline=0.5 if end == "deadline" else None)
        next(stream)
        said = []
        other = threading.Thread(
            target=lambda: said.append(api.chat("hi", "compatible/m", retries=0, timeout=5).content)
        )
        other.start()
        time.sleep(0.4)
        if end == "left":
            stream.close()
        if end == "read on":
            assert [d.content for d in stream] == ["lo"]
        other.join()
        stream.close()
        assert said == ["hello"]


@pytest.mark.parametrize("client_class", ["Client"], indirect=True)
def test_a_connection_is_given_back_once():
    """A second time, it would be lent to two calls at once."""
    with RawServer([response()]) as server, client(server.url) as api:
        stream = api.stream("hi", "compatible/m")
        list(stream)
        stream._response.close(complete=True)
        (http,) = api._https.values()
        (route,) = http._routes.values()
        assert len(route.kept) == 1


def timed(call):
    started = time.monotonic()
    with pytest.raises(prx.ProviderTimeoutError):
        call()
    return time.monotonic() - started


def test_the_deadline_holds_before_there_is_a_socket(monkeypatch):
    """It comes while a name is looked up: the connection that stands afterwards is not waited on."""
    found = socket.getaddrinfo

    def slow(*arguments, **named):
        time.sleep(0.5)
        return found(*arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with RawServer([HANG]) as server, client(server.url) as api:
        assert timed(lambda: api.chat("hi", "compatible/m", deadline=0.2, timeout=8, retries=0)) < 4


def test_the_end_of_a_stream_is_not_waited_for_long():
    """A trailer that drips behind the end mark holds nobody up."""
    head, last = stream(delta("hello", "stop") + DONE, end=False)
    drip = [piece for byte in b"0\r\nT: " + b"x" * 60 for piece in (0.08, bytes([byte]))]
    with RawServer([head + last, *drip]) as server, client(server.url) as api:
        started = time.monotonic()
        assert api.chat("hi", "compatible/m").content == "hello"
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("streamed", [True, False])
def test_bytes_behind_the_last_chunk_end_the_connection(streamed):
    first = b"".join(stream(delta("hello", "stop") + DONE)) + b"HTTP/1.1 200 OK\r\nX-Half: "
    with RawServer([first], [response()]) as server, client(server.url) as api:
        for _ in range(2):
            if streamed:
                list(api.stream("hi", "compatible/m"))
            else:
                api.chat("hi", "compatible/m")
        assert server.connections == 2


@pytest.mark.parametrize("client_class", ["Client"], indirect=True)
def test_a_stream_that_another_thread_reads_can_be_closed():
    with RawServer(stream(delta("hel"), HANG)) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m", timeout=20)
        assert next(pieces).content == "hel"
        failed = []

        def read():
            try:
                list(pieces)
            except prx.Error as error:
                failed.append(error.kind)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        time.sleep(0.2)
        pieces.close()
        reader.join(5)
        assert not reader.is_alive()
        assert failed == ["truncated"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_deadlines_hold_in_a_child():
    """A fork takes no thread along."""
    dog = Watchdog()
    dog.cancel(dog.guard(30))
    child = os.fork()
    if child == 0:
        guard = dog.guard(0.1)
        time.sleep(1)
        os._exit(0 if guard.fired else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 2004 X", b"HTTP/1.1 200OK", b"HTTP/2 200", b"200 OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1"]
)
def test_a_status_line_is_what_it_should_be(line):
    with RawServer([line + b"\r\ncontent-length: 2\r\n\r\n{}", FIN]) as server, pytest.raises(prx.Error) as caught:
        ask(server.url)
    assert caught.value.kind == "connection"


def test_empty_members_are_no_answer():
    """A packed body may be several. Empty ones would go on for ever, and no limit on what is unpacked would ever meet them."""
    empty = gzip.compress(b"")
    with RawServer([b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\n\r\n", *[empty * 500] * 2000]) as server:
        started = time.monotonic()
        with pytest.raises(prx.ProtocolError, match="more than 100000 pieces"):
            ask(server.url)
        assert time.monotonic() - started < 10


def test_packed_bytes_count_where_they_unpack_to_nothing(tmp_path):
    """What a gzip header carries along (a name, a comment) is as long as a server likes, and unpacks to nothing."""
    (tmp_path / "small.yaml").write_text(
        "spec: 1\nid: small\nname: Small\nextends: openai-chat\ntransport: {max_body: 100000}\n"
    )
    endless = [b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\xff", *[b"n" * 60000] * 500]
    with RawServer(endless) as server:
        config = {"providers": {"small": {"api_url": server.url, "api_key": "k"}}}
        with prx.Client(config=config, providers=tmp_path, env={}) as api, pytest.raises(prx.OverflowedError):
            api.chat("hi", "small/m", retries=0)


EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (EVENTS + b"\r\n5\n: hi\n\r\n0\r\n\r\n", "truncated"),
        (EVENTS + b"\r\n5\r\n: hi\n\n0\r\n\r\n", "truncated"),
        (EVENTS + b"\r\n5\r\n: hi\n\r\n0\n\n", "truncated"),
        (EVENTS + b"x: a\rb\r\n\r\n0\r\n\r\n", "connection"),
        (EVENTS + b"x: a\r\r\n\r\n0\r\n\r\n", "connection"),
        (EVENTS + b"x: a\0b\r\n\r\n0\r\n\r\n", "connection"),
    ],
    ids=["LF behind a size", "LF behind a chunk", "LF at the end", "CR in a value", "CR at its end", "NUL in a value"],
)
def test_what_two_readers_could_understand_differently(answer, kind):
    with RawServer([answer, FIN]) as server:
        assert fails(server.url) == kind


def test_a_packed_body_may_have_a_member_for_each_event():
    pieces = [delta("x") for _ in range(1500)] + [delta("", "stop") + DONE]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n"
    with RawServer([head, b"".join(gzip.compress(piece) for piece in pieces), FIN]) as server:
        assert ask(server.url).content == "x" * 1500
