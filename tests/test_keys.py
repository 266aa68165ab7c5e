"""A key of config.toml goes where it was meant to: to the provider of its name, or to the api_url beside it."""

from __future__ import annotations

import json
import os
import re
import tomllib

import pytest
from helpers import commands
from helpers.byte_server import RawServer, response

import prx
from prx import resources

KEY = "sk-meant-for-groq-0123456789"
SEVERAL = [KEY, "${GROQ_API_KEY}"]
ENV = {"GROQ_API_KEY": KEY}
FILE = "spec: 1\nid: {}\nextends: {}\nbase_url: {}/v1\n"


def put(folder, name, url, extends="openai-chat", more=""):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}.yaml").write_text(FILE.format(name, extends, url) + more)


def dialect(folder, name, url):
    """One that stands in the place of a packaged dialect, or of a provider's name, and says where to go."""
    whole = (resources.folder("providers.d") / "_dialects" / "openai-chat.yaml").read_text()
    folder = folder / "_dialects"
    folder.mkdir(parents=True)
    (folder / f"{name}.yaml").write_text(
        whole.replace("id: openai-chat", f"id: {name}").replace("\nauth:", f"\nbase_url: {url}/v1\nauth:")
    )


def no_file(*_):
    """Files as they come."""


# Who takes the name, which table has the key, and what is asked for.
THEFTS = {
    "the id": (lambda folder, url: put(folder, "groq", url), {"groq": {}}, "groq/m"),
    "the id, by extends": (lambda folder, url: put(folder, "groq", url, "groq"), {"groq": {}}, "groq/m"),
    "the id, asked by its alias": (
        lambda folder, url: put(folder, "groq", url, more="aliases: [groqcloud]\n"), {"groq": {}}, "groqcloud/m"),
    "the id, key under an alias": (
        lambda folder, url: put(folder, "groq", url, more="aliases: [groqcloud]\n"), {"groqcloud": {}}, "groq/m"),
    "an alias as an id": (lambda folder, url: put(folder, "groqcloud", url), {"groqcloud": {}}, "groqcloud/m"),
    "an alias": (
        lambda folder, url: put(folder, "evil", url, more="aliases: [groqcloud]\n"), {"groqcloud": {}}, "groqcloud/m"),
    "an alias, asked by its own name": (
        lambda folder, url: put(folder, "evil", url, more="aliases: [groqcloud]\n"), {"groqcloud": {}}, "evil/m"),
    "what the table extends": (lambda folder, url: put(folder, "groq", url), {"mine": {"extends": "groq"}}, "mine/m"),
    "an alias that the table extends": (
        lambda folder, url: put(folder, "evil", url, more="aliases: [groqcloud]\n"), {"mine": {"extends": "groqcloud"}}, "mine/m"),
    "a table that extends another": (lambda folder, url: put(folder, "evil", url), {"groq": {"extends": "evil"}}, "groq/m"),
    "a dialect of the name": (lambda folder, url: dialect(folder, "groq", url), {"mine": {"extends": "groq"}}, "mine/m"),
    "the dialect that the table extends": (
        lambda folder, url: dialect(folder, "openai-chat", url), {"mine": {"extends": "openai-chat"}}, "mine/m"),
    "what has no address": (lambda folder, url: put(folder, "compatible", url), {"compatible": {}}, "compatible/m"),
    "the dialect of what has no address": (
        lambda folder, url: dialect(folder, "openai-chat", url), {"compatible": {}}, "compatible/m"),
    "what a table of its own builds on": (lambda folder, url: put(folder, "compatible", url), {"mine": {}}, "mine/m"),
    "another packaged one": (no_file, {"groq": {"extends": "openai"}}, "groq/m"),
}  # fmt: skip


def config_of(tables, said):
    return {"providers": {name: {**table, **said} for name, table in tables.items()}}


@pytest.mark.parametrize("said", [*({"api_key": key} for key in SEVERAL), {"headers": {"x-team": KEY}}], ids=str)
@pytest.mark.parametrize("way", THEFTS)
def test_no_file_takes_a_configured_key_by_taking_a_name(way, said, tmp_path):
    make, tables, model = THEFTS[way]
    (tmp_path / "d").mkdir()
    with RawServer(response()) as server:
        make(tmp_path / "d", server.url.removesuffix("/v1"))
        api = prx.Client(config_of(tables, said), tmp_path / "d", env=ENV)
        with pytest.raises(prx.ConfigError) as caught:
            api.chat("hi", model, retries=0)
        with pytest.raises(prx.ConfigError):
            api.models(model.partition("/")[0])
        assert server.connections == 0
    assert KEY not in str(caught.value)
    (table,) = tables
    assert f"providers.{table}.{'headers' if 'headers' in said else 'api_key'} is for " in caught.value.message


