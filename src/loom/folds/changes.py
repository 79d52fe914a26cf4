"""How each event changes what a run is: ``fold`` and ``apply``.

No I/O, no clock, no randomness: folding the same events anywhere gives the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from ..events import (
    CancelRequested,
    ChildFinished,
    ErrorRaised,
    Event,
    LimitReached,
    ModelReplied,
    QualityJudged,
    ReplyCut,
    RequestAnswered,
    RequestExpired,
    RequestOpened,
    RequestWithdrawn,
    RunFinished,
    RunResumed,
    RunStarted,
    ToolDecided,
    ToolFinished,
    ToolParked,
    ToolStarted,
)
from ..types import (
    ChatMessage,
    ErrorInfo,
    Part,
    Role,
    RunState,
    ToolResult,
    Usage,
    canonical_json,
)
from .state import CUT_SHORT, Call, Phase, State


def fold(events: Iterable[Event], state: State | None = None) -> State:
    """The state that these events amount to, from ``state`` or from nothing."""
    state = state or State()
    for event in events:
        state = apply(state, event)
    return state


def apply(state: State, event: Event) -> State:
    """The state after one event. Events that only inform (deltas, progress) change nothing."""
    change = _CHANGES.get(type(event))
    if change is None:
        return state
    changed = change(state, event)
    if type(event) not in ENDS_WORK:
        return changed
    passed = 0.0 if state.resting else event.worked
    return replace(changed, last_at=event.at, active_seconds=changed.active_seconds + passed)


# --- run --------------------------------------------------------------------------------------------


def _run_started(state: State, event: RunStarted) -> State:
    before = state.transcript
    said = tuple(event.messages) or (ChatMessage(Role.USER, task_content(event)),)
    return replace(
        state,
        run_id=event.run_id,
        session_id=event.session_id,
        status=RunState.RUNNING,
        goal=event.task.goal,
        limits=event.limits,
        depth=event.depth,
        own=len(before),
        transcript=before.plus(*said),
    )


def task_content(event: RunStarted) -> str | tuple[Part, ...]:
    """What the model reads as the user's message: the task, and what was given beside it."""
    beside: dict[str, Any] = {**event.task.to_context_payload(), **event.inputs}
    return event.task.content(
        before=f"<earlier>\n{event.restored}\n</earlier>" if event.restored else "",
        after=f"<context>\n{canonical_json(beside).decode()}\n</context>" if beside else "",
    )


def _run_resumed(state: State, event: RunResumed) -> State:
    if state.status.terminal:
        return _begun_again(state)
    return replace(state, status=RunState.RUNNING, calls=tuple(map(_decided_anew, state.calls)))


def _decided_anew(call: Call) -> Call:
    """A call that was allowed and not entered, in a process that has gone: what governs may be stricter by now."""
    if call.phase is not Phase.ALLOWED or call.attempt or call.answers:
        return call
    return replace(call, phase=Phase.ANSWERED if call.approval else Phase.REQUESTED)


def _begun_again(state: State) -> State:
    """A run that had failed or was cancelled goes on: what was said and done stays, how it ended is forgotten."""
    said = state.transcript
    # A reply that was cut or not accepted: services want a word of the user after it.
    if said and said[-1].role is Role.ASSISTANT:
        said = said.plus(ChatMessage(Role.USER, f"[The run {_ending(state)}. Go on from there.]"))
    return replace(
        state,
        status=RunState.RUNNING,
        transcript=said,
        error=None,
        limit=None,
        cancelling=False,
        cancel_reason="",
        stop_reason=None,
        judged=False,
        attempts=0,
        streak=0,
    )


def ending_note(state: State) -> str:
    """What a later run is told of one that ended without success."""
    return f"[The run {_ending(state)} before it was finished.]"


def _ending(state: State) -> str:
    if state.status is RunState.CANCELLED:
        return "was cancelled"
    how = "reached a limit" if state.status is RunState.LIMIT_REACHED else "failed"
    return f"{how} ({state.error.code})" if state.error else how


def _cancel_requested(state: State, event: CancelRequested) -> State:
    return replace(state, cancelling=True, cancel_reason=state.cancel_reason or event.reason)


def _limit_reached(state: State, event: LimitReached) -> State:
    return replace(state, limit=event)


