"""Messages of Amazon's event stream, written by hand; tests/test_framing.py holds them against botocore's reader."""

from __future__ import annotations

import json
import struct
from binascii import crc32


def message(payload=b"", **headers):
    """A message with these headers of texts; event_type stands for :event-type."""
    rows = b""
    for name, text in headers.items():
        key, value = f":{name.replace('_', '-')}".encode(), text.encode()
        rows += bytes([len(key)]) + key + b"\7" + struct.pack(">H", len(value)) + value
    return framed(rows, payload)


def framed(rows, payload):
    """A message of headers as they are on the wire."""
    head = struct.pack(">II", 16 + len(rows) + len(payload), len(rows))
    whole = head + struct.pack(">I", crc32(head)) + rows + payload
    return whole + struct.pack(">I", crc32(whole))


def event(name, value):
    return message(_encoded(value), event_type=name, content_type="application/json", message_type="event")


def exception(name, value):
    return message(_encoded(value), exception_type=name, content_type="application/json", message_type="exception")


def written(rows):
    """Rows of data as a stream: {event: name, …value} or {exception: name, …value}; a text is bytes as they are, in latin-1."""
    pieces = []
    for row in rows:
        if isinstance(row, str):
            pieces.append(row.encode("latin-1"))
            continue
        kind = "event" if "event" in row else "exception"
        value = {key: item for key, item in row.items() if key != kind}
        pieces.append((event if kind == "event" else exception)(row[kind], value))
    return b"".join(pieces)


def _encoded(value):
    return json.dumps(value).encode()
