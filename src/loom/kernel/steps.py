"""What a run does next: one table, read from the top, the first row that fits.

Pure like ``kernel/state.py``. A new behaviour of the loop is a new row here and its deed in ``kernel/loop.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from ..types import ErrorInfo, RunState, StopReason
from .state import Call, Phase, State

STUCK_AFTER = 3
"""Identical failing rounds before a run counts as stuck; the harness of the fourth seed uses three."""


class Done(Struct, frozen=True):
    """The run has ended; there is nothing to do."""


class Finish(Struct, frozen=True):
    """Write down how the run ended."""

    state: RunState
    error: ErrorInfo | None = None


class Settle(Struct, frozen=True):
    """Give each of these calls the result that it was cancelled."""

    calls: tuple[Call, ...]


class Recover(Struct, frozen=True):
    """A process died during these calls: run again what is repeatable, ask about the rest."""

    calls: tuple[Call, ...]


class Decide(Struct, frozen=True):
    """Take these calls through the gates."""

    calls: tuple[Call, ...]


class Execute(Struct, frozen=True):
    """Run these calls."""

    calls: tuple[Call, ...]


class Await(Struct, frozen=True):
    """Nothing can go on before a human answers."""


class Stop(Struct, frozen=True):
    """A limit of the budget is reached."""

    limit: str
    allowed: float
    spent: float


class Fail(Struct, frozen=True):
    """Something makes success impossible."""

    error: ErrorInfo


class Judge(Struct, frozen=True):
    """Hold the final reply against what was asked for."""


class AskModel(Struct, frozen=True):
    """Ask the model."""


Step = Done | Finish | Settle | Recover | Decide | Execute | Await | Stop | Fail | Judge | AskModel


class Row(NamedTuple):
    """One line of the table: when the state holds this, take that step (None: the row does not fit)."""

    holds: str
    step: Callable[[State], Step | None]


def next_step(state: State) -> Step:
    """The step the table names. Every state has one."""
    for row in TABLE:
        step = row.step(state)
        if step is not None:
            return step
    return AskModel()


def _budget(state: State) -> Stop | None:
    """The first limit that the next model call would break."""
    limits = state.limits
    spent_iterations = state.iterations + state.child_iterations
    for limit, allowed, spent in (
        ("max_iterations", limits.max_iterations, spent_iterations),
        ("max_tokens", limits.max_tokens, state.usage.total_tokens),
        ("max_cost", limits.max_cost, state.cost or 0.0),
        ("max_seconds", limits.max_seconds, state.active_seconds),
    ):
        if allowed is not None and spent >= allowed:
            return Stop(limit, allowed, spent)
    return None


def _too_many_calls(state: State) -> Stop | None:
    allowed = state.limits.max_tool_calls
    wanted = state.tool_calls + len(state.unsettled)
    return Stop("max_tool_calls", allowed, wanted) if allowed is not None and wanted > allowed else None


def _stuck(state: State) -> Fail | None:
    if state.streak < STUCK_AFTER:
        return None
    return Fail(ErrorInfo("stuck", f"the same tool calls failed {state.streak} times in a row"))


_CUT_SHORT = {
    StopReason.LENGTH: ErrorInfo("output_truncated", "the reply was cut at the model's output limit"),
    StopReason.CONTENT_FILTER: ErrorInfo("content_filter", "the model service withheld the reply"),
    StopReason.REFUSAL: ErrorInfo("refusal", "the model refused to answer"),
}
_EMPTY = ErrorInfo("empty_reply", "the model replied with nothing", retryable=True)


def _cut_short(state: State) -> Fail | None:
    """A final reply that is not a whole answer."""
    if state.stop_reason is None:
        return None
    error = _CUT_SHORT.get(state.stop_reason) or (None if state.output else _EMPTY)
    return Fail(error) if error else None


def _limit_error(state: State) -> ErrorInfo | None:
    if state.limit is None:
        return None
    reached = state.limit
    return ErrorInfo("budget_exceeded", f"{reached.limit} of {reached.allowed:g} reached ({reached.spent:g})")


TABLE: tuple[Row, ...] = (
    Row("a terminal outcome", lambda s: Done() if s.status.terminal else None),
    Row(
        "an end in sight, and calls without a result",
        lambda s: Settle(s.unsettled) if s.ending and s.calls else None,
    ),
    Row("a cancel", lambda s: Finish(RunState.CANCELLED) if s.cancelling else None),
    Row("an error", lambda s: Finish(RunState.FAILED, s.error) if s.error else None),
    Row("a limit reached", lambda s: Finish(RunState.LIMIT_REACHED, _limit_error(s)) if s.limit else None),
    Row(
        "calls a dead process had started", lambda s: Recover(c) if (c := s.in_phase(Phase.STARTED)) else None
    ),
    Row("more calls than the budget allows", _too_many_calls),
    Row(
        "calls no gate has decided",
        lambda s: Decide(c) if (c := s.in_phase(Phase.REQUESTED, Phase.ANSWERED)) else None,
    ),
    Row("calls allowed and not started", lambda s: Execute(c) if (c := s.in_phase(Phase.ALLOWED)) else None),
    Row("an open request", lambda s: Await() if s.requests or s.calls else None),
    Row("the same failure, again and again", _stuck),
    Row("a final reply that is not whole", _cut_short),
    Row("a final reply nobody has judged", lambda s: Judge() if s.stop_reason and not s.judged else None),
    Row("a final reply", lambda s: Finish(RunState.COMPLETED) if s.stop_reason else None),
    Row("a limit the next model call would break", _budget),
)
