"""The README's first command: a conversation over real HTTP, through an ordinary file."""

from __future__ import annotations

import subprocess
import sys

import prx


def test_demo_converses():
    done = subprocess.run(
        [sys.executable, "-m", "prx", "demo"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for words in (
        "Hello!",
        "2 + 2 = 4.",
        "16 by 16 pixels",
        'get_weather({"city": "London"})',
        "The tool says: sunny",
        "You said: Are you still there?",
    ):
        assert words in done.stdout
    assert "answered with the fallback responses" in done.stderr


def test_chat_and_stream_say_the_same(emulator):
    with prx.Client(config={"providers": {"compatible": {"api_url": emulator.url}}}, env={}) as client:
        whole = client.chat("Say hello.", model="compatible/words")
        with client.stream("Say hello.", model="compatible/words") as stream:
            pieces = [delta.content for delta in stream if delta.content]
    assert len(pieces) > 5
    assert whole.content == "".join(pieces) == stream.reply.content
    assert whole.usage == stream.reply.usage is not None
    assert (whole.streamed, stream.reply.streamed) == (False, True)