def _error_raised(state: State, event: ErrorRaised) -> State:
    if event.usage is not None:
        state = _spend(state, event.usage, None, event.estimated_cost)
    return state if state.error else replace(state, error=event.error)


def _run_finished(state: State, event: RunFinished) -> State:
    return replace(state, status=event.state, output=event.output, error=event.error, requests=(), calls=())


# --- model ------------------------------------------------------------------------------------------


def _model_replied(state: State, event: ModelReplied) -> State:
    message = event.message
    text = message.content if isinstance(message.content, str) else message.text_content
    calls = tuple(
        Call(call.id, call.name, call.arguments, f"{state.run_id}:{event.iteration}:{position}")
        for position, call in enumerate(message.tool_calls or ())
    )
    return replace(
        state,
        transcript=state.transcript.plus(message),
        iterations=state.iterations + 1,
        usage=state.usage + event.spent,
        spent_cost=state.spent_cost + (event.cost or event.estimated_cost or 0.0),
        priced=state.priced and event.cost is not None,
        unpriced=state.unpriced or (event.cost is None and event.estimated_cost is None),
        calls=calls,
        stop_reason=None if calls and event.stop_reason not in CUT_SHORT else event.stop_reason,
        judged=False,
        output=text or ("" if not calls else state.output),
    )


def _reply_cut(state: State, event: ReplyCut) -> State:
    """What was written of it is said; the run is about to end, or to be told why it goes on."""
    state = _spend(state, event.usage, None, event.estimated_cost) if event.usage.total_tokens else state
    said = state.transcript.plus(ChatMessage(Role.ASSISTANT, event.text)) if event.text else state.transcript
    return replace(state, transcript=said, iterations=state.iterations + 1, output=event.text or state.output)


def _quality_judged(state: State, event: QualityJudged) -> State:
    if event.passed:
        return replace(state, judged=True, attempts=event.attempt)
    critique = ChatMessage(Role.USER, event.critique)
    return replace(
        state, transcript=state.transcript.plus(critique), stop_reason=None, attempts=event.attempt
    )


# --- tools ------------------------------------------------------------------------------------------


def _tool_decided(state: State, event: ToolDecided) -> State:
    if event.verdict == "deny":
        return replace(state, denied=(*state.denied, event.call_id))
    call = state.call(event.call_id)
    arguments = call.arguments if event.arguments is None else event.arguments
    return _with_call(
        state,
        replace(
            call,
            phase=Phase.ALLOWED,
            arguments=arguments,
            digest=event.digest,
            concurrency_safe=event.concurrency_safe,
        ),
    )


def _tool_parked(state: State, event: ToolParked) -> State:
    return _with_call(state, replace(state.call(event.call_id), phase=Phase.WAITING))


def _tool_started(state: State, event: ToolStarted) -> State:
    call = state.call(event.call_id)
    return _with_call(state, replace(call, phase=Phase.STARTED, attempt=event.attempt))


def _tool_finished(state: State, event: ToolFinished) -> State:
    call = replace(
        state.call(event.call_id), phase=Phase.FINISHED, outcome=event.outcome, result=event.result
    )
    requests = tuple(request for request in state.requests if request.call_id != call.id)
    spent = state.tool_calls + (call.attempt > 0)
    called = state.called
    if call.attempt > 0:
        called = {**called, call.name: called.get(call.name, 0) + 1}
    state = _with_call(replace(state, tool_calls=spent, called=called, requests=requests), call)
    return _close_round(state) if all(c.phase is Phase.FINISHED for c in state.calls) else state


def _close_round(state: State) -> State:
    """All calls have their result: write the results down in order, and notice repeated failure."""
    messages = [_result_message(call) for call in state.calls]
    failed = all(call.outcome != "ok" for call in state.calls)
    tried = canonical_json([(call.name, call.arguments) for call in state.calls]) if failed else b""
    streak = 0 if not failed else state.streak + 1 if tried == state.streak_of else 1
    return replace(
        state,
        transcript=state.transcript.plus(*messages),
        calls=(),
        streak=streak,
        streak_of=tried,
    )


def _result_message(call: Call) -> ChatMessage:
    result = call.result or ToolResult()
    return ChatMessage(
        Role.TOOL, result.content, tool_call_id=call.id, name=call.name, is_error=call.outcome != "ok"
    )


