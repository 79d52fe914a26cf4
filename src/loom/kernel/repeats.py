"""What a tool declares about its repetition: how many calls a run may make, and how often one call is tried.

Both are read off the state, so they hold after a crash as before it.
"""

from __future__ import annotations

import dataclasses
from typing import TypeGuard

from msgspec.structs import replace

from ..errors import LoomError, ToolExecutionError
from ..events import Event, ToolRetried, ToolStarted
from ..folds.state import Phase, State
from ..safety.permissions import Ruling
from .attempt import Attempt
from .case import Case
from .foreign import described

_IN_HAND = (Phase.ALLOWED, Phase.STARTED)


def call_limit(case: Case) -> Ruling:
    """Refuse a call beyond the ``max_calls`` of its tool, those of the same reply that were allowed included."""
    most, name = case.spec.max_calls, case.spec.name
    if most is None or _made(case.state, name, case.call.id) < most:
        return Ruling("allow", "permission")
    times = "once" if most == 1 else f"{most} times"
    return Ruling("deny", "max_calls", f"{name} may be called {times} in a run, and was; go on without it")


def _made(state: State, name: str, but: str) -> int:
    """How many calls of a tool the run has made or is about to make, the call ``but`` apart."""
    in_hand = (
        call
        for call in state.calls
        if call.name == name and call.id != but and call.phase is not Phase.FINISHED
    )
    return state.called.get(name, 0) + sum(call.phase in _IN_HAND or call.attempt > 0 for call in in_hand)


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """A call that is entered again: what to write down before, with what, and after how many seconds."""

    events: tuple[Event, ...]
    case: Case
    delay: float


def retry_of(attempt: Attempt) -> Retry | None:
    """What follows from an attempt that failed; None when its outcome stands."""
    case, error, policy = attempt.case, attempt.error, attempt.case.spec.retries
    failed = case.call.attempt + 1
    # guard: tests/kernel/test_tool_limits.py
    if policy is None or failed > policy.times or attempt.expired or not _may_pass(error):
        return None
    told = ToolExecutionError(f"Error: {described(error)}")
    told.__cause__ = error
    call = replace(case.call, attempt=failed)
    delay = policy.pause(failed)
    retried = ToolRetried(call_id=call.id, name=call.name, attempt=failed, error=told.info(), delay=delay)
    started = ToolStarted(call_id=call.id, name=call.name, idempotency_key=call.key, attempt=failed + 1)
    return Retry((retried, started), dataclasses.replace(case, call=call), delay)


def _may_pass(error: BaseException | None) -> TypeGuard[Exception]:
    """Whether trying again may help: a ToolError is the tool's own word, and what was stopped stays stopped."""
    # guard: tests/kernel/test_tool_limits.py
    if isinstance(error, LoomError):
        return error.retryable is True
    return isinstance(error, Exception)
