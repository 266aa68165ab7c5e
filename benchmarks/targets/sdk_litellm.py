"""litellm, without the price list that it would fetch on import."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

VENV = "litellm"
PACKAGES = ("litellm",)
IMPORT = "import os; os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] = 'True'; import litellm"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    to = {"model": "openai/m", "api_base": url, "api_key": "sk-none", "max_retries": 0}

    def chat(text: str) -> str:
        return litellm.completion(messages=[{"role": "user", "content": text}], **to).choices[0].message.content

    def stream(text: str) -> Iterator[str]:
        for event in litellm.completion(messages=[{"role": "user", "content": text}], stream=True, **to):
            if event.choices and (piece := event.choices[0].delta.content):
                yield piece

    return chat, stream
