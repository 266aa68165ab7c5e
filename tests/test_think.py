"""Reasoning between tags, told apart at every cut."""

from __future__ import annotations

import itertools

import pytest

from prx.core.think import ThinkSplitter, split_whole

PAIRS = [("<think>", "</think>")]
STREAMS = [
    ("<think>hm</think>hello", "hello", "hm"),
    ("<think>\nhm\n</think>\n\nhello", "hello", "hm\n"),
    ("a<think>b</think>c<think>d</think>e", "ace", "bd"),
    ("<think>never closed", "", "never closed"),
    ("say `<think>` to me", "say `<think>` to me", ""),
    ("a < b, <thin, <thinker>", "a < b, <thin, <thinker>", ""),
    ("no tags at all", "no tags at all", ""),
    ("", "", ""),
]


def run(pieces, *, inside=False):
    splitter = ThinkSplitter(PAIRS, inside=inside)
    found = [*(splitter.feed(piece) for piece in pieces), splitter.flush()]
    return "".join(text for text, _ in found), "".join(thought for _, thought in found)


@pytest.mark.parametrize(("source", "text", "thought"), STREAMS)
def test_at_every_two_cuts(source, text, thought):
    for first, second in itertools.combinations_with_replacement(range(len(source) + 1), 2):
        assert run([source[:first], source[first:second], source[second:]]) == (text, thought)


def test_reasoning_that_began_unannounced():
    assert run(["hm</thi", "nk>hello"], inside=True) == ("hello", "hm")
    assert run(["only reasoning"], inside=True) == ("", "only reasoning")


@pytest.mark.parametrize(
    ("source", "text", "thought"),
    [
        *STREAMS,
        ("hm\n</think>\n\nhello", "hello", "hm\n"),
        ("mention `</think>` only", "mention `</think>` only", ""),
    ],
)
def test_whole(source, text, thought):
    assert split_whole(source, PAIRS) == (text, thought)


def test_nothing_is_held_back_without_reason():
    splitter = ThinkSplitter(PAIRS)
    assert splitter.feed("plain ") == ("plain ", "")
    assert splitter.feed("a <th") == ("a ", "")
    assert splitter.feed("at's it") == ("<that's it", "")
