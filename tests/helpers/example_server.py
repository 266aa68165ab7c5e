"""A server of Parley, the made-up API of docs/write-a-dialect.md. By hand: python3 tests/helpers/example_server.py [PORT]

It answers the same words to the same talk, and refuses whatever the API has no word for.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASS = "let-me-in"
CAST = {"owl": True, "moth": True, "dragon": False}  # by name: whether it is awake
WORDS = {"who", "brief", "script", "tuning", "abilities", "may_use", "live"}
TUNING = {"heat", "spread", "length", "halt", "ponder"}


class TroubleError(Exception):
    """A refusal: HTTP's status, and the object that goes with it."""

    def __init__(self, status, name, words, **more):
        super().__init__(words)
        self.status, self.body = status, {"trouble": {"name": name, "words": words, **more}}


def refuse_unless(fits, words):
    if not fits:
        raise TroubleError(400, "odd_word", words)


# ------------------------------------------------------------------ what it understands


def admit(given):
    if given != PASS:
        raise TroubleError(401, "no_pass", "This pass opens no door here.")


def check(talk):
    for where, given, known in (("a talk", talk, WORDS), ("tuning", talk.get("tuning", {}), TUNING)):
        refuse_unless(not given.keys() - known, f"{where} has no {', '.join(sorted(given.keys() - known))!r}")
    if talk.get("who") not in CAST:
        raise TroubleError(404, "nobody", f"There is no model {talk.get('who')!r} in the cast.")
    if talk["who"] == "moth":
        raise TroubleError(409, "purse_empty", "The moth wants a coin.", wait=3600)
    refuse_unless(0 <= talk.get("tuning", {}).get("heat", 0) <= 1, "heat goes from 0 to 1")
    refuse_unless(talk.get("script"), "the script is empty")
    may_use = talk.get("may_use", "freely")
    refuse_unless(may_use in ("freely", "never", "must") or may_use.keys() == {"only"}, "may_use?")
    for ability in talk.get("abilities", ()):
        refuse_unless({"called"} <= ability.keys() <= {"called", "purpose", "takes"}, "an odd ability")
    for scene in talk["script"]:
        refuse_unless(scene.keys() == {"speaker", "lines"}, "a scene has a speaker and lines")
        refuse_unless(scene["speaker"] in ("guest", "host"), f"who is the {scene['speaker']}?")
        for line in scene["lines"]:
            check_line(*next(iter(line.items())))


def check_line(kind, value):
    if kind == "text":
        refuse_unless(isinstance(value, str) and value, "a text is a text")
        return
    keys = {
        "picture": [{"kind", "data"}, {"link"}],
        "request": [{"ticket", "ability", "with"}],
        "outcome": [{"ticket", "text"}],
    }
    refuse_unless(kind in keys and value.keys() in keys[kind], f"an odd line: {kind}")
    refuse_unless(kind != "request" or isinstance(value["with"], dict), "with is an object")


# ------------------------------------------------------------------ what it says


def answer(talk):
    """(thought, text, requests, ended)"""
    tuning, lines = talk.get("tuning", {}), talk["script"][-1]["lines"]
    prompt = " ".join(line["text"] for line in lines if "text" in line)
    outcomes = [line["outcome"]["text"] for line in lines if "outcome" in line]
    if talk.get("abilities") and talk.get("may_use") != "never" and not outcomes:
        name = talk["abilities"][0]["called"]
        places = re.findall(r"\b(?:in|and) ([A-Z]\w+)", prompt)
        if places:
            return "", "", [(f"t{i}", name, {"city": place}) for i, place in enumerate(places)], "waiting"
    text = f"You were told: {' and '.join(outcomes)}" if outcomes else said(talk, prompt, lines)
    for end in tuning.get("halt", ()):
        text = text.partition(end)[0]
    words = re.findall(r"\s*\S+", text)
    cut = len(words) > tuning.get("length", 1000)
    thought = f"I look for a question in {prompt!r}." if tuning.get("ponder", "never") != "never" else ""
    return thought, "".join(words[: tuning["length"]] if cut else words), [], "cut" if cut else "done"


