"""Random histories of a run, as the kernel could have written them: a strategy, and a walk to the end.

The generator follows the table: it asks ``next_step`` what is due and draws one of the ways that step can go,
with cancels, limits, crashes and resumptions anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from loom.events import (
    CancelRequested,
    ChildFinished,
    ChildStarted,
    ErrorRaised,
    Event,
    LimitReached,
    ModelReplied,
    QualityJudged,
    RequestAnswered,
    RequestOpened,
    RunFinished,
    RunResumed,
    RunStarted,
    ToolDecided,
    ToolFinished,
    ToolRequested,
    ToolStarted,
)
from loom.folds.changes import apply
from loom.folds.state import Call, Phase, State
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
from loom.requests import Answer, Request
from loom.signals import RuntimeTask
from loom.types import (
    ChatMessage,
    ErrorInfo,
    Limits,
    Role,
    RunState,
    StopReason,
    ToolCall,
    ToolResult,
    Usage,
)

MOST_EVENTS = 70
Draw = Callable[[Any], Any]


class Writer:
    """Stamps events, folds them and remembers them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.state = State()
        self.at = 1_000.0
        self.named = 0

    def write(self, *events: Event) -> None:
        for event in events:
            self.at += 0.5
            stamped = replace(event, run_id="r", session_id="s", seq=len(self.events) + 1, at=self.at)
            self.events.append(stamped)
            self.state = apply(self.state, stamped)

    def name(self) -> str:
        self.named += 1
        return f"n{self.named}"


@st.composite
def histories(draw: Draw) -> list[Event]:
    """The events of one run, ended or not."""
    writer = Writer()
    limits = Limits(
        max_iterations=draw(st.sampled_from([None, 1, 3, 20])),
        max_tool_calls=draw(st.sampled_from([None, None, 2, 6])),
        max_tokens=draw(st.sampled_from([None, None, 60])),
    )
    writer.write(RunStarted(task=RuntimeTask(goal="go"), limits=limits))
    while len(writer.events) < MOST_EVENTS:
        step = next_step(writer.state)
        if isinstance(step, Done):
            break
        if not writer.state.ending and (disturbance := _disturbance(draw)) is not None:
            writer.write(disturbance)
            continue
        if not _perform(draw, writer, step):
            break
    return writer.events


def _disturbance(draw: Draw) -> Event | None:
    return {
        0: CancelRequested(reason="enough"),
        1: LimitReached(limit="max_seconds", allowed=1.0, spent=1.0),
        2: RunResumed(from_state=RunState.RUNNING),
        3: RunResumed(from_state=RunState.RUNNING),
    }.get(draw(st.integers(0, 40)))


def _perform(draw: Draw, writer: Writer, step: Any) -> bool:
    """Let one step happen, wholly or, as in a crash, in part. False when the run is left waiting."""
    state = writer.state
    if isinstance(step, AskModel):
        _ask(draw, writer)
    elif isinstance(step, Decide):
        for call in step.calls[: draw(st.integers(1, len(step.calls)))]:
            writer.write(*_decided(draw, writer, call))
    elif isinstance(step, Execute | Recover):
        _execute(draw, writer, step.calls, recovering=isinstance(step, Recover))
    elif isinstance(step, Await):
        if draw(st.integers(0, 5)) == 0 or not state.requests:
            return False
        writer.write(_answered(draw, draw(st.sampled_from(state.requests))))
    elif isinstance(step, Settle):
        for call in step.calls:
            writer.write(_finished(call, "cancelled"))
    elif isinstance(step, Judge):
        attempt = state.attempts + 1
        passed = draw(st.booleans())
        writer.write(QualityJudged(passed=passed, attempt=attempt, critique="" if passed else "do better"))
        if not passed and attempt >= 3:
            writer.write(ErrorRaised(error=ErrorInfo("output_invalid", "no")))
    elif isinstance(step, Stop):
        writer.write(LimitReached(limit=step.limit, allowed=float(step.allowed), spent=float(step.spent)))
    elif isinstance(step, Fail):
        writer.write(ErrorRaised(error=step.error))
    elif isinstance(step, Finish):
        writer.write(RunFinished(state=step.state, output=state.output, error=step.error))
    else:
        raise AssertionError(f"nobody knows how {step} goes")
    return True


def _ask(draw: Draw, writer: Writer) -> None:
    way = draw(st.integers(0, 20))
    if way == 0:
        writer.write(ErrorRaised(error=ErrorInfo("provider", "down")))
    elif way == 1:
        origin = f"before_llm:{writer.state.iterations}"
        if origin not in writer.state.cleared:
            writer.write(RequestOpened(request=Request(writer.name(), "approval", "sure?", origin=origin)))
    elif way == 2:
        writer.write(LimitReached(limit="max_iterations", allowed=1.0, spent=1.0))
    else:
        writer.write(*replied(writer, draw(st.integers(0, 5)), draw))


def replied(writer: Writer, count: int, draw: Draw | None) -> list[Event]:
    """A reply with that many calls."""
    iteration = writer.state.iterations + 1
    same = draw is not None and draw(st.integers(0, 3)) == 0
    calls = tuple(ToolCall(f"c{n}" if same else writer.name(), f"t{n % 2}", '{"x":1}') for n in range(count))
    stops = [StopReason.STOP] * 6 + [StopReason.LENGTH, StopReason.UNKNOWN]
    stop = StopReason.TOOL_USE if calls else draw(st.sampled_from(stops)) if draw else StopReason.STOP
    text = draw(st.sampled_from(["words", "words", None])) if draw else "words"
    message = ChatMessage(Role.ASSISTANT, text, tool_calls=calls or None)
    cost = draw(st.sampled_from([None, 0.5])) if draw else 0.5
    return [
        ModelReplied(iteration=iteration, message=message, usage=Usage(10, 5), stop_reason=stop, cost=cost),
        *(
            ToolRequested(call_id=c.id, name=c.name, arguments=c.arguments, iteration=iteration)
            for c in calls
        ),
    ]


