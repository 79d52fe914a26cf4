"""Events that follow from a state by themselves, with nothing left to ask, run or wait for."""

from __future__ import annotations

from ..events import ErrorRaised, Event, LimitReached, RequestExpired, RunFinished
from ..folds.state import State
from ..types import RunState
from .steps import Expire, Fail, Finish, Judge, Stop, next_step


def what_follows(state: State, *, judged: bool) -> list[Event]:
    """The next event when it needs nothing from outside, else none. ``judged`` says that replies are."""
    step = next_step(state)
    if isinstance(step, Judge) and not judged:
        step = Finish(RunState.COMPLETED)
    if isinstance(step, Stop):
        return [
            LimitReached(limit=step.limit, allowed=step.allowed, spent=step.spent, estimated=step.estimated)
        ]
    if isinstance(step, Expire):
        return [RequestExpired(request_id=request.id) for request in step.requests]
    if isinstance(step, Fail):
        return [ErrorRaised(error=step.error)]
    if isinstance(step, Finish):
        return [_finished(state, step)]
    return []


def _finished(state: State, step: Finish) -> RunFinished:
    return RunFinished(
        state=step.state,
        output=state.output,
        error=step.error,
        usage=state.usage,
        cost=state.cost if state.iterations else None,
        iterations=state.iterations,
        child_iterations=state.child_iterations,
        tool_calls=state.tool_calls,
        duration_ms=int(state.active_seconds * 1000),
        estimated_cost=state.estimated_cost,
    )
