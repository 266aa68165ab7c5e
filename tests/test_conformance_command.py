"""prx conformance and the pytest plugin, as a person runs them: what is found, what is told, and how it ends."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
import yaml
from helpers import commands
from helpers.byte_server import RawServer, response
from judges.dialects import Emulator

from prx.conformance import cases, evidence

CHATS = [case for case in cases.load() if not case.kind]  # what a file that names no other call is asked


def run(*arguments, cwd, **more):
    done = commands.run(*arguments, cwd=cwd, timeout=120, **more)
    assert "Traceback" not in done.stdout + done.stderr, done
    assert "fault of prx" not in done.stderr, done.stderr
    return done


@pytest.fixture
def desk(tmp_path):
    """A folder with a provider's file, and a server that it is about."""
    (tmp_path / "mine").mkdir()
    with Emulator({"key": "sk-right-0000"}) as emulator:
        yield Desk(tmp_path, emulator.url)


class Desk:
    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        self.file = folder / "mine" / "mine.yaml"
        self.write("")

    def write(self, more, url=None, auth="{style: bearer}"):
        self.file.write_text(
            f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {url or self.url}\nauth: {auth}\n{more}"
        )
        (self.folder / "c.toml").write_text(
            f'[providers.mine]\napi_url = "{url or self.url}"\napi_key = "sk-right-0000"\nmodel = "words"\n'
        )

    def conformance(self, *arguments):
        return run("conformance", "mine/mine.yaml", "--config", "c.toml", *arguments, cwd=self.folder)

    def record(self, *arguments):
        done = self.conformance("--record", "--cassettes", "kept", *arguments)
        assert done.returncode == 0, done
        return done

    def rows(self, *arguments):
        done = self.conformance("--json", *arguments)
        return done, {row["case"]: row for row in json.loads(done.stdout)["results"]}


def test_recorded_and_played_back(desk):
    desk.record()
    kept = sorted(path.stem for path in (desk.folder / "kept" / "mine").glob("*.yaml"))
    assert kept == sorted(case.name for case in CHATS)
    assert "sk-right-0000" not in "".join(path.read_text() for path in (desk.folder / "kept").rglob("*.yaml"))
    done, rows = desk.rows("--cassettes", "kept")
    assert done.returncode == 0
    assert {row["outcome"] for row in rows.values()} == {"passed"}
    assert {row["evidence"]["kind"] for row in rows.values()} == {"live"}
    assert rows["tools"]["exchanges"][0]["request"]["json"]["tools"]


def test_a_wrong_flag_is_found_in_both_directions(desk):
    desk.record()
    desk.write("capabilities: {tools: false}\n")
    for arguments in (("--cassettes", "kept"), ("--live",)):
        done, rows = desk.rows(*arguments)
        assert done.returncode == 1
        assert rows["tools"]["outcome"] == "failed"
        assert rows["tools"]["why"] == "the file says capabilities.tools: false, but the case passes"
    with Emulator({"refuses": ["stream"]}) as blunt:
        desk.write("capabilities: {stream: true}\nfallbacks: {no_stream: null}\n", blunt.url)
        done, rows = desk.rows("--live")
    assert done.returncode == 1
    assert rows["stream"]["outcome"] == "failed"
    assert "Streaming is not supported" in rows["stream"]["why"]


def test_what_nobody_claims_is_no_failure(desk):
    with Emulator({"refuses": ["stream"]}) as blunt:
        desk.write("fallbacks: {no_stream: null}\n", blunt.url)
        done, rows = desk.rows("--live", "--case", "chat", "--case", "stream")
    assert done.returncode == 0, done.stdout
    assert (rows["chat"]["outcome"], rows["stream"]["outcome"]) == ("passed", "unclaimed")
    assert rows["stream"]["why"].startswith("the file does not say capabilities.stream: true; bad_request: ")


CASES = ("--case", "chat", "--case", "stream", "--case", "vision")