@pytest.mark.parametrize("way", [way for way in THEFTS if way != "another packaged one"])
def test_an_api_url_beside_the_key_is_the_consent(way, tmp_path):
    make, tables, model = THEFTS[way]
    (tmp_path / "d").mkdir()
    with RawServer(response()) as server:
        make(tmp_path / "d", "https://evil.example")
        said = {"api_key": KEY, "headers": {"x-team": "t"}, "api_url": server.url}
        assert prx.Client(config_of(tables, said), tmp_path / "d", env={}).chat("hi", model).content == "hello"
        assert KEY in str(server.requests)


@pytest.mark.parametrize("asked", ["groq", "groqcloud"])
def test_a_route_is_held_to_its_providers_name(asked, tmp_path):
    put(tmp_path, "groq", "https://evil.example", more="aliases: [groqcloud]\n")
    route = {"pattern": "x/*", "provider": asked, "api_key": KEY}
    with pytest.raises(
        prx.ConfigError, match=r'model_routes with the pattern "x/\*": api_key is for https://api\.groq\.com'
    ):
        prx.Client({"model_routes": [route]}, tmp_path, env={}).plan("hi", "x/m")
    with pytest.raises(prx.ConfigError, match="api_key is for"):
        prx.Client(
            {"default": {"provider": asked}, "model_routes": [{"pattern": "x/*", "api_key": KEY}]}, tmp_path, env={}
        ).plan("hi", "x/m")
    found, _ = prx.Client({"model_routes": [{**route, "api_url": "https://evil.example/v1"}]}, tmp_path, env={}).plan(
        "hi", "x/m"
    )
    assert KEY in found.target.auth["authorization"].reveal()


def test_at_home_a_configured_key_is_welcome(tmp_path):
    """Whatever names it goes by, and whatever a file of one's own changes but the address."""
    (tmp_path / "groq.yaml").write_text(
        "spec: 1\nid: groq\nextends: groq\naliases: [groqcloud]\nrequest: {strip: [user]}\n"
    )
    said = {"api_key": KEY, "headers": {"x-team": "t"}}
    for folder in (None, tmp_path):
        for table, model in (("groq", "groq/m"), ("groqcloud", "groq/m"), ("groqcloud", "groqcloud/m")):
            found, _ = prx.Client({"providers": {table: said}}, folder, env={}).plan("hi", model)
            assert [secret.reveal() for secret in found.target.secrets] == [f"Bearer {KEY}", "t"]
        found, _ = prx.Client({"providers": {"mine": {"extends": "groqcloud", **said}}}, folder, env={}).plan(
            "hi", "mine/m"
        )
        assert found.target.base_url == "https://api.groq.com/openai/v1"


def test_a_file_with_an_id_of_its_own_takes_the_key_of_its_table(tmp_path):
    put(tmp_path, "groq-eu", "https://eu.example", "groq")
    config = {"providers": {"groq-eu": {"api_key": "${GROQ_API_KEY}"}}}
    found, _ = prx.Client(config, tmp_path, env=ENV).plan("hi", "groq-eu/m")
    assert found.target.base_url == "https://eu.example/v1"
    assert found.target.auth["authorization"].reveal() == f"Bearer {KEY}"


# ------------------------------------------------------------------ routes with an address of their own


@pytest.mark.parametrize("key", SEVERAL)
@pytest.mark.parametrize("table", [{}, {"api_url": "https://third.example/v1"}], ids=["at home", "with an address"])
def test_a_route_with_an_address_takes_nothing_of_its_providers_table(key, table):
    config = {
        "default": {"provider": "groq"},
        "providers": {"groq": {"api_key": key, "headers": {"x-team": "SECRET"}, **table}},
        "model_routes": [
            {
                "pattern": "x/*",
                "provider": "groq",
                "api_url": "https://elsewhere.example/v1",
                "api_key": "of-the-route",
            },
            {"pattern": "y/*", "provider": "groq", "api_url": "https://elsewhere.example/v1"},
            {"pattern": "z/*", "provider": "groqcloud", "api_url": "https://elsewhere.example/v1"},
        ],
    }
    api = prx.Client(config, env=ENV)
    found, _ = api.plan("hi", "x/m")
    assert [secret.reveal() for secret in found.target.secrets] == ["Bearer of-the-route"]
    for model in ("y/m", "z/m"):
        with pytest.raises(prx.ConfigError, match="no API key") as caught:
            api.plan("hi", model)
        assert 'api_key = "${GROQ_API_KEY}" in model_routes' in caught.value.hint


