"""Whom prx speaks to and what it touches: the one host of a call, the files that were named, and nothing else.

Each runs in a process of its own under Python's audit hook, which sees every socket, file and process, whoever opens it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.byte_server import DONE, RawServer, delta, response, stream

ROOT = Path(__file__).parents[1]
HOOK = """
import json, os, sys
WATCHED = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "os.remove", "os.rename",
           "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "shutil.", "ctypes.dlopen", "urllib.", "webbrowser.")
HARMLESS = ("socket.__new__", "socket.gethostname")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
seen = []
def watch(event, args):
    if event == "open" and not isinstance(args[0], int):
        seen.append(["write" if args[2] & WRITING else "read", os.path.abspath(os.fsdecode(args[0]))])
    elif event.startswith(WATCHED) and event not in HARMLESS:
        seen.append([event, str([part for part in args if isinstance(part, (str, int, tuple))])])
sys.addaudithook(watch)
try:
    SCRIPT
finally:
    found, seen = seen, []
    print("\\nSEEN" + json.dumps(found), file=sys.stderr)
"""
COMMAND = "import runpy; sys.argv = ['prx', *sys.argv[1:]]; runpy.run_module('prx', run_name='__main__')"


def watched(script, *arguments, home, **env):
    """What a script did: (event, what) for each socket, process and file of it."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", **env}
    run = [sys.executable, "-c", HOOK.replace("SCRIPT", script), *arguments]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=home)
    said, _, seen = done.stderr.rpartition("\nSEEN")
    assert done.returncode == 0, said
    return [tuple(row) for row in json.loads(seen)]


def unkept(seen, home):
    """What was done, without what is kept for the next process in the one folder that is for that."""
    changes = ("write", "os.mkdir", "os.rename", "os.remove")
    return [(event, what) for event, what in seen if not (event in changes and f"{home}/.cache" in what)]


def outside(seen, *folders):
    """Files that were opened and stand neither with Python and its packages nor in these folders."""
    own = (sys.prefix, sys.base_prefix, str(ROOT), *map(str, folders))
    return [path for event, path in seen if event == "read" and not path.startswith(own)]


@pytest.fixture
def home(tmp_path):
    """A home, which is the working directory as well, full of what others would read."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / ".env").write_text("GROQ_API_KEY=from-a-dot-env\n")
    (tmp_path / "config.toml").write_text('[default]\nprovider = "groq"\n')
    (tmp_path / "groq.yaml").write_text("spec: 1\nid: groq\n")
    (tmp_path / "providers.d").mkdir()
    (tmp_path / "providers.d" / "groq.yaml").write_text("spec: 1\nid: groq\n")
    return tmp_path


def test_an_import_only_reads_the_package(home):
    seen = watched("import prx", home=home)
    assert {event for event, _ in seen} == {"read"}
    assert outside(seen) == []


MINE = "spec: 1\nid: mine\nextends: openai-chat\nbase_url: http://127.0.0.1:9/v1\n"
COMMANDS = [
    ["--help"], ["--version"], ["providers"], ["providers", "--json"], ["show", "groq", "--resolved"], ["show", "groq", "--evidence"],
    ["check", "mine/mine.yaml"], ["schema"], ["chat", "hi", "-m", "mine/m", "--dry-run", "--providers", "mine"],
    ["explain", "hi", "-m", "mine/m", "--providers", "mine"], ["diff", "mine/mine.yaml", "mine/mine.yaml"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_that_asks_nobody_opens_no_connection(command, home):
    """Nor does it write anything, start anything, or read what was not named."""
    (home / "mine").mkdir()
    (home / "mine" / "mine.yaml").write_text(MINE)
    seen = watched(COMMAND, *command, home=home)
    assert {event for event, _ in unkept(seen, home)} <= {"read", "ctypes.dlopen"}
    kept = home / ".cache" / "prx"
    assert not kept.exists() or kept.stat().st_mode & 0o777 == 0o700, "nobody else writes what is read as code"
    strangers = outside(seen, home / "mine", kept, home / ".config" / "prx", "/etc/prx", "/dev/null")
    assert [path for path in strangers if str(home) in path] == []
    assert not [path for path in strangers if re.search(r"netrc|\.env|config\.toml|/home/|machine-id|hostname", path)]


def test_nothing_is_kept_where_nobody_wants_it(home):
    (home / "mine").mkdir()
    (home / "mine" / "mine.yaml").write_text(MINE)
    command = ["chat", "hi", "-m", "mine/m", "--dry-run", "--providers", "mine"]
    assert {event for event, _ in watched(COMMAND, *command, home=home, PRX_CACHE="")} <= {"read", "ctypes.dlopen"}


CALLS = """
    import prx
    with prx.Client(config={"providers": {"compatible": {"api_url": sys.argv[1], "api_key": "sk-own"}}}) as client:
        for _ in range(2):
            assert client.chat("hi", model="compatible/m").content == "hello"
        with client.stream("hi", model="compatible/m") as stream:
            assert "".join(delta.content or "" for delta in stream) == "hi"
        client.models("compatible")
