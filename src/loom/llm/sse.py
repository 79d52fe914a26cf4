"""Server-sent events, from bytes to events, as they come.

A reader without I/O: feed it whatever the socket gave and get the events that are complete. It is tolerant
where servers differ (line ends, spaces, comments, byte order mark) and bounded where they could hurt us. JSON
that stands between the events without being one is handed over as an event named ``error``.
Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from ..errors import MalformedReplyError

# An event carries one delta; 16 MiB leaves room for a base64 image in one piece.
MAX_EVENT_BYTES = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"

SSEvent = tuple[bytes, bytes]
"""The event's name (``b""`` when it has none) and its data."""


class SSEReader:
    """Splits a byte stream into events.

    ``max_event_bytes`` bounds what is held back for one unfinished event; more raises MalformedReplyError.
    """

    __slots__ = ("_after_cr", "_begun", "_held", "_max", "_scanned")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._held = bytearray()
        self._scanned = 0
        self._begun = False
        self._after_cr = False
        self._max = max_event_bytes

    def feed(self, chunk: bytes) -> list[SSEvent]:
        """Take the next bytes and return the events they complete, in order."""
        if not self._begun:
            chunk = self._strip_bom(chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._one_line_end(chunk)
        held = self._held
        if held:
            held += chunk
            if held.find(b"\n\n", max(0, self._scanned - 1)) < 0:
                self._scanned = len(held)
                self._check(self._scanned)
                return []
            chunk = bytes(held)
            held.clear()
        *blocks, rest = chunk.split(b"\n\n")
        if rest:
            self._check(len(rest))
            held += rest
        self._scanned = len(rest)
        return _events(blocks)

    def close(self) -> list[SSEvent]:
        """Return the event a server left without its closing blank line, if there is one."""
        rest = bytes(self._held)
        self._held.clear()
        return _events([rest.rstrip(b"\n")])

    def _check(self, size: int) -> None:
        # guard: tests/llm/test_sse.py
        if size > self._max:
            self._held.clear()
            raise MalformedReplyError(
                f"the stream holds an event of more than {self._max} bytes; it was dropped"
            )

    def _strip_bom(self, chunk: bytes) -> bytes:
        chunk = bytes(self._held) + chunk
        self._held.clear()
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._held += chunk
            return b""
        self._begun = True
        return chunk.removeprefix(_BOM)

    def _one_line_end(self, chunk: bytes) -> bytes:
        # A carriage return at the end of a chunk ends its line at once; if a line feed follows in the next
        # chunk it belongs to it and is dropped.
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if chunk.endswith(b"\r"):
            self._after_cr = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _events(blocks: list[bytes]) -> list[SSEvent]:
    found: list[SSEvent] = []
    for block in blocks:
        if b"\n" not in block and block.startswith(b"data:"):
            found.append((b"", block[6:] if block[5:6] == b" " else block[5:]))
        elif block and (event := _fields(block)) is not None:
            found.append(event)
        elif block.lstrip()[:1] in (b"{", b"["):
            # Gemini and gateways before it give up on a stream by writing their error into it as it is. No
            # field of an event begins like this, and what breaks the format is not an ordinary event.
            found.append((b"error", block))
    return found


def _fields(block: bytes) -> SSEvent | None:
    name = b""
    lines: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    return (name, b"\n".join(lines)) if lines else None