def said(talk, prompt, lines):
    first = " ".join(line["text"] for line in talk["script"][0]["lines"] if "text" in line)
    pictures = [line["picture"] for line in lines if "picture" in line]
    if pictures and "colour" in prompt:
        return colour(base64.b64decode(pictures[0]["data"]))
    if "story" in prompt:
        return "Once there was a house with a sign, " + "and in the house a room, " * 12 + "and it is told."
    if sum_ := re.search(r"(\d+)\+(\d+)", prompt):
        return f"{sum_[1]} and {sum_[2]} are {int(sum_[1]) + int(sum_[2])}."
    if pictures:
        return f"I see {' and '.join(map(seen, pictures))}."
    if "say first" in prompt:
        return f"First you said: {first}"
    return f"My brief is: {talk.get('brief')}" if "brief" in prompt else f"You said: {prompt}"


def colour(png):
    """Of a picture's first pixel."""
    start = png.find(b"IDAT")
    row = zlib.decompress(png[start + 4 : start + 4 + int.from_bytes(png[start - 4 : start], "big")])
    return {(255, 0, 0): "Red."}.get(tuple(row[1:4]), "I cannot say.")


def seen(picture):
    if "link" in picture:
        return f"the address {picture['link']}"
    return f"a picture: {picture['kind']}, {len(base64.b64decode(picture['data'], validate=True))} bytes"


def spent(talk, thought, text, requests):
    heard = sum(len(line.get("text", "").split()) for scene in talk["script"] for line in scene["lines"])
    return {"heard": heard, "said": len(text.split()) + 3 * len(requests), "pondered": len(thought.split())}


def whole(talk):
    thought, text, requests, ended = answer(talk)
    lines = [{"thought": thought}] * bool(thought) + [{"text": text}] * bool(text)
    lines += [{"request": {"ticket": ticket, "ability": name, "with": value}} for ticket, name, value in requests]
    scene = {"speaker": "host", "lines": lines}
    return {"who": talk["who"], "scene": scene, "ended": ended, "spent": spent(talk, thought, text, requests)}


def beats(talk):
    thought, text, requests, ended = answer(talk)
    yield {"beat": "open", "who": talk["who"]}
    yield {"beat": "wind", "force": 3}  # of no use to anybody
    yield from ({"beat": "thought", "text": word} for word in re.findall(r"\s*\S+", thought))
    for word in re.findall(r"\s*\S+", text):
        yield {"beat": "text", "text": word}
        if "storm" in word:
            yield {"beat": "trouble", "trouble": {"name": "storm", "words": "The roof came down."}}
    for place, (ticket, name, _) in enumerate(requests):
        yield {"beat": "request", "place": place, "ticket": ticket, "ability": name}
    for half in (0, 1):  # the pieces of several requests come by turns
        for place, (_, _, value) in enumerate(requests):
            written = json.dumps(value)
            piece = written[5:] if half else written[:5]
            yield {"beat": "more", "place": place, "with": piece}
    if "cliff" not in text:
        yield {"beat": "close", "ended": ended, "spent": spent(talk, thought, text, requests)}


# ------------------------------------------------------------------ HTTP


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.play(self.cast)

    def do_POST(self):
        self.play(self.talk)

    def play(self, what):
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            admit(self.headers.get("pass"))
            what(data)
        except TroubleError as trouble:
            self.whole(trouble.status, trouble.body)

    def cast(self, data):
        if self.path != "/cast":
            raise TroubleError(404, "no_stage", f"There is nothing at {self.path}.")
        self.whole(200, {"cast": [{"name": name, "awake": awake} for name, awake in CAST.items()]})

    def talk(self, data):
        if self.path != "/talk":
            raise TroubleError(404, "no_stage", f"There is nothing at {self.path}.")
        talk = json.loads(data)
        self.server.talks.append(talk)
        check(talk)
        if not talk.get("live"):
            self.whole(200, whole(talk))
            return
        self.head(200, "text/event-stream", "transfer-encoding", "chunked")
        for beat in beats(talk):
            event = f"data: {json.dumps(beat)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def whole(self, status, body):
        data = json.dumps(body).encode() + b"\n"
        self.head(status, "application/json", "content-length", str(len(data)))
        self.wfile.write(data)

    def head(self, status, kind, name, value):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header(name, value)
        self.end_headers()

    def log_message(self, *words):
        pass


class Parley(ThreadingHTTPServer):
    """The server, on a thread as long as the `with` lasts. talks: the bodies that it was sent."""

    daemon_threads = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.talks = []
        self.address = f"localhost:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


if __name__ == "__main__":
    with Parley(int(sys.argv[1]) if sys.argv[1:] else 8484) as parley, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"Parley listens on {parley.address}\n")
        sys.stdout.flush()
        threading.Event().wait()
