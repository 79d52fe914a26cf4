"""Events, stream events and content parts are told apart by ``type``. See ``agent_api.py``."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Literal, assert_type

from loom import Agent, AnyEvent, RunFinished, TextDelta, ToolFinished
from loom.events import ErrorRaised, decode_event
from loom.llm.base import ContentDeltaEvent
from loom.loop import Agent as LoopAgent
from loom.loop import AgentConfig
from loom.loop_events import DoneEvent, TurnEvent
from loom.types import ChatMessage, ChatResponse, ErrorInfo, ImagePart, Part, Role, TextPart, ToolResult


async def the_word_tells_which_event_it_is() -> None:
    async for event in Agent().stream("hello"):
        if event.type == "text.delta":
            assert_type(event, TextDelta)
            assert_type(event.text, str)
        elif event.type == "tool.finished":
            assert_type(event, ToolFinished)
            assert_type(event.result, ToolResult)
        elif isinstance(event, RunFinished):
            assert_type(event.error, ErrorInfo | None)
        print(event.text)  # type: ignore[union-attr]
        if event.type == "text.dleta":  # type: ignore[comparison-overlap]
            pass


async def results_and_handles_hold_them(event: AnyEvent) -> None:
    result = await Agent().run("hello")
    assert_type([e.error for e in result.events if e.type == "error"], list[ErrorInfo])
    assert_type(decode_event(b""), AnyEvent)
    match event:
        case TextDelta(text=text):
            assert_type(text, str)
        case ErrorRaised():
            assert_type(event.type, Literal["error"])
        case _:
            pass


async def a_turn_streams_events_of_its_own(agent: LoopAgent) -> None:
    async for event in agent.run_turn_stream([ChatMessage(Role.USER, "hello")]):
        assert_type(event, TurnEvent)
        if event.type == "content_delta":
            assert_type(event, ContentDeltaEvent)
        elif event.type == "done":
            assert_type(event, DoneEvent)


async def what_wraps_them_gives_their_type() -> None:
    def wrap(event: TurnEvent) -> bytes:
        return event.type.encode()

    agent = LoopAgent(config=AgentConfig(serialize_event=wrap))
    async for line in agent.run_turn_stream([ChatMessage(Role.USER, "hello")]):
        assert_type(line, bytes)
    plain = LoopAgent(config=AgentConfig(max_iterations=3))
    assert_type(plain, LoopAgent[TurnEvent])


def parts_are_told_apart(part: Part, response: ChatResponse) -> None:
    if part.type == "text":
        assert_type(part, TextPart)
    elif part.type == "image":
        assert_type(part, ImagePart)
    assert_type(response.type, Literal["response"])
