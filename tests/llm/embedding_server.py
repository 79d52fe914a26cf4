"""An embedding service on a loopback socket that speaks all three wires and fails when told to."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

DIM = 8


def vector(text: str, dim: int = DIM) -> list[float]:
    """The one vector of a text."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return [byte / 256 - 0.5 for byte in (digest * (dim // 32 + 1))[:dim]]


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: Any
    texts: list[str]


Answer = Callable[["Service", Asked], Any]


@dataclass
class Service:
    """What happens in order: ``script`` holds a function of (service, request) for each request, else it embeds.

    A function returns a body (or None: embed), an aiohttp response, or waits. ``busy`` counts requests under way.
    """

    script: list[Answer | None] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    busy: int = 0
    most_busy: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        path = request.path
        if path.endswith(":batchEmbedContents"):
            texts = [item["content"]["parts"][0]["text"] for item in body["requests"]]
        else:
            texts = body["input"]
        asked = Asked(path, dict(request.headers), body, texts)
        self.asked.append(asked)
        step = self.script.pop(0) if self.script else None
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            reply = step(self, asked) if step else None
            if asyncio.iscoroutine(reply):
                reply = await reply
        except asyncio.CancelledError:
            self.gone.set()
            raise
        finally:
            self.busy -= 1
        if isinstance(reply, web.StreamResponse):
            return reply
        if reply is None:
            reply = embedded(asked)
        return web.Response(
            text=reply if isinstance(reply, str) else json.dumps(reply), content_type="application/json"
        )


def embedded(asked: Asked, dim: int = DIM) -> dict[str, Any]:
    """The right reply to a request."""
    vectors = [vector(text, dim) for text in asked.texts]
    if asked.path.endswith(":batchEmbedContents"):
        return {"embeddings": [{"values": one} for one in vectors], "usageMetadata": {"promptTokenCount": 3}}
    if asked.path.endswith("/api/embed"):
        return {"model": "m", "embeddings": vectors, "total_duration": 5, "prompt_eval_count": 3}
    items = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)]
    return {"object": "list", "data": items, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def refuse(status: int, body: str = '{"error":{"message":"no"}}', **headers: str) -> Answer:
    """An answer that is a refusal."""
    return lambda service, asked: web.Response(status=status, text=body, headers=headers)


@asynccontextmanager
async def embedding_service(*script: Answer | None) -> AsyncGenerator[Service]:
    """A service with this script, at ``service.url``."""
    service = Service(list(script))
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", service.answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        service.url = f"http://{host}:{port}"
        yield service
    finally:
        service.closing.set()
        await runner.cleanup()
