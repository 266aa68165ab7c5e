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
_LOOKED_AT = 64  # blocks in which a whole is looked for that is not numbered as its pieces were
_USUAL = {"reasoning": 0, "text": 1, "refusal": 2, "tool_call": 3}


class Block:
    """One block, as far as it has come. said_whole: the server has said all of it, beside its pieces or in their place.

    Its text is kept once, in `said`, which has the pieces of all blocks of its kind: here stands only where its own are.
    """

    __slots__ = ("_said", "_spans", "key", "kind", "place", "replay", "said_whole")

    def __init__(self, kind: Kind, key: Key, said: list[str], place: int = -1) -> None:
        self.kind, self.key, self.place = kind, key, place
        self._said = said
        self._spans: list[tuple[int, int | None]] = []
        self.said_whole = False
        self.replay: Replay | None = None

    @property
    def text(self) -> str:
        return "".join(["".join(self._said[start:end]) for start, end in self._spans])

    def begin(self) -> None:
        """The pieces that follow are of this block."""
        self._spans.append((len(self._said), None))

    def pause(self) -> None:
        """The pieces that follow are of another one."""
        if self._spans:
            self._spans[-1] = (self._spans[-1][0], len(self._said))


class Blocks:
    """All blocks. `said` has what was handed on of each kind: with a blank line between blocks of reasoning.
    `at` is the block that the last piece was of.
    """

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._known: dict[tuple[Kind, Key], Block] = {}
        self.at: Block | None = None
        self.said: dict[Kind, list[str]] = {"reasoning": [], "text": [], "refusal": []}
        self._under: dict[tuple[Kind, Key], list[Block]] = {}  # by a key and by each beginning of it
        self._filled: dict[Kind, int] = dict.fromkeys(self.said, 0)  # pieces in `said` that came as wholes
        self._measured: dict[Kind, tuple[int, int]] = dict.fromkeys(self.said, (0, 0))  # pieces counted, their length

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def write(self, kind: Kind, text: str, key: Key = ()) -> str:
        """Add a piece to a block; gives it as it is handed on."""
        block, between = self.at, ""
        if block is None or block.kind != kind or block.key != key:
            between = self._open(kind, key)
        self.said[kind].append(text)
        return between + text if between else text

    def fill(self, kind: Kind, whole: str, key: Key = ()) -> str:
        """Take in what the server says is all of a block; gives what its pieces lacked, as it is handed on."""
        missing = self._missing(kind, whole, key) if key else self._missing_of_all(kind, whole)
        under = self._under.get((kind, key)) if key else None
        handed = self.write(kind, missing, under[-1].key if under else key) if missing else ""
        self._filled[kind] += bool(missing)
        for block in self._under.get((kind, key), ()):
            block.said_whole = True
        return handed

    def _missing(self, kind: Kind, whole: str, key: Key) -> str:
        """What the blocks of this key, or within it, lack of a whole."""
        under = self._under.get((kind, key), ())
        came = ("\n\n" if kind == "reasoning" else "").join([block.text for block in under])
        if came:
            return whole[len(came) :] if whole.startswith(came) else ""
        return "" if self._said_elsewhere(kind, whole) else whole

    def _missing_of_all(self, kind: Kind, whole: str) -> str:
        """The same where the server does not say which block it means. One that sends messages in place of pieces says
        each time what is new, or all from the beginning; after pieces a whole says them again.
        """
        said = self.said[kind]
        counted, size = self._measured[kind]
        size += sum(map(len, said[counted:]))
        self._measured[kind] = len(said), size
        if len(whole) >= size and whole.startswith("".join(said)):
            return whole[size:]
        return whole if self._filled[kind] == len(said) else ""

    def call(self, place: int) -> None:
        """A tool call has begun. place: its place among the calls."""
        self._leave()
        self._blocks.append(Block("tool_call", (), [], place))

    def wants_back(self, found: dict[str, Any], grows: Grows, key: Key = ()) -> None:
        """Note what the provider wants back with a block: the one of this key, or the last one."""
        known = [each for kind in self.said for each in self._under.get((kind, key), ())[:1]]
        block = known[0] if known else (self.at if not key else None)
        if block is None:
            self._open("reasoning", key)
            block = self._blocks[-1]
        block.replay = block.replay or Replay()
        block.replay.add(found, grows)

    def to_front(self) -> None:
        """The last block is what the answer began with."""
        self._leave()
        self._blocks.insert(0, self._blocks.pop())

    def parts(self, calls: Sequence[ToolCall], replays: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
        """The blocks as they stand; replays: what goes back with each call."""
        for block in self._blocks:
            if block.kind == "tool_call":
                if block.place < len(calls):
                    yield Part("tool_call", "", calls[block.place], replays[block.place])
            elif (text := block.text) or block.replay:
                yield Part(block.kind, text, None, block.replay.folded() if block.replay else {})

    def _said_elsewhere(self, kind: Kind, whole: str) -> bool:
        """Whether another block has just this text from pieces: servers number the end of a block otherwise than its pieces."""
        for block in self._blocks[-_LOOKED_AT:]:
            if block.kind == kind and not block.said_whole and block.text == whole:
                block.said_whole = True
                return True
        return False

    def _leave(self) -> None:
        if self.at is not None:
            self.at.pause()
            self.at = None

    def _open(self, kind: Kind, key: Key) -> str:
        """Make a block the present one; gives what stands between it and the text before it."""
        self._leave()
        block, said, between = self._known.get((kind, key)) if key else None, self.said[kind], ""
        if block is None:
            block = Block(kind, key, said)
            self._blocks.append(block)
            if key:
                self._known[kind, key] = block
                for size in range(1, len(key) + 1):
                    self._under.setdefault((kind, key[:size]), []).append(block)
                between = _blank_line(said[-1]) if kind == "reasoning" and said else ""
                said += [between] if between else []
        block.begin()
        self.at = block
        return between


def in_usual_order(parts: Sequence[Part], *, sent_as_blocks: bool) -> bool:
    """Whether an assistant message says the order by itself: reasoning, text, calls; and, where blocks are sent back as
    blocks, nothing has to go back with a text.
    """
    order = [_USUAL[part.kind] for part in parts]
    replayed = sent_as_blocks and any(part.replay for part in parts if part.kind == "text")
    return order == sorted(order) and not replayed


def _blank_line(before: str) -> str:
    """What is missing of a blank line behind a text."""
    return "\n" * max(0, 2 - (len(before) - len(before.rstrip("\n"))))


def key_of(found: Any) -> Key:
    """A block's key from what a file's `block` finds: a number or word, or a list from the outer to the inner."""
    if found is None:
        return ()
    listed = found if isinstance(found, list) else [found]
    return tuple(item if isinstance(item, str | int) else str(item) for item in listed if item is not None)
