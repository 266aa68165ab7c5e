"""config.toml: every snippet of the page loads and does what the page says; faults have their lines."""

from __future__ import annotations

import pytest
from judges.dialects import Emulator

import prx

QUICK = """
[default]
provider = "compatible"
model = "your-model-name"

[providers.compatible]
api_key = "${YOUR_API_KEY}"
api_url = "https://api.your-provider.com/v1"
"""
LOCAL = """
[default]
provider = "compatible"
model = "meta-llama/Llama-3.1-8B-Instruct"

[providers.compatible]
api_url = "http://localhost:8000/v1"
"""
LITELLM = """
[default]
provider = "litellm"
model = "gpt-4o"

[providers.litellm]
api_key = "${LITELLM_API_KEY}"
api_url = "http://localhost:4000"
"""
ROUTES = """
[default]
provider = "openrouter"
model = "anthropic/claude-sonnet-4"

[[model_routes]]
pattern = "groq/*"
provider = "compatible"
api_url = "https://api.groq.com/openai/v1"
api_key = "${GROQ_API_KEY}"

[[model_routes]]
pattern = "mistral/*"
provider = "compatible"
api_url = "https://api.mistral.ai/v1"
api_key = "${MISTRAL_API_KEY}"
"""


def client(tmp_path, text, env=None):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return prx.Client(config=path, env=env or {})


def planned(api, model=None):
    account, call = api.plan("hi", model)
    keys = [value.reveal() for value in account.target.auth.values()]
    return account.target.base_url, call.model, keys


def test_the_snippets_load_unchanged(tmp_path):
    keys = {
        "YOUR_API_KEY": "y",
        "LITELLM_API_KEY": "l",
        "GROQ_API_KEY": "g",
        "MISTRAL_API_KEY": "m",
        "OPENROUTER_API_KEY": "o",
    }
    assert planned(client(tmp_path, QUICK, keys)) == (
        "https://api.your-provider.com/v1",
        "your-model-name",
        ["Bearer y"],
    )
    assert planned(client(tmp_path, LOCAL, keys)) == (
        "http://localhost:8000/v1",
        "meta-llama/Llama-3.1-8B-Instruct",
        [],
    )
    assert planned(client(tmp_path, LITELLM, keys)) == ("http://localhost:4000", "gpt-4o", ["Bearer l"])
    routes = client(tmp_path, ROUTES, keys)
    assert planned(routes) == ("https://openrouter.ai/api/v1", "anthropic/claude-sonnet-4", ["Bearer o"])
    assert planned(routes, "groq/llama-3.3-70b-versatile") == (
        "https://api.groq.com/openai/v1",
        "llama-3.3-70b-versatile",
        ["Bearer g"],
    )
    assert planned(routes, "groq/openai/gpt-oss-120b")[1] == "openai/gpt-oss-120b"
    assert planned(routes, "mistral/mistral-large-latest") == (
        "https://api.mistral.ai/v1",
        "mistral-large-latest",
        ["Bearer m"],
    )


@pytest.mark.parametrize("path", ["", "/v1", "/v1/", "/v1/chat/completions", "/v1/chat/completions/"])
def test_either_form_of_a_url_works(tmp_path, path):
    with Emulator() as emulator:
        url = emulator.url.removesuffix("/v1") + path
        api = client(
            tmp_path,
            f'[default]\nprovider = "compatible"\nmodel = "words"\n[providers.compatible]\napi_url = "{url}"\n',
        )
        assert api.chat("Say hello.").content.startswith("Hello!")
        assert api.models("compatible") == ["words"]


@pytest.mark.parametrize("snippet", [QUICK, LOCAL, LITELLM], ids=["quick", "local", "litellm"])
def test_the_snippets_do_what_the_page_says(tmp_path, snippet):
    """Each at a real server, with nothing changed but the host."""
    keyed = "api_key" in snippet
    model = snippet.split('model = "')[1].split('"')[0]
    persona = {"models": [model], "key": "sk-right" if keyed else None}
    with Emulator(persona) as emulator:
        text = snippet
        for url in ("https://api.your-provider.com/v1", "http://localhost:8000/v1", "http://localhost:4000"):
            text = text.replace(url, emulator.url if url.endswith("/v1") else emulator.url.removesuffix("/v1"))
        api = client(tmp_path, text, {"YOUR_API_KEY": "sk-right", "LITELLM_API_KEY": "sk-right"})
        with api.stream("What is 2+2?") as pieces:
            assert "".join(piece.content or "" for piece in pieces) == "2 + 2 = 4."


def test_the_routes_do_what_the_page_says(tmp_path):
    with (
        Emulator({"models": ["llama", "org/model"], "key": "sk-g"}) as groq,
        Emulator({"models": ["large"], "key": "sk-m"}) as mistral,
    ):
        text = ROUTES.replace("https://api.groq.com/openai/v1", groq.url).replace(
            "https://api.mistral.ai/v1", mistral.url
        )
        api = client(tmp_path, text, {"GROQ_API_KEY": "sk-g", "MISTRAL_API_KEY": "sk-m"})
        assert api.chat("What is 2+2?", model="groq/llama").model == "llama"
        assert api.chat("What is 2+2?", model="groq/org/model").model == "org/model"
        assert api.chat("What is 2+2?", model="mistral/large").model == "large"


