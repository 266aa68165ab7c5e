"""prx serve with Redis, a real one: what several processes share, and that no call suffers where it is away."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.byte_server import HANG, RawServer, delta, response, stream
from helpers.redis_server import RedisServer
from helpers.served import begun, command, provider, services, until

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
PASSWORD = "redis-password-8c1d"


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def own(tmp_path):
    with services(tmp_path, never=("Traceback", PASSWORD)) as start:
        yield start


def limited(url, rate=6, **serve):
    lines = [f"{name} = {value}" for name, value in serve.items()]
    return "\n".join(
        ["[serve]", f'redis = "{url}"', *lines, "[serve.keys_by_name.team]", 'key = "${CALLER_KEY}"', f"requests_per_minute = {rate}", ""]
    )  # fmt: skip


def statuses(services, count):
    return [services[place % len(services)].chat("up/words").status for place in range(count)]


def up(service):
    return re.search(r"(?m)^prx_redis_up (\S+)", service.get("/metrics").text)[1]


def test_a_rate_is_one_for_all_processes(own, upstream, redis):
    text = limited(redis.url) + provider("up", upstream.url)
    services = own(text), own(text, "--workers", "2")
    assert statuses(services, 8) == [200] * 6 + [429] * 2
    refused = services[1].chat("up/words")
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert {up(service) for service in services} == {"1.0"}


def test_a_shared_rate_refills(own, upstream, redis):
    running = own(limited(redis.url, rate=60) + provider("up", upstream.url))
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: running.chat("up/words").status, range(70)))
    assert got.count(429) >= 1
    assert got.count(200) >= 60
    time.sleep(1.2)
    assert running.chat("up/words").status == 200


def test_most_calls_are_those_of_all_processes(own, redis):
    with RawServer([*stream(delta("hel"), HANG)]) as server:
        text = f'[serve]\nredis = "{redis.url}"\nmax_calls = 2\n' + provider("slow", server.url)
        first, second = own(text), own(text)
        with begun(first, "slow/words"), begun(second, "slow/words"):
            refused = second.chat("slow/words")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert until(lambda: can_begin(first))


def can_begin(service):
    body = {"model": "slow/words", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    connection = service.open("POST", "/v1/chat/completions", body)
    status = connection.getresponse().status
    connection.close()
    return status == 200


def test_a_target_rests_for_all_processes(own, upstream, redis):
    with RawServer(response(500, {"error": {"message": "broken"}})) as broken:
        text = f'[serve]\nredis = "{redis.url}"\n' + provider("bad", broken.url) + provider("up", upstream.url)
        text += '[[model_routes]]\npattern = "both"\ntargets = ["bad/words", "up/words"]\ncooldown = 60\n'
        first, second = own(text), own(text)
        for _ in range(3):
            assert first.chat("both").status == 200
        asked = len(broken.requests)
        assert until(
            lambda: "bad/words" in [row["target"] for row in json.loads(second.get("/status").text)["resting"]]
        )
        assert second.chat("both").headers["x-prx-attempts"] is None
        assert len(broken.requests) == asked


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_redis_goes_away_and_comes_back(own, upstream, redis, how):
    text = limited(redis.url, rate=6) + provider("up", upstream.url)
    running = own(text)
    assert statuses([running], 2) == [200, 200]
    if how == "killed":
        redis.process.kill()
        redis.process.wait(10)
    else:
        redis.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert running.chat("up/words").status == 200
    assert time.monotonic() - began < 1.5
    assert until(lambda: up(running) == "0.0")
    began = time.monotonic()
    assert statuses([running], 5) == [200] * 3 + [429] * 2  # of its own six, three were used before
    assert time.monotonic() - began < 2
    if how == "killed":
        redis.start()
    else:
        redis.process.send_signal(signal.SIGCONT)
    assert until(lambda: up(running) == "1.0")
    said = running.log.read_text()
    assert len(re.findall("each process has its own limits until it answers", said)) == 1
    assert len(re.findall("answers, and what is shared holds again", said)) == 1
    assert f"Redis at 127.0.0.1:{redis.port} " in said


def test_it_starts_and_serves_without_redis(own, upstream):
    running = own(limited("redis://127.0.0.1:1/0", rate=2, max_calls=1) + provider("up", upstream.url))
    assert statuses([running], 3) == [200, 200, 429]
    assert running.log.read_text().count("Redis at 127.0.0.1:1 cannot be reached") == 1


def test_calls_of_a_process_that_died_count_no_more(own, redis):
    """Its place is held for half a minute; here it is looked at, and not waited for."""
    with RawServer([*stream(delta("hel"), HANG)]) as server:
        text = f'[serve]\nredis = "{redis.url}"\nmax_calls = 1\n' + provider("slow", server.url)
        first, second = own(text), own(text)
        with begun(first, "slow/words"):
            time.sleep(1.5)  # renewed meanwhile
            assert second.chat("slow/words").status == 503
            first.process.kill()
        scores = asked_of(redis, "ZRANGE prx:calls 0 -1 WITHSCORES")
        (moment,) = [float(line) for line in scores if re.fullmatch(r"\d+\.\d+", line)]
        assert 20 < moment - time.time() <= 31
        asked_of(redis, f"ZADD prx:calls XX {time.time() - 1} {next(line for line in scores if len(line) == 16)}")
        assert can_begin(second)


def asked_of(redis, line):
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as raw:
        raw.sendall(line.encode() + b"\r\n")
        time.sleep(0.2)
        return raw.recv(65536).decode().split("\r\n")


def test_the_url_may_change_while_it_runs(own, upstream, redis):
    text = provider("up", upstream.url)
    running = own(limited("redis://127.0.0.1:1/0") + text)
    assert up(running) == "0.0"
    running.file.write_text(limited(redis.url) + text)
    assert until(lambda: up(running) == "1.0")
    running.file.write_text(limited("redis://${MISSING}@localhost") + text)
    assert until(lambda: "the environment variable MISSING is not set" in running.get("/ready").text)
    assert running.chat("up/words").status == 200


# ------------------------------------------------------------------ passwords, and --check


@pytest.fixture
def locked(tmp_path):
    server = RedisServer(tmp_path, "--requirepass", PASSWORD)
    yield server
    server.stop()


def test_a_password_is_never_shown(own, upstream, locked, tmp_path):
    url = f"redis://:${{REDIS_PASSWORD}}@127.0.0.1:{locked.port}/0"
    running = own(limited(url) + provider("up", upstream.url), REDIS_PASSWORD=PASSWORD)
    assert statuses([running], 7) == [200] * 6 + [429]
    assert up(running) == "1.0"
    texts = [running.get(path).text for path in ("/ready", "/metrics", "/")]
    (tmp_path / "config.toml").write_text(limited(url))
    for password in (PASSWORD, f"{PASSWORD}#/@x", "wrong-" + PASSWORD):
        for more in ((), ("--check",), ("--check", "--log-level", "debug")):
            if more or password != PASSWORD:
                done = command(
                    tmp_path, "--config", "config.toml", "--check", *more, REDIS_PASSWORD=password, CALLER_KEY="k"
                )
                texts.append(done.stdout + done.stderr)
                assert done.returncode == (0 if password == PASSWORD else 1), done
    assert not [text for text in texts if PASSWORD in text]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:1/0", "serve.redis: Redis at 127.0.0.1:1 cannot be reached"),
        ("redis://:nonsense@127.0.0.1:{locked}/0", "refuses the user or the password"),
        ("redis://127.0.0.1:{locked}/0", "refuses the user or the password"),
        ("redis://127.0.0.1:{silent}/0", "does not answer within 0.25 seconds"),
        ("http://127.0.0.1:1", "serve.redis: is no URL of a Redis"),
        ("redis://:a/b#c@127.0.0.1:1", "serve.redis: is no URL of a Redis"),
        ("redis://127.0.0.1:1?colour=red", "serve.redis: is no URL of a Redis"),
        ("redis://:${{MISSING}}@127.0.0.1:1", "serve.redis: the environment variable MISSING is not set"),
    ],
)
def test_check_says_what_is_wrong(tmp_path, locked, url, words):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = url.format(locked=locked.port, silent=silent.getsockname()[1])
        (tmp_path / "config.toml").write_text(f'[serve]\nredis = "{url}"\n')
        done = command(tmp_path, "--config", "config.toml", "--check")
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (1, True, False), done
    assert done.stderr.count("prx: ") == 1


def test_check_says_all_that_is_wrong(tmp_path):
    text = '[serve]\nhost = "0.0.0.0"\nredis = "redis://127.0.0.1:1/0"\ntls_cert = "missing.pem"\n'
    (tmp_path / "config.toml").write_text(text)
    done = command(tmp_path, "--config", "config.toml", "--check")
    assert (done.returncode, done.stdout, done.stderr.count("prx: ")) == (1, "", 3), done


def test_check_says_where_limits_are_shared(tmp_path, redis):
    (tmp_path / "config.toml").write_text(f'[serve]\nredis = "{redis.url}"\n')
    done = command(tmp_path, "--config", "config.toml", "--check")
    assert (done.returncode, f"shares limits at 127.0.0.1:{redis.port}" in done.stdout) == (0, True), done


def test_without_the_extra_a_sentence_says_how_to_get_it(tmp_path):
    (tmp_path / "config.toml").write_text('[serve]\nredis = "redis://localhost"\n')
    (tmp_path / "redis.py").write_text("raise ImportError")
    done = command(tmp_path, "--config", "config.toml", "--check", PYTHONPATH=str(tmp_path))
    assert (done.returncode, "pip install 'prx-engine[redis]'" in done.stderr) == (1, True), done
