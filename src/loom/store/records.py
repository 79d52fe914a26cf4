"""What events amount to: a run's row and its transcript. Pure folds, shared by the durable stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import StoreError
from ..events import (
    Event,
    ModelReplied,
    RequestAnswered,
    RequestOpened,
    RequestWithdrawn,
    RunFinished,
    RunResumed,
    RunStarted,
    ToolFinished,
)
from ..types import ChatMessage, Role, RunState, jsonable
from .base import RunRecord, TranscriptRecord

ROW_EVENTS = frozenset(
    {RunStarted, RunResumed, RequestOpened, RequestAnswered, RequestWithdrawn, RunFinished}
)
"""The kinds of events that change a run's row."""

ROW_TYPES = frozenset(kind.__struct_config__.tag for kind in ROW_EVENTS)
"""Their names."""

_encoder = msgspec.json.Encoder(enc_hook=jsonable)


def plain(value: Any) -> Any:
    """``value`` as it would come back from JSON. Raises TypeError for what is not plain data."""
    return msgspec.json.decode(_encoder.encode(value))


NOT_PLAIN = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What encoding raises for values that are not plain data, lone surrogates included."""


def encode_row(row: object) -> bytes:
    """A row or signal as JSON. Raises StoreError when it holds what is not plain data."""
    try:
        return _encoder.encode(row)
    except NOT_PLAIN as error:
        raise StoreError(f"the record was not saved, it holds what is not plain data: {error}") from error


def fold_run(row: RunRecord | None, event: Event, *, session_id: str, waiting: bool) -> RunRecord | None:
    """The run's row after ``event``; None when the run's beginning is not known.

    ``waiting`` says whether a request that the run opened is still unanswered after ``event``.
    """
    if isinstance(event, RunStarted):
        metadata = {"prompt": event.task.goal}
        if row is None:
            row = RunRecord(
                event.run_id, session_id, RunState.RUNNING, created_at=event.ts, metadata=metadata
            )
        return replace(
            row, state=RunState.RUNNING.value, metadata={**metadata, **row.metadata}, updated_at=event.ts
        )
    if row is None or type(event) not in ROW_EVENTS:
        return row
    if isinstance(event, RunFinished):
        error = None if event.error is None else plain(event.error)
        return replace(row, state=event.state.value, output=event.output, error=error, updated_at=event.ts)
    resumed = isinstance(event, RunResumed)
    state = RunState.WAITING if waiting and not resumed else RunState.RUNNING
    return replace(row, state=state.value, updated_at=event.ts)


def fold_transcript(events: Sequence[Event], *, session_id: str) -> TranscriptRecord | None:
    """What a run said so far, from its events in order; None when they do not hold its beginning."""
    started = next((event for event in events if isinstance(event, RunStarted)), None)
    if started is None:
        return None
    messages = [ChatMessage(Role.USER, started.task.content())]
    output, state = "", RunState.RUNNING
    for event in events:
        if isinstance(event, ModelReplied):
            messages.append(event.message)
        elif isinstance(event, ToolFinished):
            messages.append(_tool_message(event))
        elif isinstance(event, RunFinished):
            output, state = event.output, event.state
        elif isinstance(event, RequestOpened):
            state = RunState.WAITING
        elif isinstance(event, RequestAnswered | RequestWithdrawn | RunResumed):
            state = RunState.RUNNING
    return TranscriptRecord(
        id=started.run_id,
        session_id=session_id,
        prompt=started.task.goal,
        output=output,
        messages=plain(messages),
        context=plain(started.inputs),
        events=[_event_row(event) for event in events],
        created_at=started.ts,
        updated_at=events[-1].ts,
        metadata={"state": state.value},
    )


def _tool_message(event: ToolFinished) -> ChatMessage:
    return ChatMessage(
        Role.TOOL,
        event.result.content,
        tool_call_id=event.call_id,
        name=event.name,
        is_error=event.result.is_error or not event.success,
    )


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "run_id": event.run_id,
        "type": event.type,
        "ts": event.ts.isoformat(),
        "visibility": event.visibility,
        "payload": plain(event.payload),
    }