"""


def test_a_call_opens_one_connection_to_one_host(home):
    """Two calls, a stream and a list of models: one connection, no lookup of any other name, no file, no process."""
    listed = response(200, {"data": [{"id": "m"}]})
    with RawServer(response(), response(), list(stream(delta("hi", "stop"), DONE)), listed) as server:
        seen = watched(CALLS.strip(), server.url, home=home)
        assert server.connections == 1
        assert len(server.requests) == 4
    contacts = [(event, what) for event, what in seen if event.startswith("socket.")]
    assert {event for event, _ in contacts} <= {"socket.connect", "socket.getaddrinfo", "socket.bind"}
    assert [what for event, what in contacts if event == "socket.connect"] == [f"[('127.0.0.1', {server.port})]"]
    assert {what for event, what in contacts if event == "socket.bind"} <= {"[('::1', 0)]"}, "urllib3 looks for IPv6"
    assert all(str(server.port) in what for event, what in contacts if event == "socket.getaddrinfo")
    assert {event for event, _ in unkept(seen, home)} - dict(contacts).keys() <= {"read", "ctypes.dlopen"}
    assert [path for path in outside(seen, home / ".cache" / "prx") if str(home) in path] == []


def test_a_request_says_nothing_of_the_machine(home):
    """No name of the user or the machine, no version of Python or the system, no id that tells one caller from another."""
    with RawServer() as server:
        script = CALLS.strip().partition("        with client.stream")[0]
        watched(script, server.url, home=home, USER="somebody-here", HOSTNAME="this-machine", OPENAI_ORG_ID="org-here")
        first, second = server.requests
    assert first == second
    assert first["headers"].keys() <= {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "content-type",
        "authorization",
        "content-length",
    }
    assert first["headers"]["user-agent"].startswith("prx/")
    assert not re.search(r"somebody|this-machine|org-here|python|linux", json.dumps(first), re.IGNORECASE)


def test_every_promise_names_a_test_that_there_is():
    text = (ROOT / "SECURITY.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.endswith("| Test |")]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)`", row.rpartition(" | ")[2])
        assert named, row
        assert all((ROOT / "tests" / name).is_file() for name in named), row


# The shapes of keys in earnest: longer than what tests make up, so that those need no list of exceptions.
KEYS = re.compile(
    r"sk-(?:proj-|ant-|or-v1-|svcacct-)?[A-Za-z0-9_-]{40,}|gsk_[A-Za-z0-9]{40,}|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,}"
    r"|xai-[A-Za-z0-9]{60,}|nvapi-[A-Za-z0-9_-]{50,}|AKIA[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{36,}|pypi-[A-Za-z0-9_-]{50,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\."
)
FOLDERS = ("engine", "providers.d", "schemas", "cassettes", "docs", "tests", ".ci")
TEXTS = [
    path
    for path in (*ROOT.glob("*.*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
    if path.is_file() and "__pycache__" not in path.parts and path.suffix not in {".pyc", ".png", ".ico"}
]


def test_no_file_of_the_project_holds_a_key():
    assert len(TEXTS) > 500
    found = {str(path.relative_to(ROOT)): KEYS.findall(path.read_text(errors="replace")) for path in TEXTS}
    assert {path: len(keys) for path, keys in found.items() if keys} == {}


def test_what_a_key_looks_like():
    """Else the test above could not fail."""
    for key in ("sk-" + "a1" * 24, "sk-ant-" + "b2" * 30, "gsk_" + "c3" * 25, "AIza" + "d" * 35, "AKIA" + "E" * 16):
        assert KEYS.search(f"key: {key}\n")