def test_what_nobody_claims_is_the_same_live_recorded_and_played_back(desk):
    with Emulator({"refuses": ["stream"]}) as blunt:
        desk.write("fallbacks: {no_stream: null}\n", blunt.url)
        found = [desk.rows(*way, *CASES) for way in (("--live",), ("--record", "--cassettes", "kept"))]
    found.append(desk.rows("--cassettes", "kept", *CASES))
    for done, rows in found:
        assert done.returncode == 0, done.stdout
        assert [rows[name]["outcome"] for name in CASES[1::2]] == ["passed", "unclaimed", "passed"]
    shown = run("show", "mine/mine.yaml", "--evidence", "--cassettes", "kept", cwd=desk.folder).stdout
    assert "stream" not in shown, "what failed shows nothing"
    desk.write("fallbacks: {no_stream: null}\ncapabilities: {stream: true}\n")
    assert desk.rows("--cassettes", "kept", *CASES)[1]["stream"]["outcome"] == "failed"


def test_a_recording_that_passed_is_a_claim(desk):
    desk.record(*CASES)
    assert "passed" not in yaml.safe_load((desk.folder / "kept/mine/stream.yaml").read_text())["evidence"]
    desk.write("stream: {done: ''}\nresponse: {finish_reasons: {stop: length}}\n")
    done, rows = desk.rows("--cassettes", "kept", *CASES)
    assert (done.returncode, rows["stream"]["outcome"]) == (1, "failed")


def test_a_500_for_what_nobody_claims_is_no_failure(desk):
    answers = response(500, {"error": {"message": "oh no"}}), response(500, {"error": {"message": "oh no"}})
    for more, outcome, code in (("", "unclaimed", 1), ("capabilities: {vision: true}\n", "error", 1)):
        with RawServer(*answers) as broken:
            desk.write(more, broken.url)
            done, rows = desk.rows("--live", "--case", "vision")
        assert (done.returncode, rows["vision"]["outcome"]) == (code, outcome)
    assert json.loads(done.stdout)["verdict"] == "no verdict: 0 of 1 asked, 1 ended in an error"


def test_what_is_denied_of_the_model_is_denied(desk):
    with Emulator({"refuses": ["stream"]}) as blunt:
        desk.write(
            "fallbacks: {no_stream: null}\noverrides: [{model: 'w*', capabilities: {stream: false}}]\n", blunt.url
        )
        found = [desk.rows(*way, *CASES) for way in (("--live",), ("--record", "--cassettes", "kept"))]
    found.append(desk.rows("--cassettes", "kept", *CASES))
    for _, rows in found:
        assert (rows["stream"]["outcome"], rows["stream"]["why"]) == (
            "skipped",
            "capabilities.stream: false, which is right",
        )
    _, rows = desk.rows("--cassettes", "nothing", *CASES)
    assert rows["stream"]["outcome"] == "unrecorded"
    desk.write("overrides: [{model: 'w*', capabilities: {stream: false}}]\n")
    _, rows = desk.rows("--live", *CASES)
    assert rows["stream"]["why"] == "the file says capabilities.stream: false, but the case passes"


def test_a_call_that_comes_without_being_demanded_does_not_show_that_it_can_be(desk):
    """A server that ignores tool_choice, and calls for the weather all the same."""
    desk.write("capabilities: {tool_choice: false}\n")
    names = ("chat", "tools", "tool_named", "tool_required")
    done, rows = desk.rows("--live", *(word for name in names for word in ("--case", name)))
    assert done.returncode == 0, done.stdout
    assert rows["tool_named"]["why"] == "capabilities.tool_choice: false, which this case does not test"
    desk.write("capabilities: {json_schema: false}\n")
    assert desk.rows("--live", "--case", "chat", "--case", "json_schema")[0].returncode == 0
    desk.write("capabilities: {tools: false}\n")
    assert "deviations" not in desk.conformance("--live", "--case", "tool_named").stderr
    _, rows = desk.rows("--live", "--case", "tool_named")
    assert rows["tool_named"]["why"] == "the file says capabilities.tools: false, but the case passes"


