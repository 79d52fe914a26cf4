"""The table of what a run does next, row by row, and which row wins when several fit."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from loom.events import LimitReached
from loom.folds.state import Call, Phase, State
from loom.folds.transcript import Transcript
from loom.kernel.steps import (
    AskModel,
    Await,
    Decide,
    Done,
    Execute,
    Fail,
    Finish,
    Judge,
    Recover,
    Settle,
    Stop,
    next_step,
)
from loom.requests import Request
from loom.types import ChatMessage, ErrorInfo, Limits, Role, RunState, StopReason, Usage

RUNNING = State(
    run_id="r",
    session_id="s",
    status=RunState.RUNNING,
    limits=Limits(max_iterations=None),
    transcript=Transcript([ChatMessage(Role.USER, "go")]),
)
ERROR = ErrorInfo("provider", "down")
REQUEST = Request("q", "question", "which?", call_id="c1")
LIMIT = LimitReached(limit="max_tokens", allowed=1.0, spent=2.0)


def _call(phase: Phase, name: str = "c1") -> Call:
    return Call(name, "t", "{}", f"r:1:{name}", phase=phase, attempt=int(phase is Phase.STARTED))


def _state(**fields: Any) -> State:
    return replace(RUNNING, **fields)


def _one(phase: Phase) -> tuple[Call, ...]:
    return (_call(phase), _call(Phase.FINISHED, "c2"))


@pytest.mark.parametrize("status", [status for status in RunState if status.terminal])
def test_a_terminal_outcome(status: RunState) -> None:
    state = _state(
        status=status, cancelling=True, error=ERROR, calls=_one(Phase.STARTED), requests=(REQUEST,)
    )
    assert next_step(state) == Done()


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.FINISHED])
@pytest.mark.parametrize(
    "end", [{"cancelling": True}, {"error": ERROR}, {"limit": LIMIT}], ids=["cancel", "error", "limit"]
)
def test_an_end_in_sight_settles_what_is_open(phase: Phase, end: dict[str, Any]) -> None:
    step = next_step(_state(calls=_one(phase), requests=(REQUEST,), **end))
    assert step == Settle((_call(phase),))


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"cancelling": True}, RunState.CANCELLED),
        ({"cancelling": True, "error": ERROR, "limit": LIMIT}, RunState.CANCELLED),
        ({"error": ERROR}, RunState.FAILED),
        ({"error": ERROR, "limit": LIMIT}, RunState.FAILED),
        ({"limit": LIMIT}, RunState.LIMIT_REACHED),
        ({"limit": LIMIT, "stop_reason": StopReason.STOP, "judged": True}, RunState.LIMIT_REACHED),
        ({"error": ERROR, "requests": (REQUEST,)}, RunState.FAILED),
    ],
)
def test_the_end(fields: dict[str, Any], state: RunState) -> None:
    step = next_step(_state(**fields))
    assert isinstance(step, Finish)
    assert step.state is state
    assert step.error is not None


def test_calls_a_dead_process_had_started_come_first() -> None:
    others = tuple(
        _call(phase, f"c{n}") for n, phase in enumerate([Phase.REQUESTED, Phase.ALLOWED, Phase.WAITING])
    )
    started = _call(Phase.STARTED, "c9")
    assert next_step(_state(calls=(*others, started))) == Recover((started,))


def test_undecided_calls_come_before_allowed_ones() -> None:
    requested, answered = _call(Phase.REQUESTED), _call(Phase.ANSWERED, "c2")
    calls = (requested, _call(Phase.ALLOWED, "c3"), answered, _call(Phase.WAITING, "c4"))
    assert next_step(_state(calls=calls, requests=(REQUEST,))) == Decide((requested, answered))


def test_allowed_calls_run_while_others_wait() -> None:
    allowed = _call(Phase.ALLOWED, "c3")
    calls = (_call(Phase.WAITING), allowed, _call(Phase.FINISHED, "c4"))
    assert next_step(_state(calls=calls, requests=(REQUEST,))) == Execute((allowed,))


def test_calls_that_only_wait() -> None:
    assert next_step(_state(calls=_one(Phase.WAITING), requests=(REQUEST,))) == Await()
    assert next_step(_state(requests=(replace(REQUEST, call_id=""),))) == Await()


@pytest.mark.parametrize(
    ("spent", "allowed", "stops"), [(0, 0, True), (1, 1, True), (1, 2, False), (0, 1, False)]
)
def test_tool_calls_beyond_the_budget_do_not_run(spent: int, allowed: int, stops: bool) -> None:
    state = _state(tool_calls=spent, calls=_one(Phase.ALLOWED), limits=Limits(max_tool_calls=allowed))
    assert isinstance(next_step(state), Stop if stops else Execute)


@pytest.mark.parametrize("streak", [0, 1, 2, 3, 4])
def test_the_same_failure_again_and_again(streak: int) -> None:
    step = next_step(_state(streak=streak))
    assert isinstance(step, Fail) == (streak >= 3)
    assert not isinstance(step, Fail) or step.error.code == "stuck"


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (StopReason.LENGTH, "output_truncated"),
        (StopReason.CONTENT_FILTER, "content_filter"),
        (StopReason.REFUSAL, "refusal"),
        (StopReason.CONTEXT_FULL, "context_overflow"),
        (StopReason.PAUSED, "reply_paused"),
    ],
)
@pytest.mark.parametrize("judged", [False, True])
def test_a_reply_that_is_not_whole(stop: StopReason, code: str, judged: bool) -> None:
    step = next_step(_state(stop_reason=stop, output="half", judged=judged))
    assert isinstance(step, Fail)
    assert step.error.code == code


@pytest.mark.parametrize("stop", [StopReason.STOP, StopReason.TOOL_USE, StopReason.UNKNOWN])
def test_a_final_reply(stop: StopReason) -> None:
    assert next_step(_state(stop_reason=stop, output="done")) == Judge()
    assert next_step(_state(stop_reason=stop, output="done", judged=True)) == Finish(RunState.COMPLETED)
    empty = next_step(_state(stop_reason=stop, output=""))
    assert isinstance(empty, Fail)
    assert empty.error.code == "empty_reply"
    assert empty.error.retryable


@pytest.mark.parametrize(
    ("limits", "spent", "name"),
    [
        (Limits(max_iterations=2), {"iterations": 2}, "max_iterations"),
        (Limits(max_iterations=3), {"iterations": 2, "child_iterations": 1}, "max_iterations"),
        (Limits(max_tokens=10), {"usage": Usage(5, 5)}, "max_tokens"),
        (Limits(max_cost=0.5), {"spent_cost": 0.5}, "max_cost"),
        (Limits(max_seconds=1.5), {"active_seconds": 1.5}, "max_seconds"),
        (Limits(max_iterations=0), {}, "max_iterations"),
    ],
)
def test_a_limit_the_next_model_call_would_break(limits: Limits, spent: dict[str, Any], name: str) -> None:
    step = next_step(_state(limits=limits, **spent))
    assert isinstance(step, Stop)
    assert step.limit == name
    assert step.spent >= step.allowed
    final = next_step(_state(limits=limits, stop_reason=StopReason.STOP, output="done", judged=True, **spent))
    assert final == Finish(RunState.COMPLETED), "an answer that is there is not taken back"


def test_otherwise_the_model_is_asked() -> None:
    assert next_step(RUNNING) == AskModel()
    assert next_step(_state(limits=Limits(max_iterations=2), iterations=1)) == AskModel()
