"""OpenAI's SDK for Python before the gateway: embeddings, pictures, speech, transcripts, moderation and completions."""

from __future__ import annotations

import base64
from typing import Any

import common
from common import HELLO, HELLO_ANSWER, same

openai = common.needs("openai", "openai")

TEXTS = ["The cat sat on the mat.", "A cat sat on a mat.", "Interest rates fell."]
PNG, WAV = b"\x89PNG", b"RIFF"


def product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


with common.gateway() as gateway:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=60)

    def embedded(model: str, **asked: Any) -> Any:
        found = client.embeddings.create(model=model, input=TEXTS, **asked)
        vectors = [row.embedding for row in found.data]
        same([row.index for row in found.data], [0, 1, 2])
        same(product(vectors[0], vectors[1]) > product(vectors[0], vectors[2]) + 0.2, True)
        return f"{len(vectors)} vectors of {len(vectors[0])}"

    def embeddings(model: str) -> Any:
        return same(embedded(model), "3 vectors of 64")  # as base64, which the SDK asks for unless it is told otherwise

    def embeddings_as_numbers(model: str) -> Any:
        return same(embedded(model, encoding_format="float", dimensions=128), "3 vectors of 128")

    def picture(model: str) -> Any:
        found = client.images.generate(model=model, prompt="a cat", n=2, size="64x64")  # type: ignore[call-overload]
        return same([base64.b64decode(each.b64_json)[:4] for each in found.data], [PNG, PNG])

    def speech(model: str) -> Any:
        found = client.audio.speech.create(model=model, voice="alloy", input=HELLO, response_format="wav")
        same(found.response.headers["content-type"], "audio/wav")
        return same(found.content[:4], WAV)

    def streamed_speech(model: str) -> Any:
        with client.audio.speech.with_streaming_response.create(model=model, voice="alloy", input=HELLO * 20) as found:
            pieces = [*found.iter_bytes(4096)]
        same(pieces[0][:4], WAV)
        return same(len(pieces) > 5 and f"{len(pieces)} pieces", f"{len(pieces)} pieces")

    def transcript(model: str) -> Any:
        sound = client.audio.speech.create(model=model, voice="alloy", input="a" * 50).content
        found = client.audio.transcriptions.create(model=model, file=("a.wav", sound, "audio/wav"), language="en")
        return same(found.text, "A recording of 3.0 seconds.")

    def moderation(model: str) -> Any:
        found = client.moderations.create(model=model, input=["I will kill him", "I like him"])
        return same([row.flagged for row in found.results], [True, False])

    def completion(model: str) -> Any:
        found = client.completions.create(model=model, prompt=HELLO, max_tokens=100)
        same(found.choices[0].finish_reason, "stop")
        return same(found.choices[0].text, HELLO_ANSWER)

    common.judge(
        f"openai {openai.__version__}, other calls",
        {
            "embeddings": embeddings, "embeddings as numbers": embeddings_as_numbers, "picture": picture, "speech": speech,
            "streamed speech": streamed_speech, "transcript": transcript, "moderation": moderation, "completion": completion,
        },
        gateway.models,
    )  # fmt: skip
