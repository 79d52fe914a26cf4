"""What a session has said so far: the fold of its log into finished runs.

Kept up to date run by run; a session that stays open never reads its log again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from ..events import Event, RunFinished, RunStarted, SessionForked, ToolFinished
from ..folds.records import artifacts_of, refold
from ..folds.state import State
from ..folds.transcript import Transcript
from ..policies.restore import PastRun, SessionRestorePolicy
from ..types import ChatMessage, Role, RunState


class History:
    """A session's finished runs, in the order they finished.

    A run that ended before the model said anything is left out, so that asking again after a failure does
    not say everything twice.
    """

    def __init__(self) -> None:
        self.seq = 0
        self._said = Transcript()
        self._runs: list[PastRun] = []
        self._ends: list[int] = []
        self._lengths: list[int] = []
        self._open: dict[str, list[Event]] = {}

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
                self._open.setdefault(event.run_id, []).append(event)
                if isinstance(event, RunFinished):
                    self._close(self._open.pop(event.run_id))

    def absorb_records(self, runs: Iterable[PastRun]) -> None:
        """Take in runs of which only a transcript was kept; they all ended before the log began."""
        for run in runs:
            self._add(0, run, run.messages)

    def finish(self, state: State, events: Sequence[Event], seq: int) -> None:
        """Take in a run that ended or came to rest right here."""
        self.seq = seq
        self._open.pop(state.run_id, None)
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
        if any(message.role is Role.ASSISTANT for message in said):
            self._add(events[-1].seq, past_run(state, events), said)

    def _add(self, seq: int, run: PastRun, said: Sequence[ChatMessage]) -> None:
        self._said = self._said.plus(*said)
        self._runs.append(run)
        self._ends.append(seq)
        self._lengths.append(len(self._said))


def past_run(state: State, events: Sequence[Event]) -> PastRun:
    """A finished run as restore policies see it."""
    started = next((event for event in events if isinstance(event, RunStarted)), None)
    notes = [f"{e.name}: {e.outcome}" for e in events if isinstance(e, ToolFinished)]
    return PastRun(
        prompt=state.goal,
        output=state.output if state.status is RunState.COMPLETED else "",
        inputs=started.inputs if started else {},
        notes=notes,
        artifacts=artifacts_of(state, events[-1].at if events else 0.0),
    )


def turn_messages(prompt: str, output: str) -> list[ChatMessage]:
    """A prompt and its answer as messages."""
    said = [ChatMessage(Role.USER, prompt)]
    return [*said, ChatMessage(Role.ASSISTANT, output)] if output else said
