"""A server that writes whatever bytes it is told to, below HTTP if need be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reply:
    """Bytes to write, piece by piece, and what comes after them: an orderly end, a reset, or nothing at all."""

    pieces: Sequence[bytes]
    ends: str = "close"  # or "reset", or "stall"


@dataclass
class RawServer:
    """Where it listens, and the raw requests it got."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def raw_server(reply: Callable[[bytes], Reply]) -> AsyncGenerator[RawServer]:
    """Answer every request on a connection of its own with what ``reply`` makes of it."""
    server_state, over = RawServer(), asyncio.Event()
    handlers: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line[15:])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            request = head + await reader.readexactly(length)
            server_state.requests.append(request)
            told = reply(request)
            for piece in told.pieces:
                writer.write(piece)
                await writer.drain()
            if told.ends == "stall":
                await over.wait()
            if told.ends == "reset":
                writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had heard enough
        finally:
            handlers.discard(task)
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    server_state.url = f"http://{host}:{port}/v1"
    try:
        yield server_state
    finally:
        over.set()
        server.close()
        await asyncio.gather(*handlers, return_exceptions=True)


@contextmanager
def raw_server_apart(reply: Callable[[bytes], Reply]) -> Generator[RawServer]:
    """The same on an event loop of its own, so that its work is not taken for the client's."""
    ready, over, found = (
        threading.Event(),
        asyncio.Event(),
        list[tuple[RawServer, asyncio.AbstractEventLoop]](),
    )

    async def serve() -> None:
        async with raw_server(reply) as server:
            found.append((server, asyncio.get_running_loop()))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    ready.wait()
    server, loop = found[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def http(
    body: bytes | Sequence[bytes],
    *,
    status: str = "200 OK",
    kind: str = "text/event-stream",
    headers: Sequence[str] = (),
    ends: str = "close",
) -> Reply:
    """A reply of HTTP/1.1 that ends with its connection. ``body`` may come in pieces."""
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *headers]
    pieces = [body] if isinstance(body, bytes) else list(body)
    return Reply(["\r\n".join([*head, "", ""]).encode(), *pieces], ends)