def test_a_file_that_is_not_there_is_said_to_be_not_there(desk):
    for way in ((), ("--live",), ("--record",), ("--compare", "nothing.yaml", "mine/mine.yaml")):
        named = () if way[:1] == ("--compare",) else ("nothing.yaml",)
        done = run("conformance", *named, *way, cwd=desk.folder)
        assert done.returncode == 1
        assert done.stderr.startswith("prx: nothing.yaml: there is no such file\n")


def test_a_case_that_is_not_recorded_is_named(desk):
    desk.write("capabilities: {vision: false}\n")
    named = ("--model", "words", "--case", "chat", "--case", "vision", "--to", "kept")
    done = run(
        "record",
        "mine/mine.yaml",
        "--config",
        "c.toml",
        "--url",
        desk.url,
        "--key-env",
        "A_KEY",
        *named,
        cwd=desk.folder,
        env={"A_KEY": "sk-right-0000"},
    )
    assert done.stdout.splitlines() == [
        "mine/chat: recorded",
        "mine/vision: not recorded: the file denies what this case needs",
    ]


def test_where_a_server_differs_it_is_said_what_to_write(desk):
    desk.write("response: {finish_reasons: {length: stop}}\n")
    asked = ("--live", "--case", "chat", "--case", "max_tokens")
    assert "its file says so: deviations" in desk.conformance(*asked).stderr
    desk.write("response: {finish_reasons: {length: stop}}\ndeviations: {max_tokens: [reply.content]}\n")
    done = desk.conformance(*asked)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("required", "outcome", "code"), [("", "unclaimed", 0), (", required: true", "failed", 1)])
def test_a_server_that_takes_any_key(desk, required, outcome, code):
    with Emulator({}) as open_server:
        desk.write("", open_server.url, f"{{style: bearer{required}}}")
        done, rows = desk.rows("--live", "--case", "chat", "--case", "wrong_key")
    assert done.returncode == code, done.stdout
    assert (rows["chat"]["outcome"], rows["wrong_key"]["outcome"]) == ("passed", outcome)


def test_a_plain_text_does_not_show_that_there_are_tools(desk):
    """A server that ignores tools answers some cases of tools as they want: that says nothing against the file."""
    words = {"message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop", "index": 0}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    with RawServer(response(200, {"model": "words", "choices": [words], "usage": usage})) as plain:
        desk.write("capabilities: {tools: false}\n", plain.url)
        cases = ("chat", "tools", "tool_none", "tool_unused", "tool_result")
        done, rows = desk.rows("--live", *(word for name in cases for word in ("--case", name)))
    assert done.returncode == 0, done.stdout
    assert {rows[name]["outcome"] for name in cases[1:]} == {"skipped"}
    assert rows["tool_unused"]["why"] == "capabilities.tools: false, which this case does not test"


def test_what_is_denied_is_recorded_and_found_out_when_it_is_claimed(desk):
    with Emulator({"refuses": ["stream"]}) as blunt:
        desk.write("capabilities: {stream: false}\n", blunt.url)
        desk.record("--case", "chat", "--case", "stream")
    assert desk.rows("--cassettes", "kept")[1]["stream"]["outcome"] == "skipped"
    desk.write("fallbacks: {no_stream: null}\n")
    done, rows = desk.rows("--cassettes", "kept")
    assert done.returncode == 1
    assert rows["stream"]["outcome"] == "failed"


def test_what_came_is_said(desk):
    desk.record()
    desk.write("response: {finish_reasons: {length: stop}}\n")
    _, rows = desk.rows("--cassettes", "kept")
    assert rows["max_tokens"]["why"] == "finish_reason: wanted length, came stop"
    assert rows["max_tokens"]["came"] == [
        {"condition": "reply.finish_reason == 'length'", "path": "finish_reason", "wanted": "length", "came": "stop"}
    ]
    said = "finish_reason: wanted length, came stop"
    done = desk.conformance("--cassettes", "kept", "--case", "max_tokens", "--junit", "out.xml")
    assert f"  failed: max_tokens (a limit on the answer holds): {said}\n" in done.stdout
    (failure,) = ET.parse(desk.folder / "out.xml").getroot().iter("failure")
    assert failure.get("message") == said
    assert failure.text.splitlines()[0] == said
    assert "> POST http" in failure.text
    plugin = pytest_in(
        desk, "--prx-providers", "mine", "--prx-cassettes", "kept", "-k", "mine-max_tokens", "-vv"
    ).stdout
    assert said in plugin
    assert "< 200" in plugin


