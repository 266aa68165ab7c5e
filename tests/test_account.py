"""Which key goes where: the environment's to the origin of the file that names it, and nowhere else."""

from __future__ import annotations

import pytest

import prx
from prx.core.request import build
from prx.urls import check_url


def account(name="groq", *, config=None, env=None, folder=None):
    return prx.Client(config=config or {}, providers=folder, env=env or {}).accounts.get(name)


def key(found):
    values = list(found.target.auth.values())
    return values[0].reveal() if values else None


def test_a_key_from_the_environment():
    assert key(account(env={"GROQ_API_KEY": "gsk"})) == "Bearer gsk"
    assert key(account("venice", env={"VENICE_AI_API_KEY": "second"})) == "Bearer second"
    assert key(account("venice", env={"VENICE_API_KEY": " ", "VENICE_AI_API_KEY": "second"})) == "Bearer second"


def test_a_key_that_is_needed():
    with pytest.raises(prx.ConfigError) as caught:
        account("venice")
    assert "VENICE_API_KEY or VENICE_AI_API_KEY" in caught.value.hint
    assert account("vllm").target.auth == {}, "a local server needs none"


def test_the_configured_key_wins():
    config = {"providers": {"groq": {"api_key": "${MINE}"}}}
    assert key(account(config=config, env={"MINE": "mine", "GROQ_API_KEY": "theirs"})) == "Bearer mine"


def test_the_environments_key_never_goes_to_another_url():
    """With an api_url of one's own, the configuration must give the key; ${NAME} there is the consent."""
    config = {"providers": {"groq": {"api_url": "https://elsewhere.example/v1"}}}
    with pytest.raises(prx.ConfigError, match="no API key"):
        account(config=config, env={"GROQ_API_KEY": "gsk"})
    config["providers"]["groq"]["api_key"] = "${GROQ_API_KEY}"
    assert key(account(config=config, env={"GROQ_API_KEY": "gsk"})) == "Bearer gsk"
    same = {"providers": {"groq": {"api_url": "https://api.groq.com/other/v2"}}}
    assert key(account(config=same, env={"GROQ_API_KEY": "gsk"})) == "Bearer gsk", "the same origin"
    for other in ("http://api.groq.com/v1", "https://api.groq.com:8443/v1", "https://api.groq.com.evil.example/v1"):
        with pytest.raises(prx.ConfigError):
            account(config={"providers": {"groq": {"api_url": other}}}, env={"GROQ_API_KEY": "gsk"})


@pytest.mark.parametrize(
    "where", ["auth: {style: bearer, env: GROQ_API_KEY}", "request: {headers: {x-key: '${GROQ_API_KEY}'}}"]
)
def test_a_dropped_in_file_cannot_take_a_packaged_providers_key(tmp_path, where):
    (tmp_path / "thief.yaml").write_text(
        f"spec: 1\nid: thief\nextends: openai-chat\nbase_url: https://thief.example/v1\n{where}\n"
    )
    with pytest.raises(
        prx.ConfigError, match=r"asks for GROQ_API_KEY, which belongs to https://api\.groq\.com"
    ) as caught:
        account("thief", env={"GROQ_API_KEY": "gsk"}, folder=tmp_path)
    assert 'api_key = "${GROQ_API_KEY}"' in caught.value.hint
    account("thief", env={}, folder=tmp_path)


def test_a_dropped_in_file_has_variables_of_its_own(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "spec: 1\nid: mine\nextends: openai-chat\nbase_url: https://${REGION}.mine.example/v1\n"
        "auth: {style: bearer, env: MY_KEY}\nrequest: {headers: {x-team: 'team ${TEAM}'}}\n"
    )
    found = account("mine", env={"MY_KEY": "k", "REGION": "eu", "TEAM": "t"}, folder=tmp_path)
    assert found.target.base_url == "https://eu.mine.example/v1"
    assert key(found) == "Bearer k"
    assert found.target.values["TEAM"].reveal() == "t"
    with pytest.raises(prx.ConfigError, match="REGION"):
        account("mine", env={"MY_KEY": "k"}, folder=tmp_path)


def test_a_route_has_its_own_key_or_its_providers():
    """Never the default provider's: two routes to one provider, with two URLs and two keys."""
    config = {
        "default": {"provider": "openrouter", "model": "m"},
        "providers": {"openrouter": {"api_key": "DEFAULT"}},
        "model_routes": [
            {"pattern": "a/*", "provider": "compatible", "api_url": "https://a.example/v1", "api_key": "A"},
            {"pattern": "b/*", "provider": "compatible", "api_url": "https://b.example/v1"},
        ],
    }
    accounts = prx.Client(config=config, env={}).accounts
    first, second = accounts.choose("a/x")[0], accounts.choose("b/x")[0]
    assert (first.target.base_url, key(first)) == ("https://a.example/v1", "Bearer A")
    assert (second.target.base_url, key(second)) == ("https://b.example/v1", None)


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({}, {"authorization": "Bearer k"}),
        ({"auth_style": "bearer"}, {"authorization": "Bearer k"}),
        ({"auth_style": "x-api-key"}, {"x-api-key": "k"}),
        ({"auth_style": "custom", "auth_name": "api-key"}, {"api-key": "k"}),
        (
            {"auth_style": "custom", "auth_name": "Authorization", "auth_template": "Token {api_key}"},
            {"Authorization": "Token k"},
        ),
        ({"auth_template": "Key {api_key}"}, {"authorization": "Key k"}),
        ({"auth_style": "none"}, {}),
    ],
)
def test_auth_styles_of_the_configuration(settings, header):
    found = account(
        "compatible",
        config={"providers": {"compatible": {"api_url": "http://localhost:1", "api_key": "k", **settings}}},
    )
    assert {name: value.reveal() for name, value in found.target.auth.items()} == header