def _child_finished(state: State, event: ChildFinished) -> State:
    call = state.call(event.call_id)
    if event.child_run_id in call.children:
        return state  # told again after a crash; spent only once
    counted = replace(call, children=(*call.children, event.child_run_id))
    return replace(
        _with_call(_spend(state, event.usage, event.cost, event.estimated_cost), counted),
        child_iterations=state.child_iterations + event.iterations,
        tool_calls=state.tool_calls + event.tool_calls,
        active_seconds=state.active_seconds - event.waited_seconds,
    )


def _spend(state: State, usage: Usage, cost: float | None, estimated: float | None) -> State:
    return replace(
        state,
        usage=state.usage + usage,
        spent_cost=state.spent_cost + (cost or estimated or 0.0),
        priced=state.priced and cost is not None,
        unpriced=state.unpriced or (cost is None and estimated is None),
    )


# --- people -----------------------------------------------------------------------------------------


def _request_opened(state: State, event: RequestOpened) -> State:
    request = event.request
    state = replace(state, requests=(*state.requests, request))
    if not request.call_id:
        return state
    call = state.call(request.call_id)
    changed = replace(call, phase=Phase.WAITING, request=request)
    if request.digest:
        changed = replace(changed, arguments=request.arguments, digest=request.digest)
    return _with_call(state, changed)


def _request_answered(state: State, event: RequestAnswered) -> State:
    answer = event.answer
    request = next((r for r in state.requests if r.id == answer.request_id), None)
    if request is None:
        return state
    state = replace(state, requests=tuple(r for r in state.requests if r is not request))
    if not request.call_id:
        if answer.verdict == "deny":
            refused = ErrorInfo(
                "denied", f"refused by {answer.by or 'a human'}: {answer.reason or 'no reason'}"
            )
            return replace(state, error=refused)
        return replace(state, cleared=(*state.cleared, request.origin))
    call = state.call(request.call_id)
    if request.digest:
        return _with_call(state, replace(call, phase=Phase.ANSWERED, approval=answer, request=request))
    return _with_call(state, replace(call, phase=Phase.ALLOWED, answers=(*call.answers, answer)))


def _request_withdrawn(state: State, event: RequestWithdrawn) -> State:
    return replace(state, requests=tuple(r for r in state.requests if r.id != event.request_id))


def _request_expired(state: State, event: RequestExpired) -> State:
    """The question is gone, and who asked it is where it was before asking."""
    request = next((r for r in state.requests if r.id == event.request_id), None)
    state = _request_withdrawn(state, event)
    if request is None or not request.call_id:
        return state
    call = state.call(request.call_id)
    if not request.digest:
        return _with_call(state, replace(call, phase=Phase.ALLOWED))
    # An attempt of unknown fate is asked about again; it must not come to the gates as if it were new.
    return _with_call(state, replace(call, phase=Phase.STARTED if call.attempt else Phase.REQUESTED))


def _with_call(state: State, changed: Call) -> State:
    return replace(state, calls=tuple(changed if call.id == changed.id else call for call in state.calls))


_CHANGES: dict[type[Event], Callable[[State, Any], State]] = {
    RunStarted: _run_started,
    RunResumed: _run_resumed,
    CancelRequested: _cancel_requested,
    LimitReached: _limit_reached,
    ErrorRaised: _error_raised,
    RunFinished: _run_finished,
    ModelReplied: _model_replied,
    ReplyCut: _reply_cut,
    QualityJudged: _quality_judged,
    ToolDecided: _tool_decided,
    ToolStarted: _tool_started,
    ToolParked: _tool_parked,
    ToolFinished: _tool_finished,
    ChildFinished: _child_finished,
    RequestOpened: _request_opened,
    RequestAnswered: _request_answered,
    RequestWithdrawn: _request_withdrawn,
    RequestExpired: _request_expired,
}

ENDS_WORK = frozenset(
    {
        RunStarted,
        RunResumed,
        RequestAnswered,
        ModelReplied,
        ReplyCut,
        ToolFinished,
        ToolParked,
        ChildFinished,
        RequestOpened,
        ErrorRaised,
        CancelRequested,
        LimitReached,
        RunFinished,
    }
)
"""The events up to which working time counts; the others carry none."""
