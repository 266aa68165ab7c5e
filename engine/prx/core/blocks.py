"""The blocks of an answer in their order: reasoning, text, refusal, tool calls.

A provider that numbers its blocks says with each piece which one it continues (`block` in a file). Where none does, a
block goes on until a piece of another kind comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from prx.chat import Part, ToolCall
from prx.core.replay import Grows, Replay

Kind = Literal["reasoning", "text", "refusal", "tool_call"]
Key = tuple[Any, ...]  # what a provider calls a block: numbers from the outer to the inner; () where it says nothing
_USUAL = {"reasoning": 0, "text": 1, "refusal": 2, "tool_call": 3}


class Block:
    """One block, as far as it has come. said_whole: the server has said all of it, beside its pieces or in their place."""

    __slots__ = ("key", "kind", "place", "replay", "said_whole", "texts")

    def __init__(self, kind: Kind, key: Key, place: int = -1) -> None:
        self.kind, self.key, self.place = kind, key, place
        self.texts: list[str] = []
        self.said_whole = False
        self.replay: Replay | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Blocks:
    """All blocks. `said` has what was handed on of each kind: with a blank line between blocks of reasoning."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._known: dict[tuple[Kind, Key], Block] = {}
        self._at: Block | None = None
        self.said: dict[Kind, list[str]] = {"reasoning": [], "text": [], "refusal": []}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def write(self, kind: Kind, text: str, key: Key = ()) -> str:
        """Add a piece to a block; gives it as it is handed on."""
        block = self._at
        if block is None or block.kind is not kind or block.key != key:
            block = self._open(kind, key)
        said = self.said[kind]
        handed = text
        if kind == "reasoning" and key and said and not block.texts:
            handed = _blank_line(said[-1]) + text
        block.texts.append(text)
        said.append(handed)
        return handed

    def fill(self, kind: Kind, whole: str, key: Key = ()) -> str:
        """Take in what the server says is all of a block; gives what its pieces lacked, as it is handed on."""
        under = [block for block in self._blocks if block.kind == kind and block.key[: len(key)] == key]
        between = "\n\n" if kind == "reasoning" else ""
        came = between.join(block.text for block in under)
        if not came and self._said_elsewhere(kind, whole):
            return ""
        missing = whole[len(came) :] if whole.startswith(came) else ""
        if came and not missing and not key and all(block.said_whole for block in under) and came != whole:
            missing = whole  # a server that sends messages in place of pieces
        handed = self.write(kind, missing, under[-1].key if under else key) if missing else ""
        for block in under or ([self._at] if self._at and missing else ()):
            block.said_whole = True
        return handed

    def call(self, place: int) -> None:
        """A tool call has begun. place: its place among the calls."""
        self._blocks.append(Block("tool_call", (), place))
        self._at = None

    def wants_back(self, found: dict[str, Any], grows: Grows, key: Key = ()) -> None:
        """Note what the provider wants back with a block: the one of this key, or the last one."""
        known = (block for block in self._blocks if key and block.key[: len(key)] == key)
        block = next(known, None) or (self._at if not key else None) or self._open("reasoning", key)
        block.replay = block.replay or Replay()
        block.replay.add(found, grows)

    def to_front(self) -> None:
        """The last block is what the answer began with."""
        self._blocks.insert(0, self._blocks.pop())
        self._at = None

    def parts(self, calls: Sequence[ToolCall], replays: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
        """The blocks as they stand; replays: what goes back with each call."""
        for block in self._blocks:
            if block.kind == "tool_call":
                if block.place < len(calls):
                    yield Part("tool_call", "", calls[block.place], replays[block.place])
            elif block.texts or block.replay:
                yield Part(block.kind, block.text, None, block.replay.folded() if block.replay else {})

    def _said_elsewhere(self, kind: Kind, whole: str) -> bool:
        """Whether another block has just this text from pieces: servers number the end of a block otherwise than its pieces."""
        for block in self._blocks:
            if block.kind == kind and not block.said_whole and block.text == whole:
                block.said_whole = True
                return True
        return False

    def _open(self, kind: Kind, key: Key) -> Block:
        block = self._known.get((kind, key)) if key else None
        if block is None:
            block = Block(kind, key)
            self._blocks.append(block)
            self._known[kind, key] = block
        self._at = block
        return block


def in_usual_order(parts: Sequence[Part]) -> bool:
    """Whether an assistant message says the order by itself: reasoning, text, calls, and nothing to go back with a text."""
    order = [_USUAL[part.kind] for part in parts]
    return order == sorted(order) and not any(part.replay for part in parts if part.kind == "text")


def _blank_line(before: str) -> str:
    """What is missing of a blank line behind a text."""
    return "\n" * max(0, 2 - (len(before) - len(before.rstrip("\n"))))


def key_of(found: Any) -> Key:
    """A block's key from what a file's `block` finds: a number or word, or a list from the outer to the inner."""
    if found is None:
        return ()
    listed = found if isinstance(found, list) else [found]
    return tuple(item if isinstance(item, str | int) else str(item) for item in listed if item is not None)