def test_a_route_to_another_path_of_the_same_server_keeps_the_key():
    config = {
        "providers": {"groq": {"api_key": KEY}, "mine": {"api_url": "https://mine.example/v1", "api_key": "own"}},
        "model_routes": [
            {"pattern": "x/*", "provider": "groq", "api_url": "https://api.groq.com/other/v2"},
            {"pattern": "y/*", "provider": "mine", "api_url": "https://mine.example/v2"},
        ],
    }
    api = prx.Client(config, env={})
    assert api.plan("hi", "x/m")[0].target.auth["authorization"].reveal() == f"Bearer {KEY}"
    assert api.plan("hi", "y/m")[0].target.auth["authorization"].reveal() == "Bearer own"


# ------------------------------------------------------------------ systems whose names have no case


class NoCase(dict):
    """An environment as some systems have it: names in capitals, whichever way one asks."""

    def __getitem__(self, name):
        return super().__getitem__(name.upper())

    def __contains__(self, name):
        return super().__contains__(name.upper())

    def get(self, name, default=None):
        return super().get(name.upper(), default)


@pytest.mark.parametrize("name", ["groq_api_key", "Groq_Api_Key", "GROQ_API_key"])
@pytest.mark.parametrize(
    "where",
    ["auth: {{env: {}}}", "request: {{headers: {{x-a: '${{{}}}'}}}}", "request: {{query: {{a: '${{{}}}'}}}}", "base_url: https://evil.example/${{{}}}"],
)  # fmt: skip
def test_a_claim_has_no_case(name, where, tmp_path):
    said = where.format(name)
    text = FILE.format("thief", "openai-chat", "https://evil.example")
    text = re.sub("base_url.*\n", "", text) if said.startswith("base_url") else text
    (tmp_path / "thief.yaml").write_text(f"{text}{said}\n")
    for env in (NoCase(ENV), {**ENV, name: KEY}):
        with pytest.raises(prx.Error, match=r"api\.groq\.com|looks like a secret") as caught:
            prx.Client({}, tmp_path, env=env).plan("hi", "thief/m")
        assert KEY not in str(caught.value)


# ------------------------------------------------------------------ advice is taken literally


def _only(folder, text):
    (folder / "d").mkdir(exist_ok=True)
    (folder / "d" / "thief.yaml").write_text(FILE.format("thief", "openai-chat", "https://evil.example") + text)


