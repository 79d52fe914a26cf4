"""Replies that do not end: what is read of them has a bound."""

from __future__ import annotations

import asyncio

import pytest

from loom.errors import InvalidRequestError, MalformedReplyError
from loom.llm import service, wire
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.testing.model_server import ModelServer
from loom.types import ChatMessage, Role
from proxies import listening

HELLO = [ChatMessage(Role.USER, "Hello")]
ENOUGH = 16 * 2**20

pytestmark = pytest.mark.timeout(30)


async def test_review_l_a_whole_reply_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_REPLY_BYTES", 1_000)
    async with (
        ModelServer(["x" * 2_000] * 3) as server,
        OpenAICompatibleProvider(server.base_url, max_retries=0) as provider,
    ):
        with pytest.raises(MalformedReplyError, match="more than 1000 bytes"):
            await provider.chat(HELLO)


@pytest.mark.parametrize("bound", ["service", "wire"])
async def test_review_l_a_stream_has_a_bound(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    module = service if bound == "service" else wire
    monkeypatch.setattr(module, "MAX_REPLY_BYTES", 1_000)
    body = b'{"choices":[{"message":{"content":"' + b"x" * 2_000 + b'"},"finish_reason":"stop"}]}'
    from loom.testing.model_server import served

    item = "x" * 2_000 if bound == "service" else served(body=body)  # a stream, or a reply that ignores that
    async with (
        ModelServer([item], chunk=10) as server,
        OpenAICompatibleProvider(server.base_url, max_retries=0) as provider,
    ):
        with pytest.raises(MalformedReplyError, match="1000 bytes"):
            [_ async for _ in provider.chat_stream(HELLO)]


async def test_review_l_a_complaint_without_end_has_a_bound() -> None:
    sent = 0

    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n")
        # It ends after all, for who reads to the end: a test that fails must not fill the memory.
        while sent < ENOUGH and not writer.is_closing():
            writer.write(b"no " * 10_000)
            sent += 30_000
            await writer.drain()

    async with (
        listening(complain) as port,
        OpenAICompatibleProvider(f"http://127.0.0.1:{port}/v1", max_retries=0) as provider,
    ):
        with pytest.raises(InvalidRequestError):
            await provider.chat(HELLO)
    assert sent < ENOUGH