def test_the_exchange_of_a_failed_case_is_shown(desk):
    """With -v what was sent and what came, without the key; with -vv of every case; without either, of none."""
    desk.write("response: {finish_reasons: {length: stop}}\n")
    asked = ("--live", "--case", "chat", "--case", "max_tokens")
    plain, more, all_of_them = (desk.conformance(*asked, *verbose).stdout for verbose in ((), ("-v",), ("-vv",)))
    assert "POST" not in plain
    lines = [line.strip() for line in more.splitlines()]
    assert f"> POST {desk.url}/chat/completions" in lines
    assert "> authorization: Bearer ***" in lines
    assert '>     "max_tokens": 5,' in lines or '>     "max_tokens": 5' in lines
    assert "< 200" in lines
    assert any('"finish_reason": "length"' in line and line.startswith("<") for line in lines)
    assert (more.count("POST"), all_of_them.count("POST")) == (1, 2)
    assert "sk-right-0000" not in more + all_of_them


def test_the_last_line_is_the_verdict(desk):
    desk.record("--case", "chat", "--case", "max_tokens")
    chosen = ("--cassettes", "kept", "--case", "chat", "--case", "max_tokens", "--case", "tools")
    done = desk.conformance(*chosen)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "conforms: 2 of 2 asked, 1 not asked")
    desk.write("response: {finish_reasons: {length: stop}}\n")
    done, _ = desk.rows(*chosen)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (
        1,
        "does not conform: 1 of 2 asked, 1 failed, 1 not asked",
    )
    done = desk.conformance("--cassettes", "nothing", "--case", "chat")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "no verdict: 0 of 0 asked, 1 not asked")
    assert done.stderr == "Nothing is recorded: --live asks the provider, --record keeps the answers as well.\n"
    desk.write("", "http://127.0.0.1:9/v1")
    done = desk.conformance("--live", "--case", "chat")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "no verdict: 0 of 1 asked, 1 ended in an error")


def test_a_flag_that_is_rightly_false_is_skipped(desk):
    with Emulator({"refuses": ["stream"]}) as blunt:
        desk.write("capabilities: {stream: false}\n", blunt.url)
        done, rows = desk.rows("--live")
    assert rows["stream"]["outcome"] == "skipped"
    assert rows["chat"]["outcome"] == "passed"
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new"), [("Hello!", "Hallo!"), ("Say hello.", "Say hallo."), ("finish_reason: stop", "finish_reason: end")]
)
def test_a_recording_edited_by_one_token_fails(desk, old, new):
    desk.record("--case", "chat")
    path = desk.folder / "kept" / "mine" / "chat.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done, rows = desk.rows("--cassettes", "kept", "--case", "chat")
    assert done.returncode == 1
    assert "was edited after it was recorded" in rows["chat"]["why"]


def test_a_limit_is_no_verdict(desk):
    with RawServer(
        response(429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}})
    ) as server:
        desk.write("", server.url)
        done, rows = desk.rows("--live", "--model", "words", "--case", "chat", "--case", "tools")
    assert done.returncode == 1
    assert {row["outcome"] for row in rows.values()} == {"limited"}


def test_nobody_there_is_no_verdict_either(desk):
    desk.write("", "http://127.0.0.1:9/v1")
    done, rows = desk.rows("--live", "--case", "chat")
    assert (done.returncode, rows["chat"]["outcome"]) == (1, "error")


def test_all_skipped_is_a_failure(desk):
    done, rows = desk.rows("--cassettes", "nothing")
    assert {row["outcome"] for row in rows.values()} == {"unrecorded"}
    assert done.returncode == 1