def test_a_missing_variable_fails_only_the_call_that_needs_it(tmp_path):
    api = client(tmp_path, LOCAL + '[providers.other]\napi_url = "${NOT_SET}"\napi_key = "k"\n')
    assert planned(api)[0] == "http://localhost:8000/v1"
    with pytest.raises(
        prx.ConfigError, match=r"providers\.other\.api_url: the environment variable NOT_SET is not set"
    ):
        planned(api, "other/m")


def test_variables():
    env = {"HOST": "x.example", "A": "1"}
    api = prx.Client(
        config={"providers": {"compatible": {"api_url": "https://${HOST}/v1", "api_key": "$${A}${A}"}}}, env=env
    )
    assert planned(api, "compatible/m") == ("https://x.example/v1", "m", ["Bearer ${A}1"])


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("compatible/a/b", ("http://localhost:1/v1", "a/b")),
        ("mine/m", ("http://localhost:2/v1", "m")),
        ("org/model", ("http://localhost:1/v1", "org/model")),
        ("plain", ("http://localhost:1/v1", "plain")),
        ("grok/grok-2", ("http://localhost:3/v1", "grok-2")),
        ("xai/grok-2", ("http://localhost:3/v1", "grok-2")),
        ("local/llama", ("http://localhost:4/v1", "local/llama")),
        ("Local/llama", ("http://localhost:1/v1", "Local/llama")),
        ("deep/x-7b", ("http://localhost:5/v1", "deep/x-7b")),
        ("any/thing-13b", ("http://localhost:5/v1", "any/thing-13b")),
    ],
)
def test_who_is_asked(model, wanted):
    config = {
        "default": {"provider": "compatible", "model": "d"},
        "providers": {
            "compatible": {"api_url": "http://localhost:1/v1"},
            "mine": {"api_url": "http://localhost:2/v1"},
            "grok": {"api_url": "http://localhost:3/v1", "api_key": "k"},
        },
        "model_routes": [
            {"pattern": "local/*", "api_url": "http://localhost:4/v1", "model": "{name}"},
            {"pattern": "*-[0-9]*b", "provider": "compatible", "api_url": "http://localhost:5/v1"},
        ],
    }
    assert planned(prx.Client(config=config, env={}), model)[:2] == wanted


def test_the_order_of_models():
    """call > [default].model, for the default provider only > providers.X.model."""
    config = {
        "default": {"provider": "mine", "model": "default/model"},
        "providers": {"mine": {"api_url": "http://localhost:1", "model": "own"}},
    }
    assert planned(prx.Client(config=config, env={}))[1] == "default/model", "neither split nor routed"
    del config["default"]["model"]
    assert planned(prx.Client(config=config, env={}))[1] == "own"
    assert planned(prx.Client(config=config, env={}), "mine/asked")[1] == "asked"


def test_where_it_is_looked_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text('[default]\nprovider = "here"\n')
    assert prx.Client(env={"HOME": str(tmp_path / "nobody")}).config.provider is None, "not the working directory's"
    home = tmp_path / "home" / ".config" / "prx"
    home.mkdir(parents=True)
    (home / "config.toml").write_text('[default]\nprovider = "home"\n')
    env = {"HOME": str(tmp_path / "home")}
    assert prx.Client(env=env).config.provider == "home"
    (tmp_path / "named.toml").write_text('[default]\nprovider = "named"\n')
    env["PRX_CONFIG"] = str(tmp_path / "named.toml")
    assert prx.Client(env=env).config.provider == "named"
    assert prx.Client(config=tmp_path / "config.toml", env=env).config.provider == "here"
    with pytest.raises(prx.ConfigError, match="cannot be read"):
        prx.Client(config=tmp_path / "none.toml", env=env)


