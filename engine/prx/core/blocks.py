"""The blocks of an answer in their order: reasoning, text, refusal, tool calls.

Some providers number their blocks: each piece names the block that it continues (`block` in a file). With all others a
block goes on until a piece of another kind comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from prx.chat import Part, ToolCall
from prx.core.replay import Grows, Replay

Kind = Literal["reasoning", "text", "refusal", "tool_call"]
Key = tuple[Any, ...]  # a block's numbers, from the outer list to the inner; () where the provider does not number them
BLANK_LINE = "\n\n"  # between blocks of reasoning, where they are one text
_LOOKED_AT = 64  # newest blocks that are compared with a whole block whose number is not that of its pieces
_USUAL = {"reasoning": 0, "text": 1, "refusal": 2, "tool_call": 3}


class Block:
    """One block, as much of it as has arrived.

    place           of a tool call: its place among the calls
    received_whole  the server has sent the block whole, after its pieces or in place of them
    pieces          of all blocks of this kind; a block keeps only where its own pieces stand, so no text is kept twice
    """

    __slots__ = ("_pieces", "_spans", "key", "kind", "place", "received_whole", "replay")

    def __init__(self, kind: Kind, key: Key, pieces: list[str], place: int = -1) -> None:
        self.kind, self.key, self.place = kind, key, place
        self._pieces = pieces
        self._spans: list[tuple[int, int | None]] = []
        self.received_whole = False
        self.replay: Replay | None = None

    @property
    def text(self) -> str:
        return "".join(["".join(self._pieces[start:end]) for start, end in self._spans])

    @property
    def begun(self) -> bool:
        """Whether a piece has been written to it; a block may have a replay alone."""
        return bool(self._spans)

    def begin(self) -> None:
        """The pieces that follow belong to this block."""
        self._spans.append((len(self._pieces), None))

    def pause(self) -> None:
        """The pieces that follow belong to another block."""
        if self._spans:
            self._spans[-1] = (self._spans[-1][0], len(self._pieces))


class Blocks:
    """All blocks of an answer.

    pieces   what was handed on, by kind; between blocks of reasoning a blank line stands
    current  the block that the last piece, or the last replay that began one, belongs to
    """

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._known: dict[tuple[Kind, Key], Block] = {}
        self.current: Block | None = None
        self.pieces: dict[Kind, list[str]] = {"reasoning": [], "text": [], "refusal": []}
        # A whole may name an outer block only: each block is listed under its key and under every beginning of its key.
        self._under: dict[tuple[Kind, Key], list[Block]] = {}
        self._filled: dict[Kind, int] = {}  # how many of the pieces came as wholes
        self._measured: dict[Kind, tuple[int, int]] = {}  # pieces counted, their length

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def write(self, kind: Kind, text: str, key: Key = ()) -> str:
        """Add a piece to the block of this kind and key; gives it as it is handed on, with the line breaks before it."""
        block, between = self.current, ""
        if block is None or block.kind != kind or block.key != key or not block.begun:
            between = self._open(kind, key)
        self.pieces[kind].append(text)
        return between + text if between else text

    def fill(self, kind: Kind, whole: str, key: Key = ()) -> str:
        """Add a block that the server sends whole; gives the part that its pieces did not bring, as it is handed on."""
        missing = self._missing(kind, whole, key) if key else self._missing_without_key(kind, whole)
        under = self._under.get((kind, key)) if key else None
        written = self.write(kind, missing, under[-1].key if under else key) if missing else ""
        self._filled[kind] = self._filled.get(kind, 0) + bool(missing)
        for block in self._under.get((kind, key), ()):
            block.received_whole = True
        return written

    def _missing(self, kind: Kind, whole: str, key: Key) -> str:
        """The part of a whole that the blocks of this key, or within it, do not have yet."""
        under = self._under.get((kind, key), ())
        received = (BLANK_LINE if kind == "reasoning" else "").join([block.text for block in under])
        if received:
            return whole[len(received) :] if whole.startswith(received) else ""
        return "" if self._has_other_number(kind, whole) else whole

    def _missing_without_key(self, kind: Kind, whole: str) -> str:
        """The same for a server that does not number its blocks. If it sends messages in place of pieces, each has what is
        new, or everything from the beginning; if it sends pieces too, a whole repeats them.
        """
        pieces = self.pieces[kind]
        counted, size = self._measured.get(kind, (0, 0))
        size += sum(map(len, pieces[counted:]))
        self._measured[kind] = len(pieces), size
        if len(whole) >= size and whole.startswith("".join(pieces)):
            return whole[size:]
        return whole if self._filled.get(kind, 0) == len(pieces) else ""

    def begin_call(self, place: int) -> None:
        """A tool call has begun. place: its place among the calls."""
        self._leave()
        self._blocks.append(Block("tool_call", (), [], place))

    def add_replay(self, values: dict[str, Any], grows: Grows, key: Key = ()) -> None:
        """Add what the provider requires back with a block: the one of this key, without a key the current one.
        Reasoning that the provider keeps to itself has no other piece, so that a block of it may begin here.
        """
        known = [each for kind in self.pieces for each in self._under.get((kind, key), ())[:1]]
        block = known[0] if known else (self.current if not key else None)
        if block is None:
            block = self._made("reasoning", key)
        block.replay = block.replay or Replay()
        block.replay.add(values, grows)

    def last_to_front(self) -> None:
        """Move the last block to the beginning of the answer."""
        self._leave()
        self._blocks.insert(0, self._blocks.pop())

    def parts(self, calls: Sequence[ToolCall], replays: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
        """The blocks that have something in them, in their order. replays: what goes back with each of the calls."""
        for block in self._blocks:
            if block.kind == "tool_call":
                if block.place < len(calls):
                    yield Part("tool_call", "", calls[block.place], replays[block.place])
            elif (text := block.text) or block.replay:
                yield Part(block.kind, text, None, block.replay.folded() if block.replay else {})

    def _has_other_number(self, kind: Kind, whole: str) -> bool:
        """Whether a block of another number has exactly this text: some servers number a whole otherwise than its pieces."""
        for block in self._blocks[-_LOOKED_AT:]:
            if block.kind == kind and not block.received_whole and block.text == whole:
                block.received_whole = True
                return True
        return False

    def _leave(self) -> None:
        if self.current is not None:
            self.current.pause()
            self.current = None

    def _open(self, kind: Kind, key: Key) -> str:
        """Let the pieces that follow belong to the block of this kind and key; gives the line breaks that go before its text."""
        block, pieces, between = self.current, self.pieces[kind], ""
        if block is None or block.kind != kind or block.key != key:
            block = self._made(kind, key)
        if key and kind == "reasoning" and pieces and not block.begun:
            between = _blank_line(pieces[-1])
            pieces += [between] if between else []
        block.begin()
        return between

    def _made(self, kind: Kind, key: Key) -> Block:
        """Make the block of this kind and key the current one, a new one where there is none with this key."""
        self._leave()
        block = self._known.get((kind, key)) if key else None
        if block is None:
            block = Block(kind, key, self.pieces[kind])
            self._blocks.append(block)
            if key:
                self._known[kind, key] = block
                for size in range(1, len(key) + 1):
                    self._under.setdefault((kind, key[:size]), []).append(block)
        self.current = block
        return block


def in_usual_order(parts: Sequence[Part], *, sent_as_blocks: bool) -> bool:
    """Whether an assistant message without `parts` tells the order: reasoning, text, calls; and, where the API takes blocks
    (sent_as_blocks), no text has a replay.
    """
    order = [_USUAL[part.kind] for part in parts]
    replayed = sent_as_blocks and any(part.replay for part in parts if part.kind == "text")
    return order == sorted(order) and not replayed


def _blank_line(before: str) -> str:
    """The line breaks that are missing at the end of a text for a blank line after it."""
    return "\n" * max(0, len(BLANK_LINE) - (len(before) - len(before.rstrip("\n"))))


def key_of(found: Any) -> Key:
    """A block's key from what a file's `block` finds: a number or word, or a list of them, from the outer to the inner."""
    if found is None:
        return ()
    listed = found if isinstance(found, list) else [found]
    return tuple(item if isinstance(item, str | int) else str(item) for item in listed if item is not None)
