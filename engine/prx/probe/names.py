"""What the names of models tell: which may chat, which are small, and which make embeddings."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NO_CHAT = re.compile(r"embed|rerank|moderat|image|audio|speech|tts|transcri|ocr|guard|video|realtime", re.IGNORECASE)
_CHEAP = re.compile(r"(?<![a-z])(nano|tiny|mini|small|lite|flash|fast|instant|free)(?![a-z])", re.IGNORECASE)
# Families of embedding models, as whole words of a name; most others have "embed" in theirs.
_EMBEDDING_FAMILIES = (
    "e5", "bge", "gte", "gtr", "minilm", "mpnet", "nomic", "mxbai", "labse", "sbert", "stella", "text2vec", "m3e", "uae", "instructor",
)  # fmt: skip
_EMBEDS = re.compile(rf"embed|(?<![a-z0-9])({'|'.join(_EMBEDDING_FAMILIES)})(?![a-z0-9])", re.IGNORECASE)
_RANKS = re.compile(r"rerank|cross-?encoder|marco", re.IGNORECASE)  # models of the same families that rank documents


def for_chats(listed: Sequence[str]) -> list[str]:
    """The models that may chat, small ones first; those of families of embedding models come after the others, and last
    what is no model but a pattern: a gateway may list the patterns of its routes.
    """
    chats = [name for name in listed if not _NO_CHAT.search(name)]
    return sorted(chats, key=lambda name: ("*" in name, bool(_EMBEDS.search(name)), not _CHEAP.search(name)))


def for_embeddings(listed: Sequence[str]) -> list[str]:
    """The models whose names are those of embedding models, small ones first."""
    likely = [name for name in listed if _EMBEDS.search(name) and not _RANKS.search(name) and "*" not in name]
    return sorted(likely, key=lambda name: not _CHEAP.search(name))
