"""The shortest way of a piece of text: from the provider's connection to the caller's, while the task of the call goes on waiting.

To wake a task for each piece, and to hand the piece from layer to layer, takes longer than all that has to be done for most of
them: an event that differs from the one before it in its text alone is written as it came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prx.core.decode import Continued
from prx.core.weave import Weaver


def shortcut(reader: Any, weaver: Weaver, end: bytes, write: Callable[[bytes], bool]) -> Shortcut | None:
    """For what comes after the events that were read and written until now; None where events that continue them have to be looked
    at one by one.
    """
    continued = reader.continued()
    written = weaver.continued("text") if continued is not None else None
    return Shortcut(reader, weaver, continued, written, end, write) if written is not None else None


class Shortcut:
    """For events that only continue the text of a stream, from one event that goes the long way to the next one.

    reader, continued   of the provider's events
    weaver, written     of the caller's; written: see Weaver.continued
    end                 of an event
    write               writes to the caller; False where that is not possible at this moment
    """

    def __init__(
        self,
        reader: Any,
        weaver: Weaver,
        continued: Continued,
        written: list[str],
        end: bytes,
        write: Callable[[bytes], bool],
    ) -> None:
        self._reader, self._weaver, self._end, self._write = reader, weaver, end, write
        self._continued, self._written = continued, written
        self._size = self._events = 0

    def __call__(self, pieces: list[bytes]) -> bool:
        """Hand on pieces of a body that are one such event each; False, with nothing done, where one is anything else."""
        text_of, passes, content, room = self._continued
        texts = []
        for piece in pieces:
            text = text_of(piece[: -len(self._end)]) if piece.endswith(self._end) else None
            if text is None or (passes is not None and not passes(text)):
                return False
            texts.append(text)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._size + len(data) > room or not self._write(data):
            return False
        content += texts
        self._written += texts
        self._size += len(data)
        self._events += len(texts)
        return True

    def close(self) -> None:
        """Let the reader and the writer know what was handed on."""
        self._reader.used(self._size)
        self._weaver.wrote(self._events)