def test_a_run_goes_on_where_it_was_interrupted(desk):
    desk.record()
    done = desk.conformance("--cassettes", "kept", "--resume", "state.json", "--case", "chat", "--case", "tools")
    assert done.returncode == 0
    (desk.folder / "kept" / "mine" / "chat.yaml").unlink()
    done, rows = desk.rows("--cassettes", "kept", "--resume", "state.json")
    assert rows["chat"]["outcome"] == "passed", "it was done before"
    assert len(rows) == len(CHATS)
    with (desk.folder / "state.json").open("a") as file:
        file.write('{"provider": "mine", "ca')
    done, again = desk.rows("--cassettes", "kept", "--resume", "state.json")
    assert again.keys() == rows.keys(), "half a line, left by an interruption, costs nothing"
    (desk.folder / "state.json").write_text("{")
    done = desk.conformance("--resume", "state.json")
    assert (done.returncode, "cannot be resumed" in done.stderr) == (1, True)


def test_reports(desk):
    desk.record()
    desk.write("capabilities: {tools: false}\n")
    done = desk.conformance("--cassettes", "kept", "--junit", "out.xml", "--html", "out.html")
    assert done.returncode == 1
    suite = ET.parse(desk.folder / "out.xml").getroot().find("testsuite")
    found = {case.get("name"): [child.tag for child in case] for case in suite}
    assert found["chat"] == []
    assert found["tools"] == ["failure"]
    assert int(suite.get("failures")) == sum(tags == ["failure"] for tags in found.values())
    assert "<html" in (desk.folder / "out.html").read_text()
    assert "failed: tools" in done.stdout


def test_bad_input(desk):
    for arguments, words in (
        (("gorq",), "did you mean 'groq'?"),
        (("--case", "caht", "groq"), "did you mean 'chat'?"),
        (("none.yaml",), "none.yaml: there is no such file"),
        (("groq", "--junit", "/nonexistent/x.xml", "--case", "chat"), "cannot be written"),
    ):
        done = run("conformance", *arguments, cwd=desk.folder)
        assert done.returncode == 1, done
        assert words in done.stderr, done.stderr
    assert run("conformance", "--live", cwd=desk.folder).returncode == 2, "everybody, live: no"


def test_recorded_traffic_adds_a_column(desk):
    (desk.folder / "traffic").mkdir()
    body = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}
    item = {
        "id": "a", "provider": "mine", "dialect": "openai-chat", "stream": False, "request": {"body": {"model": "m"}},
        "response": {"status": 200, "headers": {}, "body_text": json.dumps(body)}, "expected": {"content": "hello", "finish_reason": "stop"},
    }  # fmt: skip
    for content, outcome in (("hello", "passed"), ("other", "failed")):
        item["expected"]["content"] = content
        (desk.folder / "traffic" / "a.json").write_text(json.dumps(item))
        _, rows = desk.rows("--cassettes", "kept", "--corpus", "traffic")
        assert rows["corpus"]["outcome"] == outcome


# ------------------------------------------------------------------ the plugin


def pytest_in(desk, *arguments):
    return run("-q", "-p", "no:cacheprovider", *arguments, cwd=desk.folder, module="pytest")


def test_a_folder_of_files_becomes_tests(desk):
    desk.record()
    (desk.folder / "engine").mkdir()
    (desk.folder / "engine" / "__init__.py").write_text("raise RuntimeError('the user has a package of that name')")
    plain = ("--prx-providers", "mine", "--prx-cassettes", "kept")
    done = pytest_in(desk, *plain)
    assert f"{len(CHATS)} passed" in done.stdout
    assert "3 passed" in pytest_in(desk, *plain, "-k", "mine-chat or mine-models or mine-stop").stdout
    listed = pytest_in(desk, *plain, "--collect-only").stdout
    assert "mine/mine.yaml::mine-chat" in listed
    desk.write("capabilities: {tools: false}\n")
    done = pytest_in(desk, *plain)
    assert "the file says capabilities.tools: false, but the case passes" in done.stdout
    desk.write("base_ulr: x\n")
    done = pytest_in(desk, *plain)
    assert "mine.yaml:6:1: base_ulr: unknown key 'base_ulr'; did you mean 'base_url'?" in done.stdout
    assert done.returncode == 2


