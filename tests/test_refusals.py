"""Refusals that teach: what an error names is left out, just that, and the reply says so. tests/refusals.yaml has the words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import data_files
from helpers.async_as_blocking import AsyncAsBlocking
from helpers.byte_server import DONE, RST, RawServer, delta, response, stream
from helpers.driver_without_io import COMPLETION, chunk, definition, play

import prx
from prx.core.refusals import _as_a_word
from prx.spec.loader import Loader

ANSWERS = {
    "chat": COMPLETION,
    "responses": {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "hello"}]}]},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}]},
    "anthropic": {"content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn"},
}  # fmt: skip
ROWS = data_files.read(Path(__file__).parent / "refusals.yaml")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_words_of_refusals(row, streamed):
    call = {key: row[key] for key in ("messages", "tools", "params") if key in row} | {"stream": streamed}
    first = {key: row[key] for key in ("status", "json", "text") if key in row}
    refused = [{"status": 400, **first}, *({"status": 400, "json": each} for each in row.get("then", ()))]  # fmt: skip
    played = play(row.get("spec", {}), call, [*refused, {"json": ANSWERS[row.get("answer", "chat")]}], retries=0)
    if row["by"]:
        assert played.error is None, played.error
        assert list(played.reply.fallbacks) == row["by"]
        assert played.reply.content == "hello"
        body = str(played.requests[-1]["body"])
        assert all(text not in body for text in row.get("lacks", ())), body
        assert all(text in body for text in row.get("has", ())), body
        assert [delta.content for delta in played.deltas] == (["hello"] if streamed else [])
    else:
        assert played.error is not None
        assert (len(played.requests), played.error.fallbacks) == (1, ())


def test_every_part_of_the_packaged_rows_is_named():
    """By its own name in quotes, and by each of the words that the row has for it."""
    rows = Loader().get("openai").spec().fallbacks
    assert {row.name for row in rows if row.words} == {"without_parameter", "without_key"}
    for row in rows:
        for what, words in (row.words or {}).items():
            spec = {"request": {"strip": {what: False}}}  # some are always stripped
            message = {"role": "user", "content": "hi", **({what: "x"} if row.strips else {})}
            call = {"messages": [message], "params": {what: "x"} if row.leaves_out else {}}
            for text in (f"'{what}' is unknown", *(f"{word}, which is unknown" for word in words)):
                played = play(spec, call, [{"status": 400, "json": {"error": {"message": text}}}, {}], retries=0)
                assert played.reply.fallbacks == (f"without_{what}",), text
                body = played.requests[1]["body"]
                assert what not in body
                assert what not in body["messages"][0]


def test_a_word_stands_by_itself():
    for word, text, found in (
        ("top_p", "top p", True), ("top_p", "topp", True), ("top_p", "top-p", True), ("top_p", "top_pp", False), ("seed", "seeds", False),
        ("seed", "random_seed", False), ("seed", "参数seed无效", True), ("a.b", "axb", False),
    ):  # fmt: skip
        assert bool(_as_a_word(word).search(text)) is found, (word, text)


# ------------------------------------------------------------------ at most four, and only what is allowed

MANY = {"top_p": 1, "top_k": 1, "min_p": 1, "temperature": 1, "seed": 1, "verbosity": "low"}


def refusing(*names):
    return [{"status": 400, "json": {"error": {"message": f"{name} is not supported"}}} for name in names]


def test_no_more_than_four():
    played = play({}, {"params": MANY}, [*refusing("top_p", "seed", "top_k", "min_p"), {}], retries=0)
    assert played.reply.fallbacks == ("without_top_p", "without_seed", "without_top_k", "without_min_p")
    played = play({}, {"params": MANY}, [*refusing(*MANY), {}], retries=0)
    assert len(played.requests) == 5
    assert played.error.message == "top_p is not supported", "the first one led to all others"
    assert len(played.error.history) == 5
    kept = tuple(f"without_{name}" for name in MANY if name != "seed")
    played = play({}, {"params": MANY}, [*refusing("seed"), {}], retries=0, remembered=kept)
    assert set(played.reply.fallbacks) == {*kept, "without_seed"}, "what is known already was not found out now"


def test_what_was_left_out_is_not_left_out_again():
    played = play({}, {"params": {"temperature": 1}}, refusing("temperature"), retries=0)
    assert (len(played.requests), played.error.attempts) == (2, 2)


@pytest.mark.parametrize(
    ("allowed", "by"),
    [
        (None, ("without_temperature",)), ((), None), (("without_temperature",), ("without_temperature",)),
        (("without_parameter",), ("without_temperature",)), (("without_top_p",), None), (("without_key",), None), (("responses",), None),
    ],
)  # fmt: skip
def test_what_a_call_allows(allowed, by):
    played = play({}, {"params": {"temperature": 1, "top_p": 1}}, [*refusing("temperature"), {}], retries=0, fallbacks=allowed)  # fmt: skip
    assert (played.reply and played.reply.fallbacks) == by


def test_a_row_that_is_off_is_there_by_name():
    spec = {"fallbacks": {"without_parameter": {"enabled": False}}}
    answers = [*refusing("temperature"), {}]
    assert play(spec, {"params": {"temperature": 1}}, answers, retries=0).error.status == 400
    for name in ("without_parameter", "without_temperature"):
        played = play(spec, {"params": {"temperature": 1}}, answers, retries=0, fallbacks=(name,))
        assert played.reply.fallbacks == ("without_temperature",)
    gone = [{"status": 404, "json": {"detail": "Not Found"}}, *answers]
    assert play(spec, {"params": {"temperature": 1}}, gone, retries=0).error.status == 404, "also in another dialect"
    needs = {"capabilities": {"vision": False}, "fallbacks": {"without_parameter": {"needs": "vision"}}}
    assert play(needs, {"params": {"temperature": 1}}, answers, retries=0).error.status == 400


def test_a_name_that_is_unknown_says_which_are_known():
    played = play({}, {}, [{}], fallbacks=("without_temprature",))
    assert played.error.kind == "config"
    assert "no fallback is called 'without_temprature'; did you mean 'without_temperature'?" in str(played.error)
    assert "without_parameter (without_top_p, without_top_k, " in str(played.error)
    assert not played.requests


def test_a_files_own_words_come_first_and_null_takes_away():
    spec = {"fallbacks": {"without_parameter": {"leaves_out": {"aroma": ["smell"], "temperature": None}}}}
    answers = [{"status": 400, "json": {"error": {"message": "neither smell nor top_p, please"}}}, {}]
    call = {"params": {"aroma": "x", "top_p": 1, "temperature": 1}}
    assert play(spec, call, answers, retries=0).reply.fallbacks == ("without_aroma",)
    assert play(spec, call, [*refusing("temperature"), {}], retries=0).error.status == 400


def test_a_row_of_that_name_stands_in_the_parts_place():
    row = {"when": "status == `400`", "says": ["too warm"], "then": {"request": {"parameters": {"temperature": {"max": 0.5}}}}}  # fmt: skip
    spec = {"fallbacks": {"without_temperature": row}}
    warm = [{"status": 400, "json": {"error": {"message": "too warm"}}}, {}]
    played = play(spec, {"params": {"temperature": 1}}, warm, retries=0)
    assert played.reply.fallbacks == ("without_temperature",)
    assert played.requests[1]["body"]["temperature"] == 0.5
    assert play(spec, {"params": {"temperature": 1}}, [*refusing("temperature"), {}], retries=0).error.status == 400


def test_a_default_of_the_file_is_left_out_as_well():
    spec = {"request": {"parameters": {"seed": {"default": 7}}}}
    played = play(spec, {}, [*refusing("seed"), {}], retries=0)
    assert played.requests[0]["body"]["seed"] == 7
    assert played.reply.fallbacks == ("without_seed",)
    assert "seed" not in played.requests[1]["body"]


def test_what_is_refused_is_for_rules_too():
    spec = {"errors": {"rules": {"warm": {"when": "contains(refused, 'heat')", "kind": "capability"}}}}
    assert play(spec, {}, [{"status": 400, "json": {"error": {"message": "`heat`!"}}}], retries=0).error.kind == "capability"  # fmt: skip


def test_a_way_of_its_own_takes_the_place_of_the_inherited_one():
    spec = {"fallbacks": {"without_parameter": {"when": "status == `418`", "then": {"capabilities": {"stream": False}}}}}  # fmt: skip
    row = next(row for row in definition(spec).spec().fallbacks if row.name == "without_parameter")
    assert row.words is None
    played = play(spec, {"stream": True}, [{"status": 418, "json": {}}, {}], retries=0)
    assert played.reply.fallbacks == ("without_parameter",)


# ------------------------------------------------------------------ over the wire, by both clients


def body_of(request):
    return request["body"]


def refusal(message, status=400, **more):
    return response(status, {"error": {"message": message, **more}})


STREAM = [*stream(delta("hel"), delta("lo", "stop"), DONE)]


class Asking:
    """A client of one server, whose ways of asking give the reply."""

    def __init__(self, url, client_class):
        self.api = client_class(config={"providers": {"compatible": {"api_url": url, "api_key": "k"}}}, env={})

    def chat(self, given, **options):
        return self.api.chat(given, "compatible/m", **options)

    def stream(self, given, **options):
        with self.api.stream(given, "compatible/m", **options) as pieces:
            list(pieces)
        return pieces.reply


@pytest.fixture(params=[prx.Client, AsyncAsBlocking], ids=["Client", "AsyncClient"])
def client(request):
    yield lambda url: Asking(url, request.param)
    AsyncAsBlocking.close_all()


@pytest.mark.parametrize("way", ["chat", "stream"])
def test_what_was_learned_is_remembered_where_it_matters(client, way):
    answers = {"chat": response(), "stream": STREAM}
    with RawServer(refusal("temperature is not supported"), answers[way]) as server:
        ask = getattr(client(server.url), way)
        reply = ask("hi", temperature=0.5, top_p=0.5)
        assert (reply.content, reply.fallbacks) == ("hello", ("without_temperature",))
        assert [("temperature" in body_of(each), "top_p" in body_of(each)) for each in server.requests] == [(True, True), (False, True)]  # fmt: skip
        assert ask("hi").fallbacks == (), "nothing was taken away from this one"
        assert ask("hi", temperature=0.5).fallbacks == ("without_temperature",)
        assert ask("hi", temperature=None).fallbacks == ()
        assert len(server.requests) == 5, "one request each: it was known already"
        assert "temperature" not in body_of(server.requests[3])


@pytest.mark.parametrize("way", ["chat", "stream"])
def test_a_key_of_messages_is_learned_too(client, way):
    answers = {"chat": response(), "stream": STREAM}
    messages = [{"role": "user", "content": "a", "name": "ann"}]
    with RawServer(refusal("messages.0.name: Extra inputs are not permitted", 422), answers[way]) as server:
        ask = getattr(client(server.url), way)
        assert ask(messages).fallbacks == ("without_name",)
        assert ask("hi").fallbacks == ()
        assert ask(messages).fallbacks == ("without_name",)
        assert ["name" in body_of(each)["messages"][0] for each in server.requests] == [True, False, False, False]


def test_only_a_failure_with_it_forgets_what_was_learned(client):
    learned, ok = refusal("seed is not supported"), response()
    busy = response(503, {"error": {"message": "busy"}})
    with RawServer(learned, ok, busy, ok, busy, ok, ok) as server:
        ask = client(server.url).chat
        ask("hi", seed=1)
        with pytest.raises(prx.ServerError):
            ask("hi", retries=0)
        assert ask("hi", seed=1).fallbacks == ("without_seed",), "the call that failed had no seed"
        with pytest.raises(prx.ServerError) as caught:
            ask("hi", seed=1, retries=0)
        assert caught.value.fallbacks == ("without_seed",)
        assert ask("hi", seed=1).fallbacks == ()
        assert "seed" in body_of(server.requests[-1])


def test_without_fallbacks_a_refusal_is_an_error(client):
    with RawServer(refusal("seed is not supported"), response()) as server:
        with pytest.raises(prx.BadRequestError, match="seed"):
            client(server.url).chat("hi", seed=1, fallbacks=())
        assert len(server.requests) == 1


# ------------------------------------------------------------------ whole answers of a server that only streams

ONLY = "This model only support stream mode, please enable the stream parameter to access the model."


def test_a_whole_answer_by_way_of_a_stream(client):
    with RawServer(refusal(ONLY), STREAM) as server:
        ask = client(server.url)
        reply = ask.chat("hi")
        assert (reply.content, reply.finish_reason, reply.streamed) == ("hello", "stop", False)
        assert reply.fallbacks == ("as_stream",)
        assert [body_of(each).get("stream", False) for each in server.requests] == [False, True]
        assert ask.chat("hi").fallbacks == ("as_stream",)
        assert ask.stream("hi").streamed is True
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    "words",
    [
        ONLY, "parameter.enable_thinking must be set to false for non-streaming calls", "Streaming is required for this model", "stream must be true",
        "The stream parameter must be set: stream must be set to true", "This model only supports streaming responses",
        "Requests with max_tokens > 4096 must have stream=true", "`stream` must be true for this model", "Non-streaming requests are not supported", "该模型仅支持流式输出",
    ],
)  # fmt: skip
def test_ways_to_say_that_only_streams_are_answered(words):
    events = {"events": [chunk({"content": "hello"}, "stop")]}
    refused = {"status": 400, "json": {"error": {"message": words}}}
    played = play({}, {"params": {"enable_thinking": True}}, [refused, events], retries=0)
    assert played.reply.fallbacks == ("as_stream",)
    assert played.requests[1]["body"]["enable_thinking"] is True
    again = play({}, {}, [refused, refused], retries=0)
    assert (len(again.requests), again.error.status) == (2, 400), "and no stream is not the way back"


def test_a_whole_call_that_breaks_in_the_middle_is_tried_again(client):
    cut = [*stream(delta("hel"), 0.05, RST, end=False)]
    with RawServer(refusal(ONLY), cut, STREAM) as server:
        assert client(server.url).chat("hi", retries=1).content == "hello"
        assert len(server.requests) == 3
    with RawServer(refusal(ONLY), cut) as server:
        with pytest.raises(prx.TruncatedError) as caught:
            client(server.url).chat("hi", retries=1)
        assert (len(server.requests), caught.value.attempts) == (3, 3)
        assert (caught.value.partial.content, caught.value.partial.streamed) == ("hel", False)
        assert "only support stream" in caught.value.history[0]


def test_no_piece_of_a_whole_call_is_handed_on():
    pieces = {"events": [chunk({"content": "hel"}), chunk({"content": "lo"}, "stop")]}
    for spec in ({"capabilities": {"whole": False}}, {}):
        played = play(spec, {}, [pieces])
        assert (played.reply.content, played.reply.streamed) == ("hello", False)
        assert "Emit" not in played.order


def test_a_file_in_which_no_way_is_left(tmp_path):
    (tmp_path / "mute.yaml").write_text(
        "spec: 1\nid: mute\nextends: openai-chat\nbase_url: http://localhost:1/v1\ncapabilities: {stream: false, whole: false}\n"
    )
    (problem,) = Loader().check(tmp_path / "mute.yaml")[1]
    assert "no call could be sent" in str(problem)


# ------------------------------------------------------------------ files


def test_two_rows_that_would_mean_the_same_name(tmp_path):
    (tmp_path / "twice.yaml").write_text(
        "spec: 1\nid: twice\nextends: openai-chat\nbase_url: http://localhost:1/v1\n"
        "fallbacks: {again: {when: status, strips: {aroma: []}, }, more: {when: status, leaves_out: {aroma: []}}}\n"
    )
    (problem,) = Loader().check(tmp_path / "twice.yaml")[1]
    assert problem.path == "fallbacks.more.leaves_out.aroma"
    assert "without_aroma would mean two fallbacks" in str(problem)


def test_the_error_of_a_gateway_is_read_as_json_too():
    inner = json.dumps({"error": {"message": "no", "param": "seed"}})
    answers = [{"status": 400, "json": {"error": {"message": f"upstream said: {inner}"}}}, {}]
    assert play({}, {"params": {"seed": 1}}, answers, retries=0).reply.fallbacks == ("without_seed",)