# What is there, what the configuration says, and what is asked for.
REFUSALS = {
    "a variable of another": (lambda folder: _only(folder, "auth: {env: GROQ_API_KEY}\n"), {}, "thief/m"),
    "a variable in a header": (lambda folder: _only(folder, "request: {headers: {x-a: '${GROQ_API_KEY}'}}\n"), {}, "thief/m"),
    "a variable in a query": (lambda folder: _only(folder, "request: {query: {a: '${GROQ_API_KEY}'}}\n"), {}, "thief/m"),
    "a header beside a key": (
        lambda folder: _only(folder, "auth: {env: GROQ_API_KEY}\nrequest: {headers: {x-a: 'a ${MISTRAL_API_KEY}'}}\n"), {}, "thief/m"),
    "a region": (lambda folder: put(folder / "d", "groq-eu", "https://eu.example", "groq"), {}, "groq-eu/m"),
    "a region, asked by a name of the configuration": (
        lambda folder: put(folder / "d", "groq-eu", "https://eu.example", "groq"), {"providers": {"wafer.two": {"extends": "groq-eu"}}}, "wafer.two/m"),
    "a region under the packaged name": (lambda folder: put(folder / "d", "groq", "https://eu.example", "groq"), {}, "groq/m"),
    "a region under a packaged alias": (lambda folder: put(folder / "d", "groqcloud", "https://eu.example", "groq"), {}, "groqcloud/m"),
    "an alias, the table under the other name": (
        lambda folder: put(folder / "d", "groq", "https://eu.example", "groq", "aliases: [groqcloud]\n"),
        {"providers": {"groqcloud": {"model": "m"}}}, "groq/m"),
    "a key under the packaged name": (
        lambda folder: put(folder / "d", "groq", "https://eu.example", "groq"), {"providers": {"groq": {"api_key": KEY}}}, "groq/m"),
    "headers under the packaged name": (
        lambda folder: put(folder / "d", "groq", "https://eu.example", more="auth: {required: false}\n"),
        {"providers": {"groq": {"headers": {"a": KEY}}}}, "groq/m"),
    "a key of a route": (
        lambda folder: put(folder / "d", "groq", "https://eu.example"),
        {"model_routes": [{"pattern": "groq/*", "provider": "groq", "api_key": KEY}]}, "groq/m"),
    "a name with a dot": (
        lambda folder: put(folder / "d", "wafer.ai", "https://eu.example"), {"providers": {"wafer.ai": {"api_key": KEY}}}, "wafer.ai/m"),
    "no address": (no_file, {}, "compatible/m"),
    "no key": (no_file, {}, "groq/m"),
    "no key, and a file in its place": (
        lambda folder: put(folder / "d", "groq", "https://eu.example", more="auth: {env: MY_KEY, required: true}\n"), {}, "groq/m"),
    "no key with an address": (no_file, {"providers": {"groq": {"api_url": "http://127.0.0.1:9/v1"}}}, "groq/m"),
    "no key on a route": (
        no_file, {"model_routes": [{"pattern": "groq/*", "provider": "groq", "api_url": "http://127.0.0.1:9/v1"}]}, "groq/m"),
    "no key on a route of a provider with an address": (
        no_file,
        {"providers": {"groq": {"api_url": "http://127.0.0.1:9/v1"}}, "model_routes": [{"pattern": "groq/*", "provider": "groq"}]}, "groq/m"),
    "a URL that needs a variable": (no_file, {}, "azure/m"),
    "a URL that needs another variable, under an alias": (no_file, {"providers": {"azure-openai-v1": {"model": "m"}}}, "azure/m"),
    "a variable of the configuration": (no_file, {"providers": {"groq": {"api_key": "${MINE}"}}}, "groq/m"),
    "no scheme": (no_file, {"providers": {"groq": {"api_key": "k", "api_url": "localhost:9/v1"}}}, "groq/m"),
    "no provider": (no_file, {}, "m"),
    "no model": (no_file, {"default": {"provider": "vllm"}}, None),
    "nobody": (no_file, {}, None),
}  # fmt: skip
ADVICE = r'(?P<export>export )(?P<variable>\w+)=|(?P<key>(?:providers|default)\.\S+|api_url|api_key) = (?P<value>"(?:[^"\\]|\\.)*")'


def follow(hint, config, env, model):
    """The configuration and environment that do what a hint says, word by word."""
    config = {"providers": {}, **{key: value.copy() for key, value in config.items()}}
    found = list(re.finditer(ADVICE, hint))
    text = "\n".join(f"{each['key']} = {each['value']}" for each in found if each["key"])
    env |= {each["variable"]: "the-value" for each in found if each["variable"]}
    said = tomllib.loads(text)
    for name, table in said.pop("providers", {}).items():
        config["providers"][name] = {**config["providers"].get(name, {}), **table}
    if said:
        (route,) = config["model_routes"]
        config["model_routes"] = [{**route, **said}]
    return config, env, model


@pytest.mark.parametrize("kind", REFUSALS)
def test_advice_works_when_it_is_followed(kind, tmp_path):
    make, config, model = REFUSALS[kind]
    (tmp_path / "d").mkdir()
    make(tmp_path)
    env = {} if kind.startswith("no ") else {**ENV, "MISTRAL_API_KEY": "of-mistral"}
    seen = []
    while True:
        try:
            prx.Client(config, tmp_path / "d", env=env).plan("hi", model)
            break
        except prx.ConfigError as error:
            failed = error
        assert KEY not in str(failed)
        assert failed.message not in seen, f"the same again: {failed}"
        seen.append(failed.message)
        config, env, model = act(failed.hint, config, env, model)
    assert 1 <= len(seen) <= 3, seen


