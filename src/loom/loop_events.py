"""What ``loom.loop.Agent.run_turn_stream`` yields, beside the provider's own deltas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from msgspec import Struct

from .events import (
    ErrorRaised,
    Event,
    RunFinished,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolFinished,
    ToolStarted,
)
from .llm.base import ContentDeltaEvent, ThinkingDeltaEvent, ToolCallDeltaEvent
from .types import RunState


class ToolExecStartEvent(Struct, frozen=True, tag_field="type", tag="tool_exec_start"):
    """A tool is about to run. ``arguments`` is the model's JSON text."""

    type: ClassVar[Literal["tool_exec_start"]] = "tool_exec_start"
    tool_call_id: str
    name: str
    arguments: str


class ToolExecResultEvent(Struct, frozen=True, tag_field="type", tag="tool_exec_result"):
    """A tool call has its result."""

    type: ClassVar[Literal["tool_exec_result"]] = "tool_exec_result"
    tool_call_id: str
    name: str
    text: str
    is_error: bool = False


class LimitReachedEvent(Struct, frozen=True, tag_field="type", tag="limit_reached"):
    """The turn used up its model calls."""

    type: ClassVar[Literal["limit_reached"]] = "limit_reached"
    iterations: int


class ErrorEvent(Struct, frozen=True, tag_field="type", tag="error"):
    """Something ended the turn. ``reason`` is the error's code."""

    type: ClassVar[Literal["error"]] = "error"
    message: str
    reason: str | None = None
    status_code: int | None = None
    retryable: bool = False


class DoneEvent(Struct, frozen=True, tag_field="type", tag="done"):
    """The turn is over. ``context["messages"]`` is the conversation with its last reply."""

    type: ClassVar[Literal["done"]] = "done"
    model: str = ""
    iterations: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    tool_calls: int = 0
    stop_reason: str | None = None
    session_id: str | None = None
    skills_touched: list[str] = []
    context: dict[str, Any] = {}


TurnEvent = (
    ContentDeltaEvent
    | ThinkingDeltaEvent
    | ToolCallDeltaEvent
    | ToolExecStartEvent
    | ToolExecResultEvent
    | LimitReachedEvent
    | ErrorEvent
    | DoneEvent
)


def in_harness_words(event: Event, arguments: Mapping[str, str]) -> TurnEvent | None:
    """A kernel event as the harness tells it; None for one it does not. ``arguments`` are those of calls by id."""
    match event:
        case TextDelta():
            return ContentDeltaEvent(event.text)
        case ThinkingDelta():
            return ThinkingDeltaEvent(event.text)
        case ToolCallDelta():
            return ToolCallDeltaEvent(event.index, event.call_id, event.name, event.arguments or None)
        case ToolStarted():
            return ToolExecStartEvent(event.call_id, event.name, arguments.get(event.call_id, "{}"))
        case ToolFinished():
            return ToolExecResultEvent(event.call_id, event.name, event.result.text, event.outcome != "ok")
        case RunFinished() if event.state is RunState.LIMIT_REACHED:
            return LimitReachedEvent(event.iterations)
        case ErrorRaised():
            error = event.error
            return ErrorEvent(error.message, error.code, error.status, error.retryable)
        case _:
            return None
