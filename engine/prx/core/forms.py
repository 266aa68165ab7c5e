"""Forms (multipart/form-data): a mapping becomes one, and one becomes a mapping. A file in it is {name, media_type, data in base64}.

What is read came from outside: it is held in memory already, and here its parts are counted, and their heads are short.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from prx.json_text import compact_strict

_FILE = {"name", "media_type", "data"}
_MOST_PARTS = 100
_LONGEST_HEAD = 4096  # of a part
_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))""", re.IGNORECASE)
_PARAMETER = re.compile(r"""[;\s](name|filename)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))""", re.IGNORECASE)


def written(body: Mapping[str, Any]) -> tuple[str, bytes]:
    """(content type, data) of a form. A list becomes several fields called NAME[]; a mapping with the keys of a file, a file.

    Raises ValueError for a name that cannot be sent, and what JSON raises for a value that it cannot express.
    """
    parts: list[bytes] = []
    for name, value in _fields(body):
        head = f'form-data; name="{_quoted(name)}"'
        if isinstance(value, dict) and value.keys() == _FILE:
            head += f'; filename="{_quoted(value["name"])}"\r\nContent-Type: {value["media_type"]}'
            content = base64.b64decode(value["data"])
        else:
            content = (value if isinstance(value, str) else compact_strict(value)).encode()
        parts.append(f"Content-Disposition: {head}\r\n\r\n".encode() + content)
    # Made of the content, so that the same call makes the same request; a text that is in the content is no boundary.
    boundary = hashlib.sha256(b"".join(parts)).hexdigest()[:40]
    while any(boundary.encode() in part for part in parts):
        boundary = hashlib.sha256(boundary.encode()).hexdigest()[:40]
    lines = [b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts]
    return f"multipart/form-data; boundary={boundary}", b"".join(lines) + b"--%b--\r\n" % boundary.encode()


def _fields(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a form, files last: a server that reads a form as it comes knows by then what is asked for."""
    for name, value in sorted(body.items(), key=lambda field: isinstance(field[1], dict) and field[1].keys() == _FILE):
        if isinstance(value, list):
            yield from ((f"{name}[]", item) for item in value)
        elif value is not None:
            yield name, value


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"a name in the form has characters that cannot be sent: {text!r:.80}")
    return text.replace("\\", "%5C").replace('"', "%22")


def read(content_type: str, data: bytes) -> dict[str, Any]:
    """The fields of a form: texts, files, and lists of those that are called NAME[] or come twice. Raises ValueError."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise ValueError("its content-type names no boundary")
    mark = b"\r\n--" + (found[1] or found[2]).encode("latin-1", "replace")
    before, *parts = (b"\r\n" + data).split(mark, _MOST_PARTS + 2)
    if len(parts) > _MOST_PARTS + 1:
        raise ValueError(f"it has more than {_MOST_PARTS} parts")
    if before.strip() or not parts or not parts[-1].startswith(b"--"):
        raise ValueError("its parts do not begin and end as its boundary says")
    body: dict[str, Any] = {}
    for part in parts[:-1]:
        _add(body, *_part(part))
    return body


def _part(part: bytes) -> tuple[str, Any]:
    """(name, value) of a part."""
    head, between, content = part.partition(b"\r\n\r\n")
    if not between or len(head) > _LONGEST_HEAD:
        raise ValueError("a part of it has no head, or a very long one")
    lines = (line.partition(":") for line in head.decode("utf-8", "replace").split("\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    given = {
        found[1].lower(): found[2] or found[3] or ""
        for found in _PARAMETER.finditer(headers.get("content-disposition", ""))
    }
    if not given.get("name") or not all(text.isprintable() for text in (*given.values(), *headers.values())):
        raise ValueError("a part of it has no name, or one that cannot be read")
    if "filename" in given:
        media_type = headers.get("content-type") or "application/octet-stream"
        file = {"name": given["filename"], "media_type": media_type, "data": base64.b64encode(content).decode()}
        return given["name"], file
    try:
        return given["name"], content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"its field {given['name']!r:.80} is no text") from None


def _add(body: dict[str, Any], name: str, value: Any) -> None:
    plain = name.removesuffix("[]")
    if plain != name or plain in body:
        before = body.get(plain, [])
        body[plain] = [*(before if isinstance(before, list) else [before]), value]
    else:
        body[plain] = value