def _decided(draw: Draw, writer: Writer, call: Call) -> Sequence[Event]:
    if call.phase is Phase.ANSWERED:
        assert call.approval is not None
        if call.approval.verdict == "deny":
            if call.attempt:
                return [_finished(call, "unknown")]
            return _denied(call, "approval")
        if call.approval.verdict == "answer":
            return [_finished(call, "ok")]
        if draw(st.integers(0, 5)) == 0:
            return [RequestOpened(request=_approval(writer, call, "approval"))]
        return [allowed(call)]
    way = draw(st.integers(0, 6))
    if way == 0:
        return _denied(call, "permission")
    if way == 1:
        return [_finished(call, "error")]
    if way in (2, 3):
        return [RequestOpened(request=_approval(writer, call, "permission"))]
    edited = '{"x":2}' if way == 4 else None
    return [replace(allowed(call), arguments=edited)]


def allowed(call: Call) -> ToolDecided:
    """The event of being allowed."""
    return ToolDecided(call_id=call.id, name=call.name, verdict="allow", source="permission", digest="d")


def _denied(call: Call, source: str) -> Sequence[Event]:
    decided = ToolDecided(call_id=call.id, name=call.name, verdict="deny", source=source)
    return [decided, _finished(call, "denied")]


def _approval(writer: Writer, call: Call, origin: str) -> Request:
    return Request(
        writer.name(),
        "approval",
        "may it run?",
        call_id=call.id,
        tool_name=call.name,
        arguments=call.arguments,
        digest="d",
        origin=origin,
    )


def _answered(draw: Draw, request: Request) -> RequestAnswered:
    words = ["answer", "deny"] if request.kind == "question" else ["approve", "deny"]
    if request.origin == "recovery":
        words.append("answer")
    return RequestAnswered(answer=Answer(request.id, draw(st.sampled_from(words)), value="v"))


def _execute(draw: Draw, writer: Writer, calls: Sequence[Call], *, recovering: bool) -> None:
    group = list(calls[: draw(st.integers(1, len(calls)))])
    running: list[Call] = []
    for call in group:
        if recovering and draw(st.booleans()):
            if draw(st.integers(0, 4)) == 0:
                writer.write(_finished(call, "ok"))
            else:
                writer.write(RequestOpened(request=_approval(writer, call, "recovery")))
            continue
        writer.write(
            ToolStarted(call_id=call.id, name=call.name, idempotency_key=call.key, attempt=call.attempt + 1)
        )
        running.append(call)
    for call in draw(st.permutations(running)):
        way = draw(st.integers(0, 12))
        if way == 0:
            return  # the process dies here
        if way == 1:
            questions = draw(st.integers(1, 2))
            writer.write(*(RequestOpened(request=_question(writer, call)) for _ in range(questions)))
            continue
        if way == 2:
            child = writer.name()
            writer.write(ChildStarted(call_id=call.id, child_run_id=child, child_session_id=f"s/{child}"))
            if draw(st.booleans()):
                ended = RunState.COMPLETED
                writer.write(
                    ChildFinished(
                        call_id=call.id, child_run_id=child, state=ended, usage=Usage(3, 3), iterations=1
                    )
                )
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "error", "timeout"]))
        writer.write(_finished(call, outcome))


def _question(writer: Writer, call: Call) -> Request:
    return Request(writer.name(), "question", "which?", call_id=call.id, tool_name=call.name)


def _finished(call: Call, outcome: Any) -> ToolFinished:
    result = ToolResult(f"{outcome} of {call.id}", is_error=outcome != "ok")
    return ToolFinished(call_id=call.id, name=call.name, outcome=outcome, result=result)


def walk_to_the_end(events: Sequence[Event], state: State, most: int = 120) -> list[State]:
    """Go on from a state in the plainest way: everything is allowed, works, is answered; the model then stops."""
    writer = Writer()
    writer.events, writer.state, writer.at = list(events), state, 1e6
    writer.named = 10_000
    states = [state]
    while not isinstance(step := next_step(writer.state), Done):
        if len(states) > most:
            raise AssertionError(f"no end in sight after {most} events; the last step was {step}")
        writer.write(_plain(writer, step))
        states.append(writer.state)
    return states


def _plain(writer: Writer, step: Any) -> Event:
    state = writer.state
    if isinstance(step, AskModel):
        return replied(writer, 0, None)[0]
    if isinstance(step, Decide):
        call = step.calls[0]
        if call.approval is not None and call.approval.verdict != "approve":
            return _finished(call, "ok" if call.approval.verdict == "answer" else "denied")
        return allowed(call)
    if isinstance(step, Execute | Recover):
        return _finished(step.calls[0], "ok")
    if isinstance(step, Settle):
        return _finished(step.calls[0], "cancelled")
    if isinstance(step, Await):
        assert state.requests, "a run waits, and there is nothing to answer"
        request = state.requests[0]
        return RequestAnswered(
            answer=Answer(request.id, "answer" if request.kind == "question" else "approve")
        )
    if isinstance(step, Judge):
        return QualityJudged(passed=True, attempt=state.attempts + 1)
    if isinstance(step, Stop):
        return LimitReached(limit=step.limit, allowed=float(step.allowed), spent=float(step.spent))
    if isinstance(step, Fail):
        return ErrorRaised(error=step.error)
    assert isinstance(step, Finish)
    return RunFinished(state=step.state, output=state.output, error=step.error)
