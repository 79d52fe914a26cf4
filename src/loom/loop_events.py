"""What ``loom.loop.Agent.run_turn_stream`` yields, beside the provider's own deltas."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .llm.base import ContentDeltaEvent, ThinkingDeltaEvent, ToolCallDeltaEvent


class ToolExecStartEvent(Struct, frozen=True, tag_field="type", tag="tool_exec_start"):
    """A tool is about to run. ``arguments`` is the model's JSON text."""

    tool_call_id: str
    name: str
    arguments: str


class ToolExecResultEvent(Struct, frozen=True, tag_field="type", tag="tool_exec_result"):
    """A tool call has its result."""

    tool_call_id: str
    name: str
    text: str
    is_error: bool = False


class LimitReachedEvent(Struct, frozen=True, tag_field="type", tag="limit_reached"):
    """The turn used up its model calls."""

    iterations: int


class ErrorEvent(Struct, frozen=True, tag_field="type", tag="error"):
    """Something ended the turn. ``reason`` is the error's code."""

    message: str
    reason: str | None = None
    status_code: int | None = None
    retryable: bool = False


class DoneEvent(Struct, frozen=True, tag_field="type", tag="done"):
    """The turn is over. ``context["messages"]`` is the conversation with its last reply."""

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
