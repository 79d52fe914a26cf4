"""What a ``FileSessionStore`` remembers of its file: where things are, never what they say.

The index is a fold over the lines, so every process that has read the same lines has the same index. Its
size grows by a few machine words per line; texts stay on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..folds.records import ROW_TYPES
from .lines import (
    AnyLine,
    CarriedLine,
    DeleteLine,
    EventGlance,
    EventsLine,
    LeaseLine,
    Place,
    ReleaseLine,
    RunLine,
    SessionLine,
    SignalLine,
    TranscriptLine,
)
from .log import DedupeKeys, Lease, seen_key


class RowStep(NamedTuple):
    """Something that changed a run's row: a saved row (``seq`` 0) or an event, and if requests were open.

    A ``passing`` step only says where the run stands, so the next one of its kind takes its place.
    """

    place: Place
    seq: int = 0
    waiting: bool = False
    passing: bool = False


class OpenRequest(NamedTuple):
    """A request nobody has answered."""

    run_id: str
    place: Place
    seq: int


class WaitingSignal(NamedTuple):
    """A signal that nobody has taken."""

    place: Place
    source: str


class RunIndex:
    """One run: its session, and the steps its row is folded from."""

    __slots__ = ("session_id", "started", "steps", "transcript")

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.started = False
        self.steps: list[RowStep] = []
        self.transcript: Place | None = None


class SessionIndex:
    """One session: ``lines[i]`` holds the events from the seq ``firsts[i]`` on."""

    __slots__ = (
        "firsts",
        "head",
        "inbox",
        "lease",
        "lines",
        "parent",
        "requests",
        "row",
        "runs",
        "seen",
        "unfinished",
    )

    def __init__(self) -> None:
        self.row: Place | None = None
        self.parent: str | None = None
        self.lines: list[Place] = []
        self.firsts: list[int] = []
        self.head = 0
        self.runs: dict[str, list[int]] = {}
        self.unfinished: dict[str, None] = {}
        self.requests: dict[str, OpenRequest] = {}
        self.inbox: dict[str, WaitingSignal] = {}
        self.seen = DedupeKeys()
        self.lease: Lease | None = None


class LineIndex:
    """Everything by id, after the lines read so far."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionIndex] = {}
        self.runs: dict[str, RunIndex] = {}
        self.token = 0

    def session(self, session_id: str) -> SessionIndex:
        """The session's entry, made if there is none."""
        found = self.sessions.get(session_id)
        if found is None:
            found = self.sessions[session_id] = SessionIndex()
        return found

    def apply(self, line: AnyLine, place: Place) -> None:
        """Take one more line in. Raises ValueError when it cannot follow the lines before it."""
        if isinstance(line, EventsLine):
            self._events(line, place)
        elif isinstance(line, LeaseLine):
            self.token = max(self.token, line.token)
            self.session(line.session).lease = Lease(line.session, line.owner, line.token, line.expires_at)
        elif isinstance(line, ReleaseLine):
            self.session(line.session).lease = None
        elif isinstance(line, SignalLine):
            session = self.session(line.session)
            session.inbox[line.signal.id] = WaitingSignal(place, line.signal.source)
            key = seen_key(line.signal.source, line.signal.dedupe_key)
            if key is not None:
                session.seen.add(key, line.at, line.window)
        elif isinstance(line, SessionLine):
            session = self.session(line.row.id)
            session.row, session.parent = place, line.row.parent or session.parent
        elif isinstance(line, RunLine):
            self._run(line.row.id, line.row.session_id).steps = [RowStep(place)]
        elif isinstance(line, TranscriptLine):
            self._run(line.row.id, line.row.session_id).transcript = place
        elif isinstance(line, DeleteLine):
            self._delete(line.session)
        elif isinstance(line, CarriedLine):
            self._carried(line)
        else:
            raise ValueError("is a second header")

    def places(self) -> Iterator[Place]:
        """Where everything is that still counts, in no order."""
        for session in self.sessions.values():
            yield from session.lines
            yield from (signal.place for signal in session.inbox.values())
            if session.row is not None:
                yield session.row
        for run in self.runs.values():
            yield from (step.place for step in run.steps if step.seq == 0)
            if run.transcript is not None:
                yield run.transcript

    def _run(self, run_id: str, session_id: str) -> RunIndex:
        run = self.runs.get(run_id)
        if run is None:
            run = self.runs[run_id] = RunIndex(session_id)
        self.session(run.session_id).runs.setdefault(run_id, [])
        return run

    def _events(self, line: EventsLine, place: Place) -> None:
        session = self.session(line.session)
        check_glances(line.events, session.head)
        position = len(session.lines)
        if line.events:
            session.lines.append(place)
            session.firsts.append(session.head + 1)
            session.head += len(line.events)
        for event in line.events:
            if event.type == "child.started":
                self.session(event.child_session_id).parent = line.session
            if event.run_id:
                positions = session.runs.setdefault(event.run_id, [])
                if not positions or positions[-1] != position:
                    positions.append(position)
                if event.type in ROW_TYPES:
                    self._row_event(session, line.session, event, place)
        for signal_id in line.taken:
            session.inbox.pop(signal_id, None)

    def _row_event(self, session: SessionIndex, session_id: str, event: EventGlance, place: Place) -> None:
        run_id = event.run_id
        run = self._run(run_id, session_id)
        if event.type == "run.started":
            run.started, run.session_id = True, session_id
            session.unfinished[run_id] = None
        elif event.type == "run.resumed" and run.started:
            session.unfinished.setdefault(run_id)
        elif event.type == "run.finished":
            session.unfinished.pop(run_id, None)
            for key in [key for key, request in session.requests.items() if request.run_id == run_id]:
                del session.requests[key]
        elif event.type == "request.opened":
            session.requests[event.opens()] = OpenRequest(run_id, place, event.seq)
        elif event.type == "request.answered":
            session.requests.pop(event.answers(), None)
        elif event.type in ("request.withdrawn", "request.expired"):
            session.requests.pop(event.request_id, None)
        waiting = any(request.run_id == run_id for request in session.requests.values())
        step = RowStep(place, event.seq, waiting, passing=event.type not in ("run.started", "run.finished"))
        if step.passing and run.steps and run.steps[-1].passing:
            run.steps[-1] = step
        else:
            run.steps.append(step)

    def _delete(self, session_id: str) -> None:
        session = self.sessions.pop(session_id, None)
        for run_id in session.runs if session else ():
            run = self.runs.get(run_id)
            if run is not None and run.session_id == session_id:
                del self.runs[run_id]

    def _carried(self, line: CarriedLine) -> None:
        self.token = max(self.token, line.token)
        for session_id, keys in line.seen.items():
            for key, at, window in keys:
                self.session(session_id).seen.add(key, at, window)


def check_glances(events: Sequence[EventGlance], head: int) -> None:
    """Raise ValueError unless the events carry the seqs that follow ``head``."""
    for seq, event in enumerate(events, start=head + 1):
        if event.seq != seq:
            raise ValueError(f"holds event {event.seq} where {seq} should be")