def act(hint, config, env, model):
    """As `follow`, and for what only words say."""
    if "Write provider/model" in hint:
        return config, {**env, **ENV}, f"groq/{model or 'm'}"
    if "Set [default] model" in hint:
        return {**config, "default": {**config["default"], "model": "m"}}, env, model
    if found := re.search(r"for example (http\S+\w)", hint):
        name, table = next(iter(config["providers"].items()))
        return {"providers": {name: {**table, "api_url": found[1]}}}, env, model
    return follow(hint, config, dict(env), model)


# ------------------------------------------------------------------ prx record takes a key of the environment, too


@pytest.mark.parametrize(
    ("provider", "rest", "words"),
    [
        ("thief", ["--model", "m"], "asks for GROQ_API_KEY"),
        ("groq", ["--model", "m", "--url"], "no API key"),
        ("groq-eu", ["--model", "m"], "asks for GROQ_API_KEY"),
    ],
)
def test_a_recording_sends_no_key_that_a_call_would_not(provider, rest, words, tmp_path):
    with RawServer(response()) as server:
        url = server.url.removesuffix("/v1")
        put(tmp_path / "d", "thief", url, more="auth: {env: GROQ_API_KEY}\n")
        put(tmp_path / "d", "groq-eu", url, "groq")
        rest = [*rest, server.url] if rest[-1] == "--url" else rest
        run = ["record", provider, *rest, "--providers", tmp_path / "d", "--to", tmp_path / "to"]
        done = commands.run(*run, env={**os.environ, **ENV})
        assert (done.returncode, server.connections) == (1, 0)
        assert words in done.stderr
        assert "--key-env NAME" in done.stderr
        commands.run(*run, "--key-env", "GROQ_API_KEY", env={**os.environ, **ENV})
        assert f"Bearer {KEY}" in str(server.requests), "named, it goes"


# ------------------------------------------------------------------ advice to a call that was refused for want of a key


@pytest.mark.parametrize(
    ("provider", "more"),
    [
        ("vllm", {"providers": {"vllm": {"api_url": "URL"}}}),
        ("v-llm", {"providers": {"v-llm": {"api_url": "URL"}}}),
        ("mine", {}),
        ("vllm", {"providers": {"v-llm": {"model": "m"}}}),
        ("vllm", {"model_routes": [{"pattern": "vllm/*", "provider": "vllm", "api_url": "URL"}]}),
        ("vllm", {"model_routes": [{"pattern": "vllm/*", "api_url": "URL"}]}),
    ],
)
def test_advice_to_a_call_without_a_key_works(provider, more, tmp_path):
    refusal, good = response(401, {"error": {"message": "no key"}}), response()
    with RawServer(refusal, good) as server:
        config = json.loads(json.dumps(more).replace("URL", server.url))
        put(tmp_path / "d", "mine", server.url.removesuffix("/v1"), more="auth: {required: false}\n")
        if "api_url" not in str(more):
            put(tmp_path / "d", "vllm", server.url.removesuffix("/v1"), "vllm", "aliases: [v-llm]\n")
        with pytest.raises(prx.AuthError) as caught:
            prx.Client(config, tmp_path / "d", env={}).chat("hi", f"{provider}/m", retries=0)
        assert "No key was sent" in caught.value.hint
        config, env, model = follow(caught.value.hint.replace("…", KEY), config, {}, f"{provider}/m")
        env |= dict.fromkeys(re.findall(r"\$\{(\w+)\}", str(config)), KEY)
        assert prx.Client(config, tmp_path / "d", env=env).chat("hi", model, retries=0).content == "hello"
        assert "authorization" in str(server.requests[-1]).lower()


def test_a_header_of_the_table_stands_for_the_files(tmp_path):
    """A file's variable does not go to an api_url; a header of the same name does."""
    put(tmp_path / "d", "mine", "https://mine.example", more="request: {headers: {X-Team: '${TEAM}'}}\n")
    with RawServer() as server:
        settings = {"api_url": server.url}
        with pytest.raises(prx.ConfigError, match="set the header in the provider's table"):
            prx.Client({"providers": {"mine": settings}}, tmp_path / "d", env={"TEAM": "t"}).chat("hi", "mine/m")
        settings["headers"] = {"x-team": "${TEAM}"}
        assert (
            prx.Client({"providers": {"mine": settings}}, tmp_path / "d", env={"TEAM": "t"})
            .chat("hi", "mine/m")
            .content
        )
        assert server.requests[-1]["headers"]["x-team"] == "t"
