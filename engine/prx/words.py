"""Small help with words and texts."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The words to add to a message about an unknown word: which known one is nearest, or nothing."""
    import difflib  # seldom needed

    close = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def clean(text: str) -> str:
    """Text that can be encoded: halves of a surrogate pair are joined, a single half is U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