def test_an_auth_style_without_its_name():
    with pytest.raises(prx.ConfigError, match=r"'auth_name' is missing"):
        account(
            "compatible",
            config={"providers": {"compatible": {"api_url": "http://localhost:1", "auth_style": "custom"}}},
        )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000/v1", "http://localhost:8000/v1"),
        ("api.groq.com/openai/v1", "http://api.groq.com/openai/v1"),
        ("ftp://x.example", "not a URL that prx can call"),
        ("https://", "not a URL that prx can call"),
        ("https://user:pass@x.example/v1", "user name or password"),
        ("https://x.example/v1\r\nx: y", "not a URL that prx can call"),
        ("https://x.example:99999/v1", "not a URL that prx can call"),
        ("http://[::1/v1", "not a URL that prx can call"),
    ],
)
def test_urls_that_cannot_be_called(url, words):
    with pytest.raises(prx.ConfigError) as caught:
        check_url(url)
    assert words in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")


def test_an_address_is_needed():
    with pytest.raises(prx.ConfigError, match=r"providers\.compatible\.api_url is missing"):
        account("compatible")


def test_headers_of_the_configuration():
    config = {
        "providers": {
            "compatible": {"api_url": "http://localhost:1", "headers": {"X-Title": "t", "X-Key": "${SECOND}"}}
        }
    }
    found = account("compatible", config=config, env={"SECOND": "sec"})
    assert found.target.headers["x-title"].reveal() == "t"
    assert str(found.target.headers["x-key"]) == "***"
    assert found.target.headers["x-key"].reveal() == "sec"


def test_a_ca_file_that_is_not_there():
    config = {"providers": {"compatible": {"api_url": "https://localhost:1", "ca_file": "/nowhere.pem"}}}
    with pytest.raises(prx.ConfigError, match=r"providers\.compatible\.ca_file: /nowhere\.pem: No such file"):
        prx.Client(config=config, env={}).chat("hi", model="compatible/m")


def test_a_route_to_another_host_takes_nothing_of_the_default_provider():
    config = {
        "default": {"provider": "groq"},
        "providers": {"groq": {"api_key": "gsk-SECRET", "headers": {"x-team": "SECRET-TEAM"}}},
        "model_routes": [{"pattern": "x/*", "api_url": "http://127.0.0.1:9/v1"}],
    }
    found, _ = prx.Client(config=config, env={"GROQ_API_KEY": "gsk-SECRET"}).accounts.choose("x/m")
    assert found.target.secrets == []


def test_files_may_share_a_variable_and_be_extended(tmp_path):
    (tmp_path / "dashscope-intl.yaml").write_text("spec: 1\nid: dashscope-intl\nextends: dashscope-intl\n")
    assert key(account("dashscope-intl", env={"DASHSCOPE_API_KEY": "k"}, folder=tmp_path)) == "Bearer k"


def test_a_base_url_may_end_like_a_list_of_models():
    config = {"providers": {"compatible": {"api_url": "http://127.0.0.1:9/models"}}}
    client = prx.Client(config=config, env={})
    found, call = client.plan("hi", "compatible/m")
    request = build(found.definition.spec(), call, found.target)
    assert request.url == "http://127.0.0.1:9/models/chat/completions"


def test_variables_of_a_fallback_are_filled(tmp_path):
    (tmp_path / "f.yaml").write_text(
        "spec: 1\nid: f\nextends: openai-chat\nbase_url: http://127.0.0.1:9/v1\n"
        "fallbacks: {again: {when: status == `400`, then: {request: {headers: {x-a: '${FOO}'}}}}}\n"
    )
    assert account("f", env={"FOO": "bar"}, folder=tmp_path).target.values["FOO"].reveal() == "bar"


def test_a_packaged_file_that_cannot_be_read_gives_no_key_away(tmp_path, monkeypatch):
    """Once unreadable, never forgotten: not by this client, and not by one that finds what was kept of it."""
    from prx.spec import files

    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "evil.yaml").write_text(
        "spec: 1\nid: evil\nname: E\nextends: openai-chat\nbase_url: https://evil.example/v1\nauth: {env: GROQ_API_KEY}\n"
    )
    env = {"GROQ_API_KEY": "gsk_secret", "PRX_CACHE": str(tmp_path / "cache")}
    read = files.data_of

    def once(path, *limit):
        if path.name == "groq.yaml":
            raise OSError(5, "Input/output error")
        return read(path, *limit)

    with monkeypatch.context() as patched:
        patched.setattr(files, "data_of", once)
        with pytest.raises(prx.Error):
            prx.Client({}, tmp_path / "d", env=env).plan("hi", "evil/m")
    for _ in range(2):
        with pytest.raises(prx.ConfigError, match="asks for GROQ_API_KEY"):
            prx.Client({}, tmp_path / "d", env=env).plan("hi", "evil/m")
