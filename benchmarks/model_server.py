"""The scripted model service on loopback, in a process of its own.

A raw asyncio protocol that writes replies rendered beforehand (``replies.py``), so that it costs far
less than any client. Which reply comes next is told by the number of tool results in the request: the server
keeps no state. ``python -m benchmarks.model_server`` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import Any

from .descriptors import raise_descriptor_limit
from .replies import Script, script_of, streamed_reply, whole_reply

_LARGEST_REQUEST = 64 * 1024 * 1024
_AHEAD = 0.002
"""Seconds a paced stream may lag behind before it stops catching up piece by piece."""


class ModelProtocol(asyncio.Protocol):
    """One connection: requests in, scripted replies out, one after the other."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._wanted = 0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while len(self._held) >= self._wanted and (request := self._next_request()) is not None:
            self._answer(*request)

    def _next_request(self) -> tuple[str, bytes] | None:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._held[:end])
        length = _content_length(head)
        if length > _LARGEST_REQUEST:
            self._transport.close()
            return None
        self._wanted = end + 4 + length
        if len(self._held) < self._wanted:
            return None
        body = bytes(self._held[end + 4 : self._wanted])
        del self._held[: self._wanted]
        self._wanted = 0
        return head.split(b" ", 2)[1].decode("latin-1"), body

    def _answer(self, path: str, body: bytes) -> None:
        if path == "/cpu":
            spent = b"%.6f" % time.process_time()
            self._write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(spent), spent))
            return
        try:
            script = script_of(path)
        except ValueError:
            self._write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        streaming = path.endswith("alt=sse") or b'"stream":true' in body or b'"stream": true' in body
        reply = _streamed(path, script, body) if streaming else (_whole(path, script, body),)
        loop = asyncio.get_running_loop()
        if streaming and script.pace:
            loop.call_later(script.delay / 1000, self._pace, reply, script.pace / 1_000_000)
        elif script.delay:
            loop.call_later(script.delay / 1000, self._write, b"".join(reply))
        else:
            self._write(b"".join(reply))

    def _pace(self, reply: tuple[bytes, ...], pace: float) -> None:
        head, *chunks = reply
        self._write(head)
        self._next_piece(chunks, 0, asyncio.get_running_loop().time(), pace)

    def _next_piece(self, chunks: list[bytes], number: int, due: float, pace: float) -> None:
        if self._transport.is_closing():
            return
        self._write(chunks[number])
        if number + 1 < len(chunks):
            loop = asyncio.get_running_loop()
            due = max(due + pace, loop.time() - _AHEAD)
            loop.call_at(due, self._next_piece, chunks, number + 1, due, pace)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


_WIRES = {"messages": "anthropic", "responses": "openai_responses"}
"""The last word of a path, and the wire it belongs to; Gemini's has a verb after a colon."""


def _wire(path: str) -> str:
    last = path.split("?")[0].rpartition("/")[2]
    return "gemini" if ":" in last else _WIRES.get(last, "openai_chat")


def _whole(path: str, script: Script, body: bytes) -> bytes:
    if (wire := _wire(path)) == "openai_chat":
        return whole_reply(script, _results(body))
    from . import wire_replies  # ours alone: the environments of peers do not have loom

    return wire_replies.whole_reply(wire, script, body.count(wire_replies.RESULTS[wire]))


def _streamed(path: str, script: Script, body: bytes) -> tuple[bytes, ...]:
    if (wire := _wire(path)) == "openai_chat":
        return streamed_reply(script, _results(body))
    from . import wire_replies

    return wire_replies.streamed_reply(wire, script, body.count(wire_replies.RESULTS[wire]))


def _results(body: bytes) -> int:
    return body.count(b'"role":"tool"') or body.count(b'"role": "tool"')


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve() -> None:
    """Serve on a free loopback port until standard input ends."""
    raise_descriptor_limit()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(ModelProtocol, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with contextlib.suppress(ConnectionError):
        await reader.read()
    server.close()


def main() -> None:
    """Serve, on uvloop when it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())


if __name__ == "__main__":
    main()
