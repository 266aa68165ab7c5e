"""The comparison of the provider files with public catalogues, on small files: what it finds, and what it says of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "catalogue_drift.py"


def listed(address, variable, **images):
    models = {
        name: {"modalities": {"input": ["text", *["image"] * sees], "output": ["text"]}}
        for name, sees in images.items()
    }
    return {"api": address, "env": [variable], "models": models}


MODELS_DEV = {
    "same": listed("https://same.example/v1/", "SAME_KEY", one=True),
    "theirs": listed("https://new.example/v1", "NEW_KEY", old=False),
    "blind": listed("https://blind.example/v1", "BLIND_KEY", sees=True, other=False),
}
LITELLM = {"same": {"base_url": "https://elsewhere.example/v1", "api_key_env": "SAME_KEY"}}
CITES = "{{of: [base_url], kind: documented, source: 'models.dev in opencode 1.2.3 (npm), {}', date: '2026-01-02'}}"
FILES = {
    "same": "aliases: [alike]\nbase_url: https://same.example/v1\nauth: {env: [OTHER_KEY, SAME_KEY]}\n",
    "ours": f"base_url: https://old.example/v1\nauth: {{env: OLD_KEY}}\nevidence:\n  - {CITES.format('theirs')}\n",
    "blind": "base_url: https://blind.example/v1\nauth: {env: BLIND_KEY}\ncapabilities: {vision: false}\n",
    "fled": f"base_url: https://fled.example/v1\nevidence:\n  - {CITES.format('no-more')}\n",
    "dead": f"base_url: https://dead.example/v1\nretired: {{date: '2026-07-30'}}\nevidence:\n  - {CITES.format('dead-too')}\n",
}


@pytest.fixture
def given(tmp_path):
    folder = tmp_path / "providers"
    folder.mkdir()
    for name, text in FILES.items():
        head, sep, rest = text.partition("base_url")
        (folder / f"{name}.yaml").write_text(f"spec: 1\nid: {name}\n{head}extends: openai-chat\n{sep}{rest}")
    (tmp_path / "api.json").write_text(json.dumps(MODELS_DEV))
    (tmp_path / "providers.json").write_text(json.dumps(LITELLM))
    return {"--providers": folder, "--models-dev": tmp_path / "api.json", "--litellm": tmp_path / "providers.json"}


def run(given):
    words = [str(word) for pair in given.items() for word in pair]
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)


def test_what_differs_is_listed(given):
    done = run(given)
    assert done.stdout.splitlines() == [
        "blind: modality: vision is denied here; there sees has it (models.dev)",
        "fled: gone: models.dev has no no-more any more (models.dev)",
        "ours: address: https://old.example/v1 here, https://new.example/v1 there (models.dev)",
        "ours: variable: OLD_KEY here, NEW_KEY there (models.dev)",
        "same: address: https://same.example/v1 here, https://elsewhere.example/v1 there (LiteLLM)",
        "5 differences",
    ]
    assert (done.returncode, done.stderr) == (1, "")


def test_nothing_differs(given):
    done = run({**given, "--only": "d*"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 differences\n", "")


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--models-dev", None, "models.dev: {} cannot be read: [Errno 2]"),
        ("--models-dev", "<html>", "models.dev: {} is not the catalogue's JSON"),
        ("--models-dev", "[1]", "models.dev: {} is not the catalogue's JSON"),
        ("--litellm", '{"same": {"api": 1}}', "LiteLLM: {} is not the catalogue's JSON"),
    ],
)
def test_bad_input_gets_a_sentence(given, tmp_path, option, text, words):
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_text(text)
    done = run({**given, option: path})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"catalogue_drift: {words.format(path)}")
    assert len(done.stderr.splitlines()) == 1
