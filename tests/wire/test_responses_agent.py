"""A whole agent over the Responses wire: what the model thought goes back with its calls, durably."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loom import Agent, Model, RunState, SessionConfig, SqliteSessionStore, tool
from loom.events import RunFinished
from loom.testing.model_server import ModelServer, served
from loom.testing.wires.openai_responses import whole
from loom.types import (
    ChatMessage,
    ChatResponse,
    OpaquePart,
    Role,
    StopReason,
    TextPart,
    ThinkingPart,
    ToolCall,
)

OURS = "openai_responses"


@tool(read_only=True)
def today() -> str:
    """The date."""
    return "2026-03-01"


@tool(read_only=True)
def train(to: str) -> str:
    """The next train."""
    return f"to {to} at 9:04"


@tool(destructive=True)
def book(to: str) -> str:
    """Book a seat."""
    return f"booked to {to}"


def thinking(number: int, *parts: Any, calls: tuple[ToolCall, ...] = ()) -> ChatResponse:
    reasoning = ThinkingPart(f"Step {number}: \n\n**think**", f"rs_{number}", f"gAAAA{number}==", OURS)
    stop = StopReason.TOOL_USE if calls else StopReason.STOP
    message = ChatMessage(Role.ASSISTANT, (reasoning, *parts), tool_calls=calls or None)
    return ChatResponse(message, stop_reason=stop, model="gpt-5")


SEARCH = OpaquePart(OURS, '{"type":"web_search_call","id":"ws_1","status":"completed"}')
TURNS = [
    thinking(1, calls=(ToolCall("call_a", "today", "{}"), ToolCall("call_b", "train", '{"to": "Bern"}'))),
    thinking(
        2, SEARCH, TextPart("Now the other one."), calls=(ToolCall("call_c", "train", '{"to":"Chur"}'),)
    ),
    thinking(3, TextPart("At 9:04.")),
]


def said(number: int) -> list[Any]:
    """The items of the turn with this number, as the server told them."""
    items: list[Any] = json.loads(whole(TURNS[number - 1], number))["output"]
    for item in items:
        for piece in item.get("content", ()):
            piece.pop("logprobs")
    return items


def output(call_id: str, text: str) -> dict[str, str]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def declared(server: ModelServer, name: str = "gpt-5", **options: Any) -> Agent[Any, Any]:
    model = Model.openai(
        name, wire="responses", base_url=server.base_url, api_key="k", **options.pop("model", {})
    )
    return Agent(model=model, tools=[today, train, book], instructions="Be brief.", **options)


@pytest.mark.parametrize("streamed", [False, True])
async def test_reasoning_and_calls_go_back_exactly_as_they_came(streamed: bool) -> None:
    async with ModelServer(TURNS, chunk=4) as server:
        agent = declared(server)
        if streamed:
            events = [event async for event in agent.stream("When is my train?")]
            assert isinstance(events[-1], RunFinished)
            assert (events[-1].state, events[-1].output) == (RunState.COMPLETED, "At 9:04.")
        else:
            result = await agent.run("When is my train?")
            assert (result.state, result.output) == (RunState.COMPLETED, "At 9:04.")
        await agent.aclose()
    first, second, third = [request.body["input"] for request in server.requests]
    assert first == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "When is my train?"},
    ]
    turn = [*said(1), output("call_a", "2026-03-01"), output("call_b", "to Bern at 9:04")]
    assert second == [*first, *turn]
    assert third == [*second, *said(2), output("call_c", "to Chur at 9:04")]
    assert all(request.body["stream"] is streamed for request in server.requests)


async def test_they_go_back_from_another_process(tmp_path: Path) -> None:
    # The run waits for a human, is forgotten, and goes on from its log alone.
    asks = thinking(1, calls=(ToolCall("call_a", "book", '{"to": "Bern"}'),))
    async with ModelServer([asks]) as server:
        agent = declared(server, session_store=SqliteSessionStore(str(tmp_path / "s.db")))
        waiting = await agent.session(SessionConfig(id="s")).run("Book it.")
        await agent.aclose()
    assert waiting.state is RunState.WAITING
    async with ModelServer(["Done."]) as later:
        agent = declared(later, session_store=SqliteSessionStore(str(tmp_path / "s.db")))
        answers = [request.approve(by="ana") for request in waiting.pending]
        result = await agent.session(SessionConfig(id="s")).resume(waiting.run_id, answers)
        await agent.aclose()
    assert (result.state, result.output) == (RunState.COMPLETED, "Done.")
    items = json.loads(whole(asks, 1))["output"]
    assert later.requests[0].body["input"][2:] == [*items, output("call_a", "booked to Bern")]


async def test_a_service_that_stores_is_sent_what_is_new() -> None:
    async with ModelServer([*TURNS, "Bye."]) as server:
        agent = declared(server, model={"extensions": {"store": True}})
        session = agent.session()
        assert (await session.run("When is my train?")).output == "At 9:04."
        assert (await session.run("Thanks.")).output == "Bye."
        await agent.aclose()
    bodies = [request.body for request in server.requests]
    assert [body.get("previous_response_id") for body in bodies] == [None, "resp_1", "resp_2", "resp_3"]
    assert bodies[1]["input"] == [output("call_a", "2026-03-01"), output("call_b", "to Bern at 9:04")]
    assert bodies[3]["input"] == [{"role": "user", "content": "Thanks."}]


async def test_a_model_that_does_not_reason_takes_over_in_the_middle(tmp_path: Path) -> None:
    refusal = {"error": {"message": "Reasoning input items can only be provided to a reasoning model."}}
    refused = served(status=400, body=json.dumps(refusal).encode())
    async with ModelServer([*TURNS, refused, "You are welcome.", "Bye."]) as server:
        for name, tasks in (("gpt-5", ["When is my train?"]), ("gpt-4o", ["Thanks.", "Bye."])):
            agent = declared(server, name, session_store=SqliteSessionStore(str(tmp_path / "s.db")))
            for task in tasks:
                assert (await agent.session(SessionConfig(id="s")).run(task)).ok
            await agent.aclose()
    asked, answered, later = [request.body["input"] for request in server.requests[3:]]
    assert [item["type"] for item in asked if "type" in item].count("reasoning") == 3
    for items in (answered, later):
        kinds = {item.get("type", "message") for item in items}
        assert kinds == {"message", "function_call", "function_call_output"}
        assert not any("id" in item for item in items)
