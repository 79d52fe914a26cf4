"""Recorded traffic of real services, served again from a socket, cut where no service would cut it.

The recordings are not part of the project. ``LOOM_RECORDINGS`` names their folder (one folder a service, one
JSON file a case); without it a folder ``shared/wire`` beside the project is used. Where there is none these
tests are skipped, and the fixtures in ``tests/wire/fixtures`` cover the same ground.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

FOLDER = Path(
    os.environ.get("LOOM_RECORDINGS") or Path(__file__).parent.parent.parent.parent / "shared" / "wire"
)
PIECES = (1, 7, 64, None)
"""Bytes written at once; 1 and 7 cut inside characters, events and line ends."""
_TRANSPORT = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "transfer-encoding"}
)


@dataclass(frozen=True)
class Exchange:
    """One request and its reply. ``body`` is the reply's bytes; JSON the recorder had parsed is made anew."""

    method: str
    path: str
    request: Any
    status: int
    headers: dict[str, str]
    body: bytes
    streamed: bool


@dataclass(frozen=True)
class Recording:
    """One case of one service."""

    service: str
    case: str
    exchanges: tuple[Exchange, ...]

    def __str__(self) -> str:
        return f"{self.service}/{self.case}"


def recordings(*services: str) -> list[Any]:
    """The cases of these services as pytest parameters; one skipped parameter where there are none."""
    found = [read(path) for service in services for path in sorted((FOLDER / service).glob("*.json"))]
    if not found:
        why = "no recordings here: set LOOM_RECORDINGS to their folder"
        return [pytest.param(None, marks=pytest.mark.skip(reason=why), id="no-recordings")]
    return [pytest.param(recording, id=str(recording)) for recording in found]


def read(path: Path) -> Recording:
    """The recording in a file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return Recording(path.parent.name, path.stem, tuple(map(_exchange, found["interactions"])))


def _exchange(found: dict[str, Any]) -> Exchange:
    request, response = found["request"], found["response"]
    sent = _bytes(request["body"])
    body = _bytes(response["body"])
    headers = {name.lower(): _one(value) for name, value in (response.get("headers") or {}).items()}
    uri = request["uri"]
    return Exchange(
        method=request["method"],
        path="/" + uri.split("://", 1)[-1].partition("/")[2],
        request=_json(sent),
        status=_status(response["status"]),
        headers=headers,
        body=body,
        streamed=body.lstrip().startswith((b"data:", b"event:", b":")),
    )


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if body.get("base64") is not None:
        return base64.b64decode(body["base64"])
    if body.get("text") is not None:
        return str(body["text"]).encode()
    return json.dumps(body["json"], ensure_ascii=False).encode() if "json" in body else b""


def _json(sent: bytes) -> Any:
    try:
        return json.loads(sent)
    except ValueError:
        return sent.decode() or None  # a form, or nothing


def _one(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


def _status(status: Any) -> int:
    return int(status["code"] if isinstance(status, dict) else status)


@dataclass
class Replay:
    """A server that answers with recorded replies in order. ``requests`` are the bodies it got, as JSON."""

    url: str = ""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)


@asynccontextmanager
async def replaying(exchanges: Sequence[Exchange], piece: int | None = 7) -> AsyncGenerator[Replay]:
    """Serve the replies of ``exchanges`` from loopback, ``piece`` bytes a write."""
    replay, left = Replay(), iter(exchanges)

    async def answer(request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        replay.paths.append(request.path_qs)
        replay.headers.append(dict(request.headers))
        replay.requests.append(json.loads(raw) if raw else None)
        exchange = next(left, None)
        if exchange is None:
            return web.json_response({"error": {"message": "the recording is over"}}, status=410)
        kind = exchange.headers.get(
            "content-type", "text/event-stream" if exchange.streamed else "application/json"
        )
        kept = {name: value for name, value in exchange.headers.items() if name not in _TRANSPORT}
        response = web.StreamResponse(status=exchange.status, headers={"Content-Type": kind, **kept})
        await response.prepare(request)
        for chunk in cut(exchange.body, piece):
            await response.write(chunk)
        await response.write_eof()
        return response

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        replay.url = f"http://{host}:{port}"
        yield replay
    finally:
        await runner.cleanup()


def cut(body: bytes, piece: int | None) -> Iterator[bytes]:
    """``body`` in pieces."""
    size = piece or len(body) or 1
    return (body[start : start + size] for start in range(0, len(body), size))