def test_without_recordings_nothing_is_proven(desk):
    done = pytest_in(desk, "--prx-providers", "mine")
    assert "1 skipped" in done.stdout, "one line for all that nobody recorded"
    assert "passed" not in done.stdout


# ------------------------------------------------------------------ cases and evidence


@pytest.mark.parametrize("case", cases.load(), ids=lambda case: case.name)
def test_a_case_is_well_formed(case):
    from prx import resources

    assert cases.lint(resources.folder("cases") / f"{case.name}.yaml") == []


def test_a_faulty_case_is_told_with_its_place(tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text("title: an odd case\ngroup: txt\nhold: ['a[', reply.content]\nneed: [tools]\n")
    assert [line.partition(":")[2] for line in cases.lint(path)] == [
        "2:1: group: \"txt\" is not one of text, stream, tools, formats, pictures, reasoning, errors, listing, others; did you mean 'text'?",
        "4:1: need: unknown key 'need'; did you mean 'needs'?",
    ]
    path.write_text("title: an odd case\ngroup: text\nhold: ['a[', reply.content]\n")
    assert "odd.yaml:3:8: hold[0]: the expression ends too early" in cases.lint(path)[0]


def test_the_strongest_evidence_counts(tmp_path):
    from prx.spec.loader import Loader

    (tmp_path / "some.yaml").write_text(
        "spec: 1\nid: some\nextends: openai-chat\nbase_url: http://localhost:1/v1\ncapabilities: {vision: false, tools: true, audio: false}\n"
        "evidence:\n  - {of: [vision, tools], kind: documented, source: a page, date: '2026-10-01'}\n"
    )
    spec = Loader([tmp_path]).get("some").spec()
    head = {"kind": "emulated", "what": "e", "date": "2026-10-02", "base_url": "u", "model": "m", "digest": "d"}
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump({"evidence": head, "interactions": []}, sort_keys=False))
    (tmp_path / "stream.yaml").write_text(yaml.safe_dump({"evidence": head, "interactions": []}, sort_keys=False))
    found = evidence.known(spec, cases.load(), tmp_path)
    assert {name: (row.value, row.kind) for name, row in found.items()} == {
        "audio": (False, "none"), "stream": (True, "emulated"), "tools": (True, "documented"), "vision": (False, "documented"),
    }  # fmt: skip


def test_how_a_rule_is_known_is_shown(tmp_path):
    (tmp_path / "read.yaml").write_text(
        "spec: 1\nid: read\nextends: openai-chat\nbase_url: http://localhost:1\ncapabilities: {tools: false}\n"
        "request: {parameters: {stop: {drop: true}}}\nevidence:\n"
        "  - {of: [tools], kind: documented, source: an old page, date: '2024-10'}\n"
        "  - {of: [tools, request.parameters.stop], kind: documented, source: a page, says: no tools, date: '2026-10-01', read: '2026-11-28'}\n"
        "  - {of: [vision], model: 'x*', kind: documented, source: its page, date: '2026-10-02'}\n"
        "overrides: [{model: 'x*', capabilities: {vision: false}}]\n"
    )
    lines = run("show", "read", "--evidence", "--providers", str(tmp_path), cwd=tmp_path).stdout.splitlines()
    assert lines == [
        "request.parameters.stop\t\tdocumented\ta page\t2026-10-01\tno tools\t2026-11-28",
        "tools\tno\tdocumented\ta page\t2026-10-01\tno tools\t2026-11-28",
        "vision of x*\t\tdocumented\tits page\t2026-10-02\t\t",
    ]


def test_how_a_capability_is_known_is_shown(tmp_path):
    lines = run("show", "llamacpp", "--evidence", cwd=tmp_path).stdout.splitlines()
    assert any(line.startswith("tools\tyes\tserver\tllama.cpp's own server") for line in lines), lines
    rows = json.loads(run("show", "minimax", "--evidence", "--json", cwd=tmp_path).stdout)
    assert rows["vision"]["kind"] in ("documented", "emulated", "none")
