"""What an operator reads about runs in the log of the process, at INFO: what happened, never what was said."""

from __future__ import annotations

import logging

from ..events import (
    ErrorRaised,
    Event,
    LimitReached,
    ReplyCut,
    RequestOpened,
    RunFinished,
    RunResumed,
    RunStarted,
    ToolFinished,
)

run_logger = logging.getLogger("loom.run")


def tell_log(event: Event) -> None:
    """Write a line about a kept event that an operator wants to know of; the other kinds have none."""
    told = _line(event)
    if told:
        run_logger.info("run %s: %s", event.run_id, told)


def _line(event: Event) -> str:
    if isinstance(event, RunStarted):
        return f"started in session {event.session_id}"
    if isinstance(event, RunResumed):
        return f"goes on, it was {event.from_state.value}"
    if isinstance(event, ToolFinished):
        return f"tool {event.name} ended as {event.outcome} after {event.duration_ms} ms"
    if isinstance(event, RequestOpened):
        return f"asks a human ({event.request.kind}, {event.request.id})"
    if isinstance(event, ErrorRaised):
        return f"error {event.error.code}"
    if isinstance(event, LimitReached):
        return f"reached {event.limit}"
    if isinstance(event, ReplyCut):
        return "a reply was broken off"
    if isinstance(event, RunFinished):
        return f"{event.state.value} after {event.iterations} model calls and {event.tool_calls} tool calls"
    return ""