def test_folders(tmp_path):
    for name, url in (("user", 1), ("env", 2), ("given", 3)):
        folder = tmp_path / name / ".config" / "prx" / "providers.d" if name == "user" else tmp_path / name
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(
            f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: http://localhost:{url}/v1\n"
        )
    env = {"HOME": str(tmp_path / "user")}
    assert planned(prx.Client(config={}, env=env), "mine/m")[0].endswith(":1/v1")
    env["PRX_PROVIDERS"] = str(tmp_path / "env")
    assert planned(prx.Client(config={}, env=env), "mine/m")[0].endswith(":2/v1")
    assert planned(prx.Client(config={}, providers=tmp_path / "given", env=env), "mine/m")[0].endswith(":3/v1")
    with pytest.raises(prx.ConfigError, match="there is no such folder"):
        prx.Client(config={}, providers=[tmp_path / "none"], env=env)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[default]\nprovder = "x"\n',
            "config.toml:2:1: default.provder: unknown key 'provder'; did you mean 'provider'?",
        ),
        (
            '\n[providers.groq]\napi_kye = "x"\n',
            "config.toml:3:1: providers.groq.api_kye: unknown key 'api_kye'; did you mean 'api_key'?",
        ),
        (
            '[providers.groq]\ntimeout = "long"\n',
            'config.toml:2:1: providers.groq.timeout: must be a number, not "long"',
        ),
        (
            '[providers.groq]\nauth_style = "baerer"\n',
            "\"baerer\" is not one of bearer, x-api-key, custom, query, none; did you mean 'bearer'?",
        ),
        ('[[model_routes]]\nprovider = "groq"\n', "config.toml:1:1: model_routes[0]: 'pattern' is missing"),
        ('[defaults]\nprovider = "x"\n', "config.toml:1:1: defaults: unknown key 'defaults'; did you mean 'default'?"),
        ("[default\n", "config.toml:1:9: not TOML"),
        ('[default]\nprovider = "a"\nprovider = "b"\n', "config.toml:3:15: not TOML: Cannot overwrite a value"),
        ("providers = 3\n", "providers: must be a mapping, not 3"),
        ('[providers.x.headers]\n"X-A" = "a\\r\\nX-B: c"\n', "does not have the required form"),
    ],
)
def test_faults(tmp_path, text, words):
    with pytest.raises(prx.ConfigError) as caught:
        client(tmp_path, text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["${KEY:-x}", "${file:/run/x}", "${MY-KEY}", "${KEY", "a${}b", "${KEY} ${", "!pass key"]
)
@pytest.mark.parametrize("key", ["api_key", "api_url", "proxy", "headers"])
def test_what_asks_for_something_else_is_never_sent_as_it_stands(tmp_path, text, key):
    """A ${ that names no variable, anywhere; a command, in place of a key."""
    value = f'{{"x-a" = "{text}"}}' if key == "headers" else f'"{text}"'
    refused = "${" in text or key == "api_key"
    try:
        client(tmp_path, f"[providers.groq]\n{key} = {value}\n", env={"KEY": "k"})
        words = ""
    except prx.ConfigError as error:
        words = str(error)
    assert (f"config.toml:2:1: providers.groq.{key}" in words) is refused
    assert ("has a ${ that names no variable" in words) is ("${" in text)
    assert ("a command is written" in words) is (text[0] == "!" and key == "api_key")
    assert not refused or text not in words.replace("a ${ that", "").replace("$${", "").replace("${NAME}", "")


def test_a_literal_is_written_with_two_dollars(tmp_path):
    api = client(tmp_path, '[providers.groq]\napi_key = "$${KEY} and ${KEY}"\n', env={"KEY": "k"})
    assert [value.reveal() for value in api.accounts.get("groq").target.auth.values()] == ["Bearer ${KEY} and k"]


def test_a_mapping_has_the_same_faults():
    with pytest.raises(prx.ConfigError, match=r"default\.provder: unknown key 'provder'"):
        prx.Client(config={"default": {"provder": "x"}}, env={})
    with pytest.raises(prx.ConfigError, match="must be a mapping"):
        prx.Client(config={"providers": {"x": 1}}, env={})


def test_a_provider_that_only_the_configuration_knows(tmp_path):
    text = '[providers.mine]\napi_url = "http://localhost:1/v1"\n[providers.slow]\nextends = "groq"\napi_url = "http://localhost:2/v1"\napi_key = "k"\n'
    api = client(tmp_path, text)
    mine, slow = api.accounts.get("mine").definition.spec(), api.accounts.get("slow").definition.spec()
    assert (mine.id, mine.dialect) == ("mine", "openai-chat")
    assert (
        slow.request.strip
        == prx.Client(config={}, env={"GROQ_API_KEY": "k"}).accounts.get("groq").definition.spec().request.strip
    )
    with pytest.raises(prx.SpecError, match="did you mean 'groq'"):
        client(tmp_path, '[providers.x]\nextends = "gorq"\napi_url = "http://localhost:1"\n').accounts.get("x")


@pytest.mark.parametrize(
    "config",
    [{"providers": {"groq": {"api_key": None}}}, {"default": None}, {"providers": {"groq": None}}, {"providers": None}],
)
def test_a_mapping_with_nothing_in_it(config):
    with pytest.raises(prx.ConfigError, match="must be"):
        prx.Client(config=config, env={})


def test_a_date_is_no_model(tmp_path):
    with pytest.raises(prx.ConfigError, match=r"config\.toml:2:1: default\.model: must be text"):
        client(tmp_path, '[default]\nmodel = 2024-05-13\nprovider = "groq"\n')


def test_an_environment_without_a_home_has_no_files_of_the_users():
    assert [str(folder) for folder in prx.Client(config={}, env={}).catalog.folders[1:]] == ["/etc/prx/providers.d"]
