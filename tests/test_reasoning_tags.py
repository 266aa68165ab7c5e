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
    return joined([part for split in (*map(splitter.feed, pieces), splitter.flush()) for part in split])


def joined(split):
    """(text, reasoning) of pieces in their order."""
    return tuple("".join(piece for thought, piece in split if thought is which) for which in (False, True))


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
        ("say <think> to me", "say <think> to me", ""),
        ("<think>a</think>say <think> to me", "say <think> to me", "a"),
        ("\n<think>cut off", "", "cut off"),
    ],
)
def test_whole(source, text, thought):
    assert joined(split_whole(source, PAIRS)) == (text, thought)


def test_the_order_is_kept():
    assert split_whole("a<think>b</think>c<think>d</think>e", PAIRS) == [
        (False, "a"), (True, "b"), (False, "c"), (True, "d"), (False, "e"),
    ]  # fmt: skip


def test_nothing_is_held_back_without_reason():
    splitter = ThinkSplitter(PAIRS)
    assert splitter.feed("plain ") == [(False, "plain ")]
    assert splitter.feed("a <th") == [(False, "a ")]
    assert splitter.feed("at's it") == [(False, "<that's it")]
