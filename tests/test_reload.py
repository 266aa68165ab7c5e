"""A client that goes on while its files change: what is good is taken, what is broken stays as it was, no call sees two versions."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

import prx
from prx import reload
from prx.resources import folder as packaged
from prx.spec import files

FIRST, SECOND, THIRD = (f"http://localhost:{port}/v1" for port in (1, 2, 3))


def write(folder, name, url, more=""):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(f"spec: 1\nid: {name}\nname: {name}\nextends: openai-chat\nbase_url: {url}\n{more}")
    long_ago = time.time_ns() - 10**9  # a file that has just been written may not be whole yet
    os.utime(path, ns=(long_ago, long_ago))
    return path


def asked(client, name):
    """Where a call to a provider would go."""
    return client.plan("hello", f"{name}/m")[0].target.base_url


@pytest.fixture
def client(tmp_path):
    write(tmp_path / "d", "one", FIRST)
    write(tmp_path / "d", "two", FIRST)
    (tmp_path / "config.toml").write_text('[default]\nprovider = "one"\nmodel = "m"\n')
    with prx.Client(tmp_path / "config.toml", tmp_path / "d", env={}) as client:
        assert asked(client, "one") == FIRST
        yield client


def test_on_request(client, tmp_path):
    one = write(tmp_path / "d", "one", SECOND)
    three = write(tmp_path / "d", "three", THIRD)
    assert asked(client, "one") == FIRST, "nobody asked for a reload"
    found = client.reload()
    assert (found.problems, str(one) in found.changed, str(three) in found.added) == ((), True, True)
    assert (asked(client, "one"), asked(client, "three")) == (SECOND, THIRD)


def test_nothing_changed(client):
    account = client.accounts.get("one")
    client.reload()
    assert client.reload() == prx.Reload()
    assert client.accounts.get("one") is account, "with what it remembers"


@pytest.mark.parametrize("what", ["nonsense: 1\n", "auth: {env: [}\n", "overrides: [{model: '*', extends: gone}]\n", "\x00", "base_url: x\n"])  # fmt: skip
def test_the_last_good_version_stays(client, tmp_path, what):
    path = write(tmp_path / "d", "one", SECOND, what)
    found = client.reload()
    (problem,) = found.problems
    assert problem.startswith(str(path))
    assert found.changed == ()
    assert asked(client, "one") == FIRST
    assert client.reload().problems == (problem,), "as long as it is broken"
    write(tmp_path / "d", "one", THIRD)
    assert client.reload().problems == ()
    assert asked(client, "one") == THIRD


def test_the_last_good_version_of_a_file_that_was_never_used_stays(tmp_path):
    write(tmp_path, "one", FIRST)
    client = prx.Client({}, tmp_path, env={}, watch=True)
    write(tmp_path, "one", SECOND, "nonsense: 1\n")
    client.reload()
    assert asked(client, "one") == FIRST


def test_a_removed_file_is_gone(client, tmp_path):
    client.reload()
    (tmp_path / "d" / "two.yaml").unlink()
    assert client.reload().removed == (str(tmp_path / "d" / "two.yaml"),)
    assert not client.accounts.knows("two")


def test_what_a_file_extends_is_part_of_it(client, tmp_path):
    dialect = (packaged("providers.d") / "_dialects" / "openai-chat.yaml").read_text()
    own = tmp_path / "d" / "_dialects" / "openai-chat.yaml"
    own.parent.mkdir()
    own.write_text(dialect.replace("chat: /chat/completions", "chat: /talk"))
    running = client.plan("hello", "one/m")[0].definition
    assert client.reload().problems == ()
    assert client.plan("hello", "one/m")[0].definition.spec().endpoints["chat"] == "/talk"
    assert running.spec("other").endpoints["chat"] == "/chat/completions", "a call that runs has its own version"
    own.write_text(dialect.replace("endpoints:", "endpoint:"))
    (problem,) = client.reload().problems
    assert "endpoint" in problem
    assert client.plan("hello", "one/m")[0].definition.spec().endpoints["chat"] == "/talk"
    own.unlink()
    assert client.reload().removed == (str(own),)
    assert client.plan("hello", "one/m")[0].definition.spec().endpoints["chat"] == "/chat/completions"


def test_a_fallback_is_of_the_same_version(tmp_path):
    """Whatever a call may come to need is in memory before it begins."""
    dialects = packaged("providers.d") / "_dialects"
    own = tmp_path / "_dialects" / "openai-responses.yaml"
    own.parent.mkdir()
    own.write_text((dialects / "openai-responses.yaml").read_text())
    write(tmp_path, "one", FIRST)
    client = prx.Client({}, tmp_path, env={})
    definition = client.plan("hello", "one/m")[0].definition
    own.write_text(own.read_text().replace("/responses", "/other"))
    assert definition.spec("m", ("responses",)).endpoints["chat"] == "/responses"
    client.reload()
    assert client.plan("hello", "one/m")[0].definition.spec("m", ("responses",)).endpoints["chat"] == "/other"


def test_the_configuration_too(client, tmp_path):
    (tmp_path / "config.toml").write_text('[default]\nprovider = "two"\nmodel = "m"\n')
    assert client.reload().problems == ()
    assert client.plan("hello")[0].id == "two"
    (tmp_path / "config.toml").write_text("[default\n")
    (problem,) = client.reload().problems
    assert "config.toml:1" in problem
    assert client.plan("hello")[0].id == "two"


def test_a_new_key_is_taken(tmp_path):
    write(tmp_path, "one", FIRST, "auth: {env: ONE_KEY}\n")
    env = {"ONE_KEY": "sk-first"}
    client = prx.Client({}, tmp_path, env=env)
    before = client.accounts.get("one")
    env["ONE_KEY"] = "sk-second"
    client.reload()
    assert client.accounts.get("one").target.auth != before.target.auth


def test_watching(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(reload, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(reload, "_PAUSE_PER_LOOK", 0)
    write(tmp_path, "one", FIRST)
    client = prx.Client({}, tmp_path, env={}, watch=True)
    assert asked(client, "one") == FIRST
    write(tmp_path, "one", SECOND)
    assert asked(client, "one") == SECOND
    write(tmp_path, "new", THIRD)
    assert asked(client, "new") == THIRD
    with caplog.at_level(logging.WARNING, "prx"):
        write(tmp_path, "one", THIRD, "nonsense: 1\n")
        assert [asked(client, "one") for _ in range(3)] == [SECOND] * 3
    (record,) = caplog.records
    assert "one.yaml:6:1" in record.getMessage()
    (tmp_path / "new.yaml").unlink()
    assert asked(client, "new") == THIRD, "it may be back in a moment, as a file that an editor replaces is"
    with pytest.raises(prx.ConfigError, match="unknown provider"):
        asked(client, "new")


def test_a_file_that_is_being_written_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(reload, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(reload, "_PAUSE_PER_LOOK", 0)
    monkeypatch.setattr(reload, "_SETTLED_SECONDS", 3600.0)
    monkeypatch.setattr(reload, "_SETTLE_TIMEOUT", 3600.0)
    path = write(tmp_path, "one", FIRST)
    client = prx.Client({}, tmp_path, env={}, watch=True)
    write(tmp_path, "one", SECOND)
    assert asked(client, "one") == FIRST
    os.utime(path, (1, 1))
    assert asked(client, "one") == SECOND


def test_the_slower_a_look_the_rarer_it_is(tmp_path, monkeypatch):
    """A service looks from its event loop, where every stream waits for it."""
    looks = []
    monkeypatch.setattr(reload, "survey", lambda _: looks.append(time.sleep(0.05)) or {})
    write(tmp_path, "one", FIRST)
    client = prx.Client({}, tmp_path, env={}, watch=True)
    monkeypatch.setattr(reload, "_LOOK_SECONDS", 0.0)
    time.sleep(0.25)  # until the first look is due
    del looks[:]
    for _ in range(20):
        asked(client, "one")
    assert len(looks) == 1


def test_one_slow_look_puts_off_the_next_one_for_a_while_only(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(reload, "_LONGEST_PAUSE", 0.3)
    write(tmp_path, "one", FIRST)
    client = prx.Client({}, tmp_path, env={}, watch=True)
    monkeypatch.setattr(reload, "survey", lambda _: looks.append(time.sleep(0.1)) or {})
    until = time.monotonic() + 8
    while len(looks) < 3 and time.monotonic() < until:
        asked(client, "one")
        time.sleep(0.01)
    assert len(looks) == 3


def test_no_folder_is_looked_at_for_every_call(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(reload, "_LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(reload, "survey", lambda places: looks.append(places) or {})
    write(tmp_path, "one", FIRST)
    client = prx.Client({}, tmp_path, env={}, watch=True)
    for _ in range(20):
        asked(client, "one")
    assert len(looks) == 1


def test_reloads_beside_calls(tmp_path):
    """Address, header and body of a call are of one version, while files change under it; connections stay."""
    stop, wrong = threading.Event(), []

    def plan(number):
        name = f"p{number}"
        while not stop.is_set():
            account, _ = client.plan("hello", f"{name}/m")
            spec = account.definition.spec("m", ("responses",))
            versions = {account.target.base_url.rpartition("/")[2], spec.request.headers["x-version"]}
            wrong.extend([versions] if len(versions) > 1 else [])

    def put(number, version):
        write(
            tmp_path,
            f"p{number}",
            f"http://localhost:1/{version}",
            f"request: {{headers: {{x-version: '{version}'}}}}\n",
        )

    for number in range(4):
        put(number, 0)
    client = prx.Client({}, tmp_path, env={}, watch=True)
    threads = [threading.Thread(target=plan, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for version in range(1, 21):
        put(version % 4, version)
        assert client.reload().problems == ()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert asked(client, "p0") == "http://localhost:1/20"


def test_a_new_broken_file_takes_no_provider_away(client, tmp_path):
    """The one that had its name stays, as long as the new one is broken."""
    assert asked(client, "vllm") == "http://localhost:8000/v1"
    write(tmp_path / "d", "vllm", FIRST, "nonsense: 1\n")
    write(tmp_path / "d" / "_dialects", "openai-chat", FIRST, "nonsense: 1\n")
    assert len(client.reload().problems) >= 2
    assert asked(client, "vllm") == "http://localhost:8000/v1"
    assert asked(client, "two") == FIRST
    write(tmp_path / "d", "vllm", SECOND)
    (tmp_path / "d" / "_dialects" / "openai-chat.yaml").unlink()
    assert client.reload().problems == ()
    assert asked(client, "vllm") == SECOND


def test_a_file_that_cannot_be_read_is_broken_and_not_gone(tmp_path):
    path = write(tmp_path, "one", FIRST)
    client = prx.Client({}, tmp_path, env={}, watch=True)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    found = client.reload()
    assert (found.removed, [str(path) in problem for problem in found.problems]) == ((), [True])
    assert asked(client, "one") == FIRST
    path.unlink()
    write(tmp_path, "one", SECOND)
    assert client.reload().problems == ()
    assert asked(client, "one") == SECOND


def no_descriptor(*_):
    raise OSError(24, "Too many open files")


def test_what_could_not_be_read_is_read_again(client, tmp_path, monkeypatch):
    write(tmp_path / "d", "three", THIRD)
    with monkeypatch.context() as patched:
        patched.setattr(files, "data_of", no_descriptor)
        with pytest.raises(prx.SpecError, match="Too many open files"):
            asked(client, "three")
    client.reload()
    assert asked(client, "three") == THIRD


def test_what_is_gone_is_let_go(client, tmp_path):
    """Files that were removed, and the keys of routes that are no more."""
    for number in range(20):
        path = write(tmp_path / "d", f"p{number}", FIRST)
        route = f'[[model_routes]]\npattern = "r{number}/*"\nprovider = "one"\napi_key = "sk-{number}"\n'
        (tmp_path / "config.toml").write_text(route)
        client.reload()
        client.plan("hello", f"r{number}/m")
        path.unlink()
        client.reload()
    assert not [path for path in client.catalog.files._seen if path.parent == tmp_path / "d" and path.stem[0] == "p"]
    assert len(client.accounts._before) + len(client.accounts.opened) < 5


def test_a_folder_named_from_here_is_the_same_from_elsewhere(tmp_path, monkeypatch):
    write(tmp_path / "d", "one", FIRST)
    monkeypatch.chdir(tmp_path)
    client = prx.Client({}, "d", env={})
    monkeypatch.chdir("/")
    client.reload()
    assert asked(client, "one") == FIRST


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_amid_a_reload(client):
    with client._session._reloading, client._lock, client.accounts._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if client.reload().problems == () and asked(client, "one") == FIRST else 1)
    for _ in range(100):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        status = -1
    assert status == 0
