"""The floor under everything: a tool loop by hand on asyncio streams, standard library only.

Not a whole HTTP client: no TLS, no redirects, no timeouts. The body grows by the new messages, as the best
one could do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from ..client import KEY, MODEL, Client, Turn
from .floor_parts import Tool, append_turn, describe, open_turns, opening

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_dumps = json.JSONEncoder(separators=(",", ":")).encode


class Agent:
    """An address, tools and a pool of free connections."""

    def __init__(self, base_url: str, tools: Sequence[Tool]) -> None:
        self.base_url = base_url
        self.tools = {tool.name: tool for tool in tools}
        self.free: list[Connection] = []
        self.head = b""

    async def post(self, body: bytes) -> Connection:
        """Send a request; the reply is read from the connection that comes back."""
        parts = None if self.free and self.head else urlsplit(self.base_url)
        if parts is not None:
            self.head = (
                f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: "
            ).encode()
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        else:
            reader, writer = self.free.pop()
        writer.write(self.head + b"%d\r\n\r\n" % len(body) + body)
        return reader, writer

    def begin(self, messages: Sequence[dict[str, Any]], *, stream: bool) -> bytearray:
        """The body up to the last message, still open."""
        body: dict[str, Any] = {"model": MODEL, "stream": stream}
        if self.tools:
            body["tools"] = [tool.schema for tool in self.tools.values()]
        said = ",".join(_dumps(message) for message in messages)
        return bytearray(f'{_dumps(body)[:-1]},"messages":[{said}'.encode())

    async def ask(self, body: bytearray) -> dict[str, Any]:
        """The message that answers ``body``."""
        reader, _ = connection = await self.post(bytes(body) + b"]}")
        head = await reader.readuntil(b"\r\n\r\n")
        start = head.index(b"Content-Length: ") + 16
        reply = json.loads(await reader.readexactly(int(head[start : head.index(b"\r\n", start)])))
        self.free.append(connection)
        return reply["choices"][0]["message"]


async def _run(agent: Agent, prompt: str) -> str:
    body = agent.begin(opening(prompt), stream=False)
    while True:
        message = await agent.ask(body)
        calls = message.get("tool_calls")
        if not calls:
            return message["content"]
        results = await asyncio.gather(*(_call(agent, call["function"]) for call in calls))
        body += b"," + _dumps(message).encode()
        for call, result in zip(calls, results, strict=True):
            body += b"," + _dumps({"role": "tool", "tool_call_id": call["id"], "content": result}).encode()


async def _call(agent: Agent, function: dict[str, Any]) -> str:
    return await agent.tools[function["name"]].call(json.loads(function["arguments"]))


async def _stream(agent: Agent, prompt: str) -> AsyncIterator[str]:
    body = bytes(agent.begin(opening(prompt), stream=True)) + b"]}"
    reader, _ = connection = await agent.post(body)
    await reader.readuntil(b"\r\n\r\n")
    # Chunk by chunk with readline() would be two awaits a token; whatever has come is taken as one.
    rest, loads = b"", json.loads
    while not rest.endswith(b"\r\n0\r\n\r\n"):
        *chunks, rest = (rest + await reader.read(65536)).split(b"\n\n\r\n")
        for chunk in chunks:
            event = chunk[chunk.index(b"data: ") + 6 :]
            if event == b"[DONE]":
                rest = b"\r\n" + rest
                continue
            choices = loads(event)["choices"]
            if choices and (text := choices[0]["delta"].get("content")):
                yield text
    agent.free.append(connection)


class FloorRaw(Client):
    """See the module."""

    def tool(self, function: Any, *, together: bool = False, asks: bool = False) -> Tool:
        return describe(super().tool(function, together=together, asks=asks))

    def agent(self, base_url: str, tools: Sequence[Any]) -> Agent:
        return Agent(base_url, tools)

    async def run(self, agent: Agent, prompt: str) -> str:
        return await _run(agent, prompt)

    def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        return _stream(agent, prompt)

    @asynccontextmanager
    async def session(self, base_url: str, path: str) -> AsyncIterator[Turn]:
        agent, database = Agent(base_url, ()), open_turns(path)
        body = agent.begin(opening(), stream=False)

        async def turn(prompt: str) -> str:
            asked = _dumps({"role": "user", "content": prompt})
            body.extend(b"," + asked.encode())
            answer = await agent.ask(body)
            said = _dumps({"role": "assistant", "content": answer["content"]})
            body.extend(b"," + said.encode())
            append_turn(database, asked, said)
            return answer["content"]

        yield turn
        database.close()


CLIENT = FloorRaw
