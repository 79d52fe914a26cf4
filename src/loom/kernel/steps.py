"""What a run does next: one table of states and steps, read from the top.

Pure like ``folds/state.py``. A new behaviour of the loop is a new row here, a comment saying what the state
holds and the step it leads to, and its deed in ``kernel/loop.py``.
"""

from __future__ import annotations

from itertools import takewhile

from msgspec import Struct

from ..folds.state import Call, Phase, State
from ..folds.stops import CUT_SHORT, EMPTY
from ..requests import Request
from ..safety.media import MEDIA_PARTS
from ..types import ErrorInfo, RunState, StopReason

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
    """Run these calls, all at once."""

    calls: tuple[Call, ...]


class Await(Struct, frozen=True):
    """Nothing can go on before a human answers."""


class Expire(Struct, frozen=True):
    """The time of these requests is up: take them back, so that they are asked anew."""

    requests: tuple[Request, ...]


class Stop(Struct, frozen=True):
    """A limit of the budget is reached."""

    limit: str
    allowed: float
    spent: float
    estimated: bool = False


class Fail(Struct, frozen=True):
    """Something makes success impossible."""

    error: ErrorInfo


class Judge(Struct, frozen=True):
    """Hold the final reply against what was asked for."""


class AskModel(Struct, frozen=True):
    """Ask the model."""


Step = Done | Finish | Settle | Recover | Decide | Execute | Expire | Await | Stop | Fail | Judge | AskModel


def next_step(state: State) -> Step:
    """The table. Every state has a step; the first row that fits names it."""
    # a terminal outcome
    # guard: tests/kernel/test_steps.py
    if state.status.terminal:
        return Done()
    if state.ending:
        return _end(state)
    # questions whose time is up
    # guard: tests/kernel/test_expiry.py
    if state.requests and (expired := state.expired):
        return Expire(expired)
    if state.calls:
        return _go_on_with_calls(state)
    # a question about the run itself
    if state.requests:
        return Await()
    # the same failure, again and again
    # guard: tests/kernel/test_steps.py
    if state.streak >= STUCK_AFTER:
        return Fail(ErrorInfo("stuck", f"the same tool calls failed {state.streak} times in a row"))
    if state.stop_reason is not None:
        return _go_on_with_reply(state, state.stop_reason)
    # a limit that the next model call would break
    if (stop := _broken_limit(state)) is not None:
        return stop
    # a limit on money that cannot be held any more; otherwise ask
    return Fail(PRICE_UNKNOWN) if state.unpriced and state.limits.max_cost is not None else AskModel()


def _end(state: State) -> Step:
    # an end in sight, and calls without a result
    # guard: tests/kernel/test_steps.py
    if unsettled := state.unsettled:
        return Settle(unsettled)
    # a cancel
    # guard: tests/kernel/test_steps.py
    if state.cancelling:
        return Finish(RunState.CANCELLED, cancelled_error(state.cancel_reason))
    # an error
    # guard: tests/kernel/test_steps.py
    if state.error is not None:
        return Finish(RunState.FAILED, state.error)
    # a limit reached
    return Finish(RunState.LIMIT_REACHED, _limit_error(state))


def _go_on_with_calls(state: State) -> Step:
    # calls of a reply that was cut short
    # guard: tests/kernel/test_stops.py
    if state.stop_reason is not None:
        return Fail(CUT_SHORT[state.stop_reason])
    # calls that a dead process had started
    # guard: tests/kernel/test_steps.py
    if started := state.in_phase(Phase.STARTED):
        return Recover(started)
    # calls that no gate has decided, or that a human has answered
    if undecided := state.in_phase(Phase.REQUESTED, Phase.ANSWERED):
        return Decide(undecided)
    # calls allowed and not started, as far as the budget goes, and not before what must come first
    if ready := state.ready:
        allowed = state.limits.max_tool_calls
        wanted = state.tool_calls + len(state.in_phase(Phase.ALLOWED))
        # guard: tests/kernel/test_steps.py
        if allowed is not None and wanted > allowed:
            return Stop("max_tool_calls", allowed, wanted)
        return Execute(_first_group(ready))
    # calls that only wait for an answer
    return Await()


def _first_group(ready: tuple[Call, ...]) -> tuple[Call, ...]:
    """The first call, and those right behind it when all of them are safe together."""
    together = tuple(takewhile(lambda call: call.concurrency_safe, ready))
    return together or ready[:1]


def _go_on_with_reply(state: State, stop_reason: StopReason) -> Step:
    # a final reply that is not a whole answer
    # guard: tests/kernel/test_stops.py
    if cut_short := CUT_SHORT.get(stop_reason) or (EMPTY if _says_nothing(state) else None):
        return Fail(cut_short)
    # a final reply that passed its judge, or that nobody has judged
    return Finish(RunState.COMPLETED) if state.judged else Judge()


def _says_nothing(state: State) -> bool:
    """Whether the reply is neither text nor anything to look at or hear."""
    content = state.transcript[-1].content if state.transcript else None
    shown = isinstance(content, tuple) and any(isinstance(part, MEDIA_PARTS) for part in content)
    return not (state.output.strip() or shown)


PRICE_UNKNOWN = ErrorInfo(
    "config",
    "max_cost cannot be held: what a model call cost is not known. Pass Model(..., price=Price(...)) to every "
    "model of the agent and of its children, or run without max_cost",
)
"""Why a run with a limit on money does not go on after a reply without a price."""


def _broken_limit(state: State) -> Stop | None:
    limits = state.limits
    spent_iterations = state.iterations + state.child_iterations
    # guard: tests/kernel/test_steps.py
    if limits.max_iterations is not None and spent_iterations >= limits.max_iterations:
        return Stop("max_iterations", limits.max_iterations, spent_iterations)
    usage = state.usage
    # guard: tests/kernel/test_steps.py
    if limits.max_tokens is not None and usage.total_tokens >= limits.max_tokens:
        return Stop("max_tokens", limits.max_tokens, usage.total_tokens, usage.estimated)
    # guard: tests/kernel/test_steps.py
    if limits.max_cost is not None and state.spent_cost >= limits.max_cost:
        return Stop("max_cost", limits.max_cost, state.spent_cost, not state.priced)
    # guard: tests/kernel/test_steps.py
    if limits.max_seconds is not None and state.active_seconds >= limits.max_seconds:
        return Stop("max_seconds", limits.max_seconds, state.active_seconds)
    return None


def cancelled_error(reason: str) -> ErrorInfo:
    """What a cancelled run gives as its error."""
    return ErrorInfo("cancelled", f"the run was cancelled: {reason or 'no reason given'}")


def _limit_error(state: State) -> ErrorInfo | None:
    if state.limit is None:
        return None
    reached = state.limit
    spent = f"{reached.spent:g}, estimated" if reached.estimated else f"{reached.spent:g}"
    return ErrorInfo("budget_exceeded", f"{reached.limit} of {reached.allowed:g} reached ({spent})")
