"""What a session has said so far: the fold of its log into finished runs.

Kept up to date run by run; a session that stays open never reads its log again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import ValidationError, convert

from ..events import Event, RunFinished, RunResumed, RunStarted, SessionForked, ToolFinished
from ..folds.changes import ending_note
from ..folds.records import artifacts_of, refold
from ..folds.state import State
from ..folds.transcript import Transcript
from ..policies.restore import PastRun, SessionRestorePolicy
from ..store.base import TranscriptRecord
from ..types import Artifact, ChatMessage, Role, RunState, TextPart


class History:
    """A session's finished runs, in the order they finished.

    Of a run that ended without success, what was said is kept as well, with a note how it ended, so that the next
    run knows what the user asked and how far it came. The last run may be gone on with (``Session.retry``).
    """

    def __init__(self) -> None:
        self.seq = 0
        self._said = Transcript()
        self._runs: list[PastRun] = []
        self._ends: list[int] = []
        self._lengths: list[int] = []
        self._open: dict[str, list[Event]] = {}
        self._last: tuple[str, Sequence[Event]] = ("", ())

    def before(self, seq: int, restore: SessionRestorePolicy) -> tuple[Transcript, list[PastRun]]:
        """What a run that starts at ``seq`` is told, and the runs it may know of."""
        count = bisect_left(self._ends, seq)
        if restore.whole:
            return self._said.upto(self._lengths[count - 1] if count else 0), self._runs[:0]
        window = self._runs[max(0, count - restore.max_transcripts) : count]
        return Transcript(restore.messages(window)), window

    def absorb(self, events: Iterable[Event]) -> None:
        """Take in what was appended to the log by others, or at opening everything."""
        for event in events:
            if event.seq <= self.seq:
                continue  # two readers at once: the other one was here already
            self.seq = event.seq
            if isinstance(event, SessionForked):
                self._add(event.seq, PastRun("", "", event.messages), event.messages)
            elif event.run_id:
                if isinstance(event, RunResumed) and self.is_last(event.run_id):
                    self._open[event.run_id] = self._reopened()
                self._open.setdefault(event.run_id, []).append(event)
                if isinstance(event, RunFinished):
                    self._close(self._open.pop(event.run_id))

    def absorb_records(self, runs: Iterable[PastRun]) -> None:
        """Take in runs of which only a transcript was kept; they all ended before the log began."""
        for run in runs:
            self._add(0, run, run.messages)

    @property
    def last_id(self) -> str:
        """The id of the run that was the last to end; empty when none has."""
        return self._last[0]

    def is_last(self, run_id: str) -> bool:
        """Whether this run was the last to end."""
        return self._last[0] == run_id

    def _reopened(self) -> list[Event]:
        """Forget the last run, which goes on after all, and return its events so far."""
        events = list(self._last[1])
        self._last = ("", ())
        for ended in (self._runs, self._ends, self._lengths):
            ended.pop()
        self._said = self._said.upto(self._lengths[-1] if self._lengths else 0)
        return events

    def finish(self, state: State, events: Sequence[Event], seq: int) -> None:
        """Take in a run that ended or came to rest right here."""
        self.seq = seq
        self._open.pop(state.run_id, None)
        if self.is_last(state.run_id):
            self._reopened()
        if events and isinstance(events[-1], RunFinished):
            self._add_run(state, events)
        elif events:
            self._open[state.run_id] = list(events)

    def _close(self, events: list[Event]) -> None:
        started = next((event for event in events if isinstance(event, RunStarted)), None)
        if started is None:
            return
        prefix, _ = self.before(started.seq, SessionRestorePolicy.from_fields(started.restore))
        self._add_run(refold(events, State(transcript=prefix)), events)

    def _add_run(self, state: State, events: Sequence[Event]) -> None:
        said = [m for m in state.transcript.after(state.own) if m.content or m.tool_calls]
        if state.status is not RunState.COMPLETED:
            said = _noted(said, ending_note(state))
        self._add(events[-1].seq, past_run(state, events), said)
        self._last = (state.run_id, events)

    def _add(self, seq: int, run: PastRun, said: Sequence[ChatMessage]) -> None:
        self._said = self._said.plus(*said)
        self._runs.append(run)
        self._ends.append(seq)
        self._lengths.append(len(self._said))


def _noted(said: list[ChatMessage], note: str) -> list[ChatMessage]:
    """``said`` with a note at its end, in the agent's own last words where there are any."""
    last = said[-1] if said else None
    if last is None or last.role is not Role.ASSISTANT or last.tool_calls:
        return [*said, ChatMessage(Role.ASSISTANT, note)]
    text = (
        f"{last.content}\n\n{note}"
        if isinstance(last.content, str)
        else (*(last.content or ()), TextPart(note))
    )
    return [*said[:-1], ChatMessage(Role.ASSISTANT, text)]


def _unfinished_output(state: State) -> str:
    return "\n\n".join(piece for piece in (state.output, ending_note(state)) if piece)


def past_run(state: State, events: Sequence[Event]) -> PastRun:
    """A finished run as restore policies see it."""
    started = next((event for event in events if isinstance(event, RunStarted)), None)
    notes = [f"{e.name}: {e.outcome}" for e in events if isinstance(e, ToolFinished)]
    return PastRun(
        prompt=state.goal,
        output=state.output if state.status is RunState.COMPLETED else _unfinished_output(state),
        inputs=started.inputs if started else {},
        notes=notes,
        artifacts=artifacts_of(state, events[-1].at if events else 0.0),
    )


def past_record(record: TranscriptRecord) -> PastRun:
    """A run of which a store kept only a transcript, as restore policies see it."""
    output, state = record.output, str(record.metadata.get("state", RunState.COMPLETED.value))
    if state != RunState.COMPLETED.value:
        output = "\n\n".join(piece for piece in (output, f"[The run ended as {state}.]") if piece)
    said = [ChatMessage(Role.USER, record.prompt)]
    return PastRun(
        record.prompt,
        output,
        [*said, ChatMessage(Role.ASSISTANT, output)] if output else said,
        inputs=record.context,
        notes=[note for row in record.events if (note := _note_of(row))],
        artifacts=[artifact for row in record.artifacts if (artifact := _artifact_of(row))],
    )


def _note_of(row: dict[str, Any]) -> str:
    """What a kept event adds to the summary of its run. Rows are of a user's store, and may be anything."""
    told: Any = row.get("payload", row)
    if row.get("type") != "tool.finished" or not isinstance(told, dict):
        return ""
    return f"{told.get('name')}: {told.get('outcome')}"  # pyright: ignore[reportUnknownMemberType]


def _artifact_of(row: dict[str, Any]) -> Artifact | None:
    try:
        return convert(row, Artifact)
    except ValidationError:
        return None
