"""Folders of files: later ones win, an alias finds its provider, and a file may build on a weaker one of its name."""

from __future__ import annotations

import pytest

from prx.errors import ConfigError, SpecError
from prx.spec.loader import Loader


def write(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(f"spec: 1\nid: {name}\n{text}")


def test_an_alias_finds_its_provider(tmp_path):
    write(tmp_path, "mine", "extends: openai-chat\nbase_url: http://localhost:1\naliases: [my-own, my.own]\n")
    catalog = Loader([tmp_path])
    assert catalog.get("my.own").id == "mine"
    assert catalog.get("grok").id == "xai"
    assert catalog.entry("nobody") is None


@pytest.mark.parametrize("name", ["venice", "vercel", "vercel-ai", "cloudflare", "cloudflare-ai", "groq", "mistral", "xai", "grok", "qianfan", "baidu", "synthetic", "opencode", "opencode-zen", "litellm", "lite-llm", "vllm", "v-llm", "huggingface", "hf", "minimax", "glm", "zhipu", "dashscope", "qwen", "kimi", "llama.cpp", "llamacpp", "ollama", "deepseek", "openrouter", "openai", "compatible"])  # fmt: skip
def test_the_promised_names_are_there(name):
    assert Loader().get(name).spec().endpoints["chat"] == "/chat/completions"


def test_later_folders_win(tmp_path):
    write(tmp_path / "a", "groq", "extends: openai-chat\nbase_url: http://a.example/v1\n")
    write(tmp_path / "b", "groq", "extends: openai-chat\nbase_url: http://b.example/v1\n")
    assert Loader([tmp_path / "a", tmp_path / "b"]).get("groq").spec().base_url == "http://b.example/v1"
    assert [entry.id for entry in Loader([tmp_path / "a"]).entries()].count("groq") == 1


def test_a_file_may_extend_the_weaker_one_of_its_own_name(tmp_path):
    write(tmp_path / "a", "groq", "extends: groq\nrequest: {headers: {x-a: '1'}}\n")
    write(tmp_path / "b", "groq", "extends: groq\nrequest: {headers: {x-b: '2'}}\n")
    spec = Loader([tmp_path / "a", tmp_path / "b"]).get("groq").spec()
    assert spec.base_url == "https://api.groq.com/openai/v1"
    assert spec.request.headers == {"x-a": "1", "x-b": "2"}


def test_chains_and_removals(tmp_path):
    write(
        tmp_path,
        "one",
        "extends: openai-chat\nbase_url: http://localhost:1\nrequest: {parameters: {seed: {rename: s}}}\n",
    )
    write(tmp_path, "two", "extends: one\nrequest: {parameters: {seed: null}, body: {tools: null}}\n")
    spec = Loader([tmp_path]).get("two").spec()
    assert spec.request.parameters == ()
    assert "tools" not in spec.request.body_source
    assert (spec.base_url, spec.dialect, spec.aliases) == ("http://localhost:1", "openai-chat", ())


def test_a_dialect_of_ones_own(tmp_path):
    write(
        tmp_path / "_dialects",
        "words",
        "endpoints: {chat: /say}\nrequest: {body: {text: =model}}\nresponse: {content: text}\n",
    )
    write(tmp_path, "mine", "extends: words\nbase_url: http://localhost:1\n")
    catalog = Loader([tmp_path])
    assert catalog.get("mine").spec().dialect == "words"
    assert catalog.entry("words") is None, "a dialect is no provider"
    assert "words" in catalog.dialects()


def test_own_rules_come_first(tmp_path):
    write(
        tmp_path,
        "mine",
        "extends: openai-chat\nbase_url: http://localhost:1\nerrors: {rules: {mine: {when: 'code', kind: quota}}}\n",
    )
    rules = Loader([tmp_path]).get("mine").spec().errors.rules
    assert rules[0].name == "mine"
    assert len(rules) > 5


def test_unknown_names():
    with pytest.raises(ConfigError, match="unknown provider 'gorq'; did you mean 'groq'"):
        Loader().get("gorq")
    for name in ("../groq", "/etc/passwd", ".hidden", "", "_dialects"):
        assert Loader().entry(name) is None
    with pytest.raises(SpecError, match="did you mean 'openai-chat'"):
        Loader().dialect_or_provider("openai-chta")


def test_variants_are_compiled_once():
    definition = Loader().get("groq")
    assert definition.spec("a") is definition.spec("b"), "no overrides: one spec for all models"
    assert definition.spec("m", ("responses",)).dialect == "openai-responses"
    assert definition.spec("m", ("responses",)).base_url == definition.spec().base_url


@pytest.mark.parametrize(
    ("model", "dialect"),
    [("gpt-5.1", "openai-chat"), ("gpt-5-pro", "openai-responses"), ("o3-pro-2025-06-10", "openai-responses")],
)
def test_a_model_may_have_a_dialect_of_its_own(model, dialect):
    assert Loader().get("openai").spec(model).dialect == dialect


@pytest.mark.parametrize(
    "line",
    [
        "aliases: 5",
        "aliases: [[1]]",
        "former_urls: 5",
        "base_url: 'http://['",
        "x: !!bool maybe",
        "x: !!timestamp abc",
        "x: !!int ''",
    ],
)
def test_a_bad_file_leaves_its_neighbours_alone(tmp_path, line):
    write(tmp_path, "odd", f"spec: 1\nid: odd\nextends: openai-chat\n{line}\n")
    catalog = Loader([tmp_path])
    assert catalog.get("kimi").id == "moonshot"
    assert "groq" in catalog.names
    assert catalog.claims["GROQ_API_KEY"]
    with pytest.raises(SpecError):
        catalog.get("odd")
