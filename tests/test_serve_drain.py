"""How `prx serve` ends and reloads under an orchestrator: no call is lost, and a mounted ConfigMap is taken in."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from helpers.byte_server import DONE, RawServer, delta, stream
from helpers.served import Service, begun, provider, until

from prx.serve import App
from prx.serve.drain import IDLE

SLOWLY = [piece for number in range(20) for piece in (delta(str(number)), 0.1)]
BODY = json.dumps({"model": "up/words", "messages": [{"role": "user", "content": "hi"}]})


def asked(connection, method="POST", path="/v1/chat/completions", body=BODY):
    connection.request(method, path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.headers["connection"], answer.read()


def terminated(running):
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.4)


def refused(running):
    """Whether a new connection is refused, or closed unanswered."""
    try:
        with socket.create_connection(("127.0.0.1", running.port), timeout=0.8) as late:
            late.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return not late.recv(100)
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("path", ["/ready", "/v1/chat/completions"])
def test_a_kept_connection_is_answered_once_more(own, upstream, path):
    running = own(provider("up", upstream.url))
    kept = running.connection()
    assert asked(kept)[:2] == (200, None)
    terminated(running)
    status, ends, _ = asked(kept) if path != "/ready" else asked(kept, "GET", path, None)
    assert (status, ends) == (503 if path == "/ready" else 200, "close")
    assert running.process.wait(10) == 0


def test_who_has_connected_and_sent_nothing_yet_is_answered(own, upstream):
    running = own(provider("up", upstream.url))
    early = running.connection()
    early.connect()
    terminated(running)
    assert asked(early)[0] == 200
    assert running.process.wait(10) == 0


def test_connections_that_wait_at_the_port_are_taken(own, upstream):
    """The process stands still while they come, so that it finds the signal and the connections at once."""
    running = own(provider("up", upstream.url))
    running.process.send_signal(signal.SIGSTOP)
    waiting = [running.connection() for _ in range(5)]
    for each in waiting:
        each.request("POST", "/v1/chat/completions", BODY, {"content-type": "application/json"})
    running.process.send_signal(signal.SIGTERM)
    running.process.send_signal(signal.SIGCONT)
    assert [each.getresponse().status for each in waiting] == [200] * 5
    assert running.process.wait(10) == 0


def test_an_idle_connection_does_not_hold_up_the_end(own, upstream):
    running = own("[serve]\ngrace = 60\n" + provider("up", upstream.url))
    kept = running.connection()
    asked(kept)
    began = time.monotonic()
    terminated(running)
    assert running.process.wait(10) == 0
    assert IDLE - 0.1 < time.monotonic() - began < IDLE + 3
    with pytest.raises((http.client.HTTPException, OSError)):
        asked(kept)
    kept.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_new_connection_is_refused_while_calls_end(own, workers):
    with RawServer(stream(*SLOWLY, delta("", "stop"), DONE)) as server:
        running = own(provider("slow", server.url), "--workers", workers)
        with begun(running, "slow/words", 2) as (answer, text):
            terminated(running)
            assert refused(running)
            assert (text + answer.read()).endswith(b"data: [DONE]\n\n")
        assert running.process.wait(10) == 0


def test_ctrl_c_at_several_processes_lets_calls_end(own):
    """A terminal sends its signal to each of them, and the first one hands it on."""
    with RawServer(stream(*SLOWLY, delta("", "stop"), DONE)) as server:
        running = own(provider("slow", server.url), "--workers", "2")
        with begun(running, "slow/words", 2) as (answer, text):
            for number in (running.process.pid, *children(running.process.pid)):
                os.kill(number, signal.SIGINT)
            assert (text + answer.read()).endswith(b"data: [DONE]\n\n")
        assert running.process.wait(10) == 0


def children(number):
    return [int(each) for each in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


# ------------------------------------------------------------------ a ConfigMap as a folder


class Mounted:
    """A folder as Kubernetes mounts a ConfigMap: each file is a link by way of `..data`, which is a link to the files of one
    version. An update writes a new folder and renames a new `..data` over the old one.
    """

    def __init__(self, folder, **files):
        self.folder, self.version = folder, 0
        folder.mkdir()
        self.update(**files)
        for name in files:
            (folder / name.replace("__", ".")).symlink_to(f"..data/{name.replace('__', '.')}")

    def update(self, **files):
        old, self.version = self.folder / f"..version-{self.version}", self.version + 1
        new = self.folder / f"..version-{self.version}"
        new.mkdir()
        for name, text in files.items():
            (new / name.replace("__", ".")).write_text(text)
        (self.folder / "..data_tmp").symlink_to(new.name)
        (self.folder / "..data_tmp").replace(self.folder / "..data")
        if old.exists():
            shutil.rmtree(old)


def provider_file(url):
    return f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {url}\nauth: {{style: none}}\n"


def test_an_updated_config_map_is_taken_in(tmp_path, upstream):
    text = provider("up", upstream.url)
    settings = Mounted(tmp_path / "etc", config__toml=text)
    files = Mounted(tmp_path / "providers", mine__yaml=provider_file("http://127.0.0.1:1/v1"))
    running = Service(tmp_path, "", "--config", settings.folder / "config.toml", "--providers", files.folder)
    try:
        assert running.chat("new/words").status == 404
        assert running.chat("mine/words").status == 502
        settings.update(config__toml=text + provider("new", upstream.url))
        files.update(mine__yaml=provider_file(upstream.url))
        assert until(lambda: running.chat("new/words").status == 200)
        assert until(lambda: running.chat("mine/words").status == 200)
        files.update(mine__yaml="spec: 1\nid: [")
        assert until(lambda: "mine.yaml" in running.get("/ready").text)
        assert running.chat("mine/words").status == 200
    finally:
        running.stop()


def test_what_is_made_of_all_packaged_files_is_made_before_the_first_call(tmp_path):
    app = App(config={}, env={"HOME": str(tmp_path)})
    assert "claims" in vars(app.client.session.current().catalog)
