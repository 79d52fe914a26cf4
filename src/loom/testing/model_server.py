"""A model service on a real loopback socket, following a script.

It speaks every wire in ``wires``, whole and streamed, and fails in the ways services fail when a script says
so. Items of the script are those of ``scripted`` and ``served``; a
function in it gets the messages and tools as they stand in the body.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from ..errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    ProviderUnavailableError,
    RateLimitError,
)
from ..llm.untyped import as_dict
from ..types import ChatResponse
from .scripted import Interrupted, Script, ScriptItem
from .wires import ServerWire, wire_of

_STATUS = (
    (AuthenticationError, 401),
    (RateLimitError, 429),
    (InvalidRequestError, 400),
    (ContextOverflowError, 400),
    (ProviderUnavailableError, 503),
)


@dataclass(frozen=True, slots=True)
class Served:
    """A reply with its transport spelled out; ``served`` says what the fields mean."""

    reply: ScriptItem = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    piece: int | None = None
    cut_at: int | None = None
    stall_at: int | None = None


def served(
    reply: ScriptItem = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    piece: int | None = None,
    cut_at: int | None = None,
    stall_at: int | None = None,
) -> Served:
    """``reply``, or the raw ``body`` (nothing at all when neither is given), sent in a particular way.

    ``piece`` is the size in bytes of what is written at once, ``cut_at`` the byte after which the connection
    is broken, ``stall_at`` the byte after which nothing comes any more (until the client goes away).
    """
    if reply is None and body is None:
        body = b""
    return Served(reply, status, headers or {}, body, piece, cut_at, stall_at)


@dataclass(slots=True)
class ServedRequest:
    """One request the server got. ``abandoned`` is set when the client went away before the end."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    abandoned: asyncio.Event


class ModelServer:
    """A scripted model service; ``async with ModelServer([...]) as server`` and use ``server.base_url``.

    ``base_url`` fits every provider. ``chunk`` is the length in characters of streamed pieces of text,
    ``models`` what the list of models names. ``requests`` holds every model request in order.
    """

    def __init__(
        self,
        script: Iterable[ScriptItem] = (),
        *,
        chunk: int | None = 8,
        models: Iterable[str] = ("scripted",),
    ) -> None:
        self.requests: list[ServedRequest] = []
        self.base_url = ""
        self._script = Script(script)
        self._chunk = chunk
        self._models = tuple(models)
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()

    @property
    def remaining(self) -> int:
        """How many items of the script were not served yet."""
        return self._script.remaining

    @classmethod
    @contextmanager
    def in_thread(cls, script: Iterable[ScriptItem] = (), **options: Any) -> Generator[Self]:
        """The same server on a loop of its own in a thread, for code that is not asynchronous."""
        server = cls(script, **options)
        ready, over = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            async with server:
                loops.append(asyncio.get_running_loop())
                ready.set()
                await over.wait()

        thread = threading.Thread(target=asyncio.run, args=(serve(),), name="loom-model-server", daemon=True)
        thread.start()
        ready.wait()
        try:
            yield server
        finally:
            loops[0].call_soon_threadsafe(over.set)
            thread.join()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._answer)
        app.router.add_get("/{path:.*}", self._list)
        # Cancelling the handler is how the server notices that a client went away.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        listed = [{"id": name, "object": "model"} for name in self._models]
        return web.Response(
            body=msgspec.json.encode({"object": "list", "data": listed}), content_type="application/json"
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = msgspec.json.decode(raw)
        except ValueError:
            body = None
        seen = ServedRequest(
            request.method, request.path_qs, dict(request.headers), body, raw, asyncio.Event()
        )
        self.requests.append(seen)
        try:
            return await self._send(request, as_dict(body), wire_of(request.path))
        except (asyncio.CancelledError, ConnectionError):
            seen.abandoned.set()
            raise

    async def _send(self, request: web.Request, body: dict[str, Any], wire: ServerWire) -> web.StreamResponse:
        streamed = wire.streams(request.path, body)
        kind = "application/json"
        try:
            item = self._script.take()
            item = item if isinstance(item, Served) else Served(item)
            if isinstance(item.reply, Interrupted) and item.reply.error is None:
                item = replace(item, stall_at=sys.maxsize)  # behind what the script lets through
            pieces = self._pieces(wire, streamed, body, item)
            if streamed and item.body is None and item.status == 200:
                kind = "text/event-stream"
        except LoomError as error:
            item = _refusal(error, wire)
            pieces = [item.body or b""]
        response = web.StreamResponse(status=item.status, headers={"Content-Type": kind, **item.headers})
        await response.prepare(request)
        sent = 0
        async for piece in _timed(pieces, item.piece):
            stop = min((at for at in (item.cut_at, item.stall_at) if at is not None), default=None)
            if stop is not None and sent + len(piece) > stop:
                await response.write(piece[: stop - sent])
                await self._fail(request, item)
                return response
            await response.write(piece)
            sent += len(piece)
        if item.cut_at is not None or item.stall_at is not None:
            await self._fail(request, item)
        else:
            await response.write_eof()
        return response

    async def _fail(self, request: web.Request, item: Served) -> None:
        if item.stall_at is not None:
            await self._closing.wait()
        if request.transport is not None:
            request.transport.abort()

    def _pieces(
        self, wire: ServerWire, streamed: bool, body: dict[str, Any], item: Served
    ) -> Iterable[bytes]:
        if item.body is not None:
            return [item.body]
        reply = self._script.read(item.reply, *wire.asked(body))
        number = self._script.position
        broken = reply if isinstance(reply, Interrupted) else None
        response: ChatResponse = reply.reply if isinstance(reply, Interrupted) else reply
        if not streamed:
            if broken is not None and broken.error is not None:
                raise broken.error
            return [wire.whole(response, number)] if broken is None else []
        events = wire.stream(response, number, self._chunk)
        return events if broken is None else _broken(events, broken, wire)


def _broken(events: Iterator[bytes], broken: Interrupted, wire: ServerWire) -> Iterator[bytes]:
    """The stream up to the break, then the error, if there is one, as the wire tells it."""
    yield from islice(events, broken.after)
    if broken.error is not None:
        yield wire.broken(broken.error)


def _refusal(error: LoomError, wire: ServerWire) -> Served:
    status = getattr(error, "status", None) or next(
        (code for kind, code in _STATUS if isinstance(error, kind)), 400
    )
    wait = getattr(error, "retry_after", None)
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return Served(status=status, body=wire.refusal(error, status), headers=headers)


async def _timed(pieces: Iterable[bytes], size: int | None) -> AsyncIterator[bytes]:
    """The pieces, cut to ``size`` bytes each with a turn of the loop between, so each is its own write."""
    for piece in pieces:
        for start in range(0, len(piece), size or len(piece) or 1):
            yield piece[start : start + (size or len(piece))]
            if size:
                await asyncio.sleep(0)
