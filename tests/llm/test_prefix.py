"""Prompt caches of services hit on what stays the same from the start: requests of a session share all they can."""

from __future__ import annotations

from itertools import pairwise, takewhile
from typing import Any

import pytest
from wires import WIRES

import loom
from loom.llm.base import ModelSettings
from loom.llm.wire import HTTPProvider
from loom.testing.model_server import ModelServer
from loom.testing.scripted import call, say
from loom.types import ChatMessage, Role, ToolCall, ToolSpec

TOOLS = [ToolSpec(name, f"The tool {name}.", {"type": "object", "properties": {}}) for name in "cab"]


def shared(one: bytes, other: bytes) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def conversation(turns: int) -> list[ChatMessage]:
    said = [ChatMessage(Role.SYSTEM, "Be brief.")]
    for turn in range(turns):
        calls = (ToolCall(f"c{turn}", "a", f'{{"turn":{turn}}}'),)
        said += [
            ChatMessage(Role.USER, f"Question {turn} with some words."),
            ChatMessage(Role.ASSISTANT, "Looking.", tool_calls=calls),
            ChatMessage(Role.TOOL, f"Result {turn}", tool_call_id=f"c{turn}", name="a"),
            ChatMessage(Role.ASSISTANT, f"Answer {turn}."),
        ]
    return [*said, ChatMessage(Role.USER, "And then?")]


async def sent(provider: HTTPProvider, messages: list[ChatMessage], **options: Any) -> bytes:
    settings = options.get("settings")
    return (await provider._request(messages, options.get("tools", TOOLS), "m", settings, True)).body


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "settings",
    [None, ModelSettings(temperature=0.5, max_output_tokens=100, extensions={"seed": 1})],
    ids=["plain", "settings"],
)
async def test_a_longer_conversation_begins_as_the_shorter_one_did(wire: Any, settings: Any) -> None:
    provider = wire("http://localhost/v1")
    for turns in (0, 1, 5):
        shorter = await sent(provider, conversation(turns), settings=settings)
        longer = await sent(provider, conversation(turns + 1), settings=settings)
        # Only the last message and the brackets that close the request may differ.
        assert shared(shorter, longer) >= len(shorter) - len("And then?") - 60, shorter[-200:]


@pytest.mark.parametrize("wire", WIRES)
async def test_tools_have_one_order_and_one_form(wire: Any) -> None:
    one = await sent(wire("http://localhost/v1"), conversation(1), tools=TOOLS)
    other = await sent(wire("http://localhost/v1"), conversation(1), tools=list(reversed(TOOLS)))
    assert one == other


@pytest.mark.parametrize("wire", WIRES)
async def test_the_same_conversation_is_the_same_bytes_in_any_process(wire: Any) -> None:
    assert await sent(wire("http://localhost/v1"), conversation(3)) == await sent(
        wire("http://localhost/v1"), conversation(3)
    )


@pytest.mark.parametrize("wire", WIRES)
async def test_the_requests_of_a_session_grow_at_their_end_only(wire: Any) -> None:
    """Through a whole agent: nothing above the last turn changes from one request to the next."""

    @loom.tool
    def look(at: str) -> str:
        """Looks at something."""
        return f"{at} is fine"

    script = [
        call("look", at="one"),
        call("look", at="two"),
        "Both are fine.",
        call("look", at="three"),
        say("All."),
    ]
    async with ModelServer(script) as server, wire(server.base_url) as provider:
        session = loom.Agent(model=provider, tools=[look], instructions="Be careful.").session()
        await session.run("Look at one and two")
        await session.run("And at three")
        bodies = [request.raw for request in server.requests]
    assert len(bodies) == 5
    for earlier, later in pairwise(bodies):
        assert shared(earlier, later) >= len(earlier) - 60, earlier[-200:]
