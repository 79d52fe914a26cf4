"""What one would write by hand: a tool loop on aiohttp and msgspec, the whole body encoded every time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from ..client import KEY, MODEL, Client, Turn
from .floor_parts import Tool, append_turn, describe, open_turns, opening


class Function(msgspec.Struct):
    name: str
    arguments: str


class Call(msgspec.Struct):
    id: str
    function: Function
    type: str = "function"


class Message(msgspec.Struct):
    role: str = "assistant"
    content: str | None = None
    tool_calls: list[Call] | None = None


class Choice(msgspec.Struct):
    message: Message


class Reply(msgspec.Struct):
    choices: list[Choice]


class Delta(msgspec.Struct):
    content: str | None = None


class Piece(msgspec.Struct):
    delta: Delta


class Chunk(msgspec.Struct):
    choices: list[Piece]


_encode = msgspec.json.encode
_reply = msgspec.json.Decoder(Reply).decode
_chunk = msgspec.json.Decoder(Chunk).decode


class Agent:
    """An address, tools and the session that all runs share, opened on first use."""

    def __init__(self, base_url: str, tools: Sequence[Tool]) -> None:
        self.url = f"{base_url}/chat/completions"
        self.tools = {tool.name: tool for tool in tools}
        self.http: aiohttp.ClientSession | None = None

    def post(self, messages: list[Any], *, stream: bool) -> Any:
        body: dict[str, Any] = {"model": MODEL, "messages": messages, "stream": stream}
        if self.tools:
            body["tools"] = [tool.schema for tool in self.tools.values()]
        if self.http is None:
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
            self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)
        return self.http.post(self.url, data=_encode(body))

    async def ask(self, messages: list[Any]) -> Message:
        async with self.post(messages, stream=False) as reply:
            return _reply(await reply.read()).choices[0].message


async def _run(agent: Agent, prompt: str) -> str:
    messages = opening(prompt)
    while True:
        message = await agent.ask(messages)
        if not message.tool_calls:
            return message.content or ""
        messages.append(message)
        results = await asyncio.gather(*(_call(agent, call.function) for call in message.tool_calls))
        for call, result in zip(message.tool_calls, results, strict=True):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


async def _call(agent: Agent, function: Function) -> str:
    return await agent.tools[function.name].call(msgspec.json.decode(function.arguments))


async def _stream(agent: Agent, prompt: str) -> AsyncIterator[str]:
    rest = b""
    async with agent.post(opening(prompt), stream=True) as reply:
        async for read in reply.content.iter_any():
            *events, rest = (rest + read).split(b"\n\n")
            for event in events:
                if event != b"data: [DONE]":
                    choices = _chunk(event[6:]).choices
                    if choices and choices[0].delta.content:
                        yield choices[0].delta.content


class FloorAiohttp(Client):
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
        messages = opening()

        async def turn(prompt: str) -> str:
            messages.append({"role": "user", "content": prompt})
            answer = await agent.ask(messages)
            messages.append(answer)
            append_turn(database, *(_encode(message).decode() for message in messages[-2:]))
            return answer.content or ""

        yield turn
        database.close()


CLIENT = FloorAiohttp
