"""What a run is, as a value. How each event changes it is ``changes.py``.

Two rules for this file: no I/O, no clock, no randomness; and everything a run knows about itself is here,
so that folding its events anywhere gives the same state. What to do next is ``kernel/steps.py``.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from ..events import (
    LimitReached,
    Outcome,
)
from ..requests import Answer, Request
from ..types import (
    ErrorInfo,
    Limits,
    RunState,
    StopReason,
    ToolResult,
    Usage,
)
from .transcript import Transcript


class Phase(StrEnum):
    """Where one tool call stands. Every call ends in ``FINISHED`` with exactly one result."""

    REQUESTED = "requested"
    WAITING = "waiting"
    ANSWERED = "answered"
    ALLOWED = "allowed"
    STARTED = "started"
    FINISHED = "finished"


class Call(Struct, frozen=True):
    """One tool call of the latest reply. ``arguments`` is the JSON text that would run, after edits."""

    id: str
    name: str
    arguments: str
    key: str
    phase: Phase = Phase.REQUESTED
    attempt: int = 0
    request: Request | None = None
    answers: tuple[Answer, ...] = ()
    digest: str = ""
    approval: Answer | None = None
    outcome: Outcome | None = None
    result: ToolResult | None = None
    children: tuple[str, ...] = ()
    concurrency_safe: bool = False


class State(Struct, frozen=True, kw_only=True):
    """A run so far. ``own`` is the position in ``transcript`` where this run's messages begin.

    ``spent_cost`` is the money that is known to be spent, and estimates of the rest. It is all known while
    ``priced``; while ``unpriced`` some of it has neither price nor estimate. ``called`` is how many calls of each
    tool were entered and have their result.
    """

    run_id: str = ""
    session_id: str = ""
    status: RunState = RunState.QUEUED
    goal: str = ""
    limits: Limits = Limits()
    depth: int = 0
    transcript: Transcript = Transcript()
    own: int = 0
    iterations: int = 0
    tool_calls: int = 0
    called: dict[str, int] = {}
    usage: Usage = Usage()
    spent_cost: float = 0.0
    priced: bool = True
    unpriced: bool = False
    child_iterations: int = 0
    active_seconds: float = 0.0
    last_at: float = 0.0
    calls: tuple[Call, ...] = ()
    requests: tuple[Request, ...] = ()
    cleared: tuple[str, ...] = ()
    stop_reason: StopReason | None = None
    judged: bool = False
    attempts: int = 0
    output: str = ""
    error: ErrorInfo | None = None
    limit: LimitReached | None = None
    cancelling: bool = False
    cancel_reason: str = ""
    denied: tuple[str, ...] = ()
    streak: int = 0
    streak_of: bytes = b""

    @property
    def ending(self) -> bool:
        """True when only settling and finishing are left to do, or not even those."""
        return self.cancelling or self.error is not None or self.limit is not None or self.status.terminal

    @property
    def cost(self) -> float | None:
        """What the run spent in money; None when not all of it is known."""
        return self.spent_cost if self.priced else None

    @property
    def estimated_cost(self) -> float | None:
        """What it spent with estimates for what is not known; None when it is known, or has no estimate."""
        return None if self.priced or self.unpriced else self.spent_cost

    @property
    def resting(self) -> bool:
        """True when nothing goes on because people are asked."""
        if not self.requests:
            return False
        still = (Phase.WAITING, Phase.FINISHED, Phase.ALLOWED)
        return all(call.phase in still for call in self.calls) and not self.ready

    @property
    def ready(self) -> tuple[Call, ...]:
        """The allowed calls that may be entered now, in order.

        A call that must run in order does not pass an earlier one that was entered and has no result yet: its
        question, or the question what became of it after a crash, comes first.
        """
        ready: list[Call] = []
        held = False
        for call in self.calls:
            if call.phase is Phase.ALLOWED and (call.concurrency_safe or not held):
                ready.append(call)
            elif call.attempt and call.phase is not Phase.FINISHED and not call.concurrency_safe:
                held = True
        return tuple(ready)

    @property
    def expired(self) -> tuple[Request, ...]:
        """The open requests whose time was up when the run was last heard of."""
        return tuple(r for r in self.requests if r.expires_at is not None and r.expires_at < self.last_at)

    @property
    def unsettled(self) -> tuple[Call, ...]:
        """The calls without a result."""
        return tuple(call for call in self.calls if call.phase is not Phase.FINISHED)

    def in_phase(self, *phases: Phase) -> tuple[Call, ...]:
        """The calls in one of these phases, in the order the model made them."""
        return tuple(call for call in self.calls if call.phase in phases)

    def call(self, call_id: str) -> Call:
        """The call of that id. Raises KeyError."""
        for call in self.calls:
            if call.id == call_id:
                return call
        raise KeyError(call_id)
