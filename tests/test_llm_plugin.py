"""engine/llm-prx before `prx demo`, in the real llm: models, keys, streams, tools, schemas, attachments, usage, and without a thread."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from helpers.byte_server import RawServer, response
from helpers.elsewhere import demo, python_with

import prx.resources

HELLO = "Hello! I am a small program on your own machine"
WEATHER = 'def get_weather(city: str) -> str:\n    """Weather of a city"""\n    return f"sunny in {city}"\n'


@pytest.fixture(scope="module")
def url():
    with demo() as url:
        yield url


@pytest.fixture
def llm(url, tmp_path):
    """Runs llm with arguments, in a folder of its own: gives its standard output."""
    python = python_with("llm")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[default]\nprovider = "openai-demo"\nmodel = "words"\n'
        f'[providers.openai-demo]\nextends = "openai-chat"\napi_url = "{url}/v1"\nmodel = "words"\napi_key = "k"\n'
        f'[providers.anthropic-demo]\nextends = "anthropic-messages"\napi_url = "{url}/v1"\napi_key = "k"\n'
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LLM_USER_PATH": str(tmp_path), "PRX_CONFIG": str(config)}

    def run(*arguments, code=0, script=False):
        program = [python, *arguments] if script else [python, "-m", "llm", *arguments]
        done = subprocess.run(
            program, capture_output=True, text=True, timeout=120, env=env, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == code, done.stderr or done.stdout
        return done.stdout or done.stderr

    run.folder, run.config = tmp_path, config
    return run


def test_every_provider_is_a_model(llm):
    listed = llm("models", "list")
    ids = [path.stem for path in prx.resources.folder("providers.d").glob("*.yaml")]
    assert all(f" prx/{name}\n" in listed for name in [*ids, "openai-demo"])


def test_whole_and_streamed(llm):
    for options in (["--no-stream"], [], ["--async"]):
        assert HELLO in llm("-m", "prx/openai-demo", *options, "Say hello.")
    assert HELLO in llm("-m", "prx", "Say hello.")
    assert HELLO in llm("-m", "prx/anthropic-demo", "-o", "model", "words", "-o", "temperature", "0.5", "Say hello.")


def test_a_providers_own_listing(llm):
    assert "prx/openai-demo/words\n" in llm("prx", "models", "openai-demo")
    assert "prx/openai-demo/words" in llm("models", "list")
    assert HELLO in llm("-m", "prx/openai-demo/words", "Say hello.")


@pytest.mark.parametrize("provider", ["openai-demo", "anthropic-demo"])
@pytest.mark.parametrize("options", [[], ["--no-stream"], ["--async"]], ids=" ".join)
def test_tools_and_schemas(llm, provider, options):
    asked = ["-m", f"prx/{provider}", "-o", "model", "words", *options]
    said = llm(*asked, "--functions", WEATHER, "What is the weather in Paris and London?")
    assert "sunny in Paris" in said
    assert "sunny in London" in said
    assert json.loads(llm(*asked, "--schema", "name str, age int", "Give me a person as JSON.")) == {
        "name": "Ada",
        "age": 36,
    }


def test_usage_and_the_conversation_are_kept(llm):
    llm("-m", "prx/openai-demo", "Say hello.")
    llm("-c", "And again: say hello.")
    rows = json.loads(llm("logs", "--json", "-n", "0"))
    assert [row["resolved_model"] for row in rows] == ["words", "words"]
    assert all(row["input_tokens"] and row["output_tokens"] for row in rows)


def last_request(llm, *arguments, answers=(), provider="mine", config=""):
    """The requests that llm sends to a server which plays these answers."""
    with RawServer(*(answers or [response()])) as server:
        llm.config.write_text(
            f'[providers.mine]\nextends = "openai-chat"\napi_url = "{server.url}"\nmodel = "m"\n{config}'
        )
        llm("-m", f"prx/{provider}", *arguments)
    return server.requests


def test_keys_of_either_store(llm):
    def key(*arguments, config=""):
        return last_request(llm, *arguments, "--no-stream", "hi", config=config)[0]["headers"].get("authorization")

    assert key() is None
    llm("keys", "set", "mine", "--value", "sk-${of-llm}")
    assert key() == "Bearer sk-${of-llm}"
    assert key(config='api_key = "of-prx"\n') == "Bearer of-prx"
    assert key("--key", "given", config='api_key = "of-prx"\n') == "Bearer given"


def test_attachments(llm):
    picture = llm.folder / "dot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 20)
    sound = llm.folder / "a.wav"
    sound.write_bytes(b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 20)
    (request,) = last_request(llm, "--no-stream", "What?", "-a", str(picture), "--at", str(sound), "audio/wav")
    text, image, audio = request["body"]["messages"][0]["content"]
    assert text == {"type": "text", "text": "What?"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert audio["input_audio"]["format"] == "wav"


def test_options_and_what_goes_wrong(llm):
    (request,) = last_request(
        llm,
        "--no-stream",
        "-s",
        "Be brief.",
        "-o",
        "temperature",
        "0.5",
        "-o",
        "stop",
        '["x"]',
        "-o",
        "thinking",
        "on",
        "hi",
    )
    assert {name: request["body"].get(name) for name in ("temperature", "stop", "thinking")} == {
        "temperature": 0.5,
        "stop": ["x"],
        "thinking": "on",
    }
    assert request["body"]["messages"][0] == {"role": "system", "content": "Be brief."}
    said = llm("-m", "prx/mine", "-o", "retry", "3", "hi", code=1)
    assert said == (
        "Error: 'retry' is not an option of a call; did you mean 'retries'?\nIf the provider has a parameter of this name: extra_body={'retry': …}.\n"
    )
    assert "no model of groq is named" in llm("-m", "prx/groq", "hi", code=1)


THOUGHT = {"reasoning_content": "Hmm. ", "reasoning_details": [{"type": "reasoning.encrypted", "data": "abc"}]}


def test_what_a_provider_wants_back_goes_back(llm):
    """Encrypted reasoning, in the next turn of a conversation that llm has kept on disk."""
    script = """
import llm
model = llm.get_model("prx/signed")
conversation = model.conversation()
first = conversation.prompt("one", stream=STREAM)
print(first.text(), [type(part).__name__ for part in first.messages()[0].parts])
print(conversation.prompt("two", stream=STREAM).text())
"""
    signed = {
        "content": [{"type": "thinking", "thinking": "Hmm.", "signature": "sig"}, {"type": "text", "text": "Yes."}],
        "stop_reason": "end_turn",
    }
    with RawServer(response(200, signed)) as server:
        llm.config.write_text(
            f'[providers.signed]\nextends = "anthropic-messages"\napi_url = "{server.url}"\nmodel = "m"\napi_key = "k"\n'
        )
        llm("-c", script.replace("STREAM", "False"), script=True)
    content = server.requests[1]["body"]["messages"][1]["content"]
    assert content[0] == {"type": "thinking", "thinking": "Hmm.", "signature": "sig"}
    assert content[1]["text"] == "Yes."
