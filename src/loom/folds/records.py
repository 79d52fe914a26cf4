"""What the events of a run amount to as rows: a RunRecord and a TranscriptRecord.

Stores fold rows out of their logs with it, and sessions write them with it for stores that keep no log, so that a row
says the same whoever wrote it, and the same as the run's result. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import StoreCorrupted
from ..events import (
    Event,
    RequestAnswered,
    RequestExpired,
    RequestOpened,
    RequestWithdrawn,
    RunFinished,
    RunResumed,
    RunStarted,
)
from ..store.base import RunRecord, TranscriptRecord
from ..types import Artifact, ChatMessage, Role, RunState, jsonable
from .changes import fold
from .state import State

ROW_EVENTS = frozenset(
    {RunStarted, RunResumed, RequestOpened, RequestAnswered, RequestWithdrawn, RequestExpired, RunFinished}
)
"""The kinds of events that change a run's row."""

ROW_TYPES = frozenset(kind.__struct_config__.tag for kind in ROW_EVENTS)
"""Their names."""

_encoder = msgspec.json.Encoder(enc_hook=jsonable)


def plain(value: Any) -> Any:
    """``value`` as it would come back from JSON. Raises TypeError for what is not plain data."""
    return msgspec.json.decode(_encoder.encode(value))


def fold_run(row: RunRecord | None, event: Event, *, session_id: str, waiting: bool) -> RunRecord | None:
    """The run's row after ``event``; None when the run's beginning is not known.

    ``waiting`` says whether a request that the run opened is still unanswered after ``event``. The row has the
    output of a run that has ended, and none before.
    """
    if isinstance(event, RunStarted):
        metadata = {"prompt": event.task.goal}
        if row is None:
            row = RunRecord(
                event.run_id, session_id, RunState.RUNNING, created_at=_when(event), metadata=metadata
            )
        return replace(
            row, state=RunState.RUNNING.value, metadata={**metadata, **row.metadata}, updated_at=_when(event)
        )
    if row is None or type(event) not in ROW_EVENTS:
        return row
    if isinstance(event, RunFinished):
        error = None if event.error is None else plain(event.error)
        return replace(
            row, state=event.state.value, output=event.output, error=error, updated_at=_when(event)
        )
    resumed = isinstance(event, RunResumed)
    state = RunState.WAITING if waiting and not resumed else RunState.RUNNING
    return replace(row, state=state.value, updated_at=_when(event))


def _when(event: Event) -> datetime:
    try:
        return event.ts
    except (ValueError, OverflowError, OSError) as error:
        raise StoreCorrupted(f"event {event.seq} happened at no time that there is: {error}") from error


def run_record(events: Iterable[Event], *, session_id: str) -> RunRecord | None:
    """The row of a run with these events; None when they do not hold its beginning."""
    row: RunRecord | None = None
    waiting: set[str] = set()
    for event in events:
        if isinstance(event, RequestOpened):
            waiting.add(event.request.id)
        elif isinstance(event, RequestAnswered | RequestWithdrawn):
            waiting.discard(event.request_id)
        row = fold_run(row, event, session_id=session_id, waiting=bool(waiting))
    return row


def transcript_record(events: Sequence[Event], *, session_id: str) -> TranscriptRecord | None:
    """What a run said so far, from its events in order; None when they do not hold its beginning.

    Raises StoreCorrupted when the events do not belong together.
    """
    started = beginning(events)
    if started is None:
        return None
    state = refold(events)
    status = RunState.WAITING if state.requests and not state.status.terminal else state.status
    return TranscriptRecord(
        id=started.run_id,
        session_id=session_id,
        prompt=started.task.goal,
        output=state.output,
        messages=plain(messages_of(state, started)),
        context=plain(started.inputs),
        events=[event_row(event) for event in events],
        artifacts=plain(artifacts_of(state, events[-1].at)),
        created_at=_when(started),
        updated_at=_when(events[-1]),
        metadata={"state": status.value},
    )


def refold(events: Iterable[Event], state: State | None = None) -> State:
    """The state that stored events amount to. Raises StoreCorrupted when they do not belong together."""
    try:
        return fold(events, state)
    except (LookupError, TypeError, ValueError) as error:
        raise StoreCorrupted(f"the log holds events that do not follow from each other: {error!r}") from error


def beginning(events: Iterable[Event]) -> RunStarted | None:
    """The event that began the run, if it is among these."""
    return next((event for event in events if isinstance(event, RunStarted)), None)


def messages_of(state: State, started: RunStarted | None) -> list[ChatMessage]:
    """What was said in a run, from the task as it was given: what stood beside it for the model is its context."""
    said = state.transcript.after(state.own)
    if started is None or started.messages or not said:
        return said
    given = started.task.content()
    if said[0].content == given:
        return said  # the very same message, which may know how it is written on a wire
    return [ChatMessage(Role.USER, given), *said[1:]]


def artifacts_of(state: State, at: float) -> tuple[Artifact, ...]:
    """What a run produced that outlives it: its final text, when it completed."""
    if not state.output or state.status is not RunState.COMPLETED:
        return ()
    return (
        Artifact(
            id=f"{state.run_id}:output",
            run_id=state.run_id,
            kind="text",
            title="Run output",
            uri=f"run://{state.run_id}/output",
            created_at=at,
            metadata={"content": state.output, "session_id": state.session_id},
        ),
    )


def event_row(event: Event) -> dict[str, Any]:
    """An event as plain data: its envelope, and its own fields as ``payload``."""
    return {
        "id": event.id,
        "run_id": event.run_id,
        "type": event.type,
        "ts": _when(event).isoformat(),
        "visibility": event.visibility,
        "payload": plain(event.payload),
    }
