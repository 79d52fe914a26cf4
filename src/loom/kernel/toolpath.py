"""The one governed path of every tool call: hook -> permission -> veto -> rate limit -> execute -> observe.

One function a word. Each decision is an event with its source and reason, durable before the effect. A yes
is bound to the digest of exactly what will run and is checked again right before it runs.
"""

from __future__ import annotations

import asyncio
import hashlib
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import (
    LoomError,
    ToolArgumentsError,
    ToolError,
    ToolExecutionError,
    ToolNotFoundError,
    ToolPermissionError,
    ToolTimeoutError,
)
from ..events import (
    Event,
    Outcome,
    RequestOpened,
    RequestWithdrawn,
    ToolDecided,
    ToolFinished,
    ToolParked,
)
from ..requests import Request
from ..safety.display import encodable, visible
from ..safety.hooks import HookDecision
from ..safety.permissions import Ruling, judge
from ..safety.receipts import effect_digest
from ..safety.schema import validate_arguments
from ..safety.veto import first_veto
from ..tools.base import Parked, ToolContext, ToolHandler
from ..types import ErrorInfo, ToolResult, ToolSpec, to_json
from .engine import Scope
from .foreign import described, passes
from .state import Call, Phase, State

_CLOCK_STEP = 1.0
"""Seconds a clock may step back between a yes and its use; a yes of the future must not last for ever."""
_ALLOW = Ruling("allow", "permission")
_DENIAL_TEXT = {"veto": "Vetoed", "hook": "Hook denied", "rate_limit": "Rate limit"}


@dataclass(slots=True)
class Case:
    """One call on its way: who would run it, with what."""

    scope: Scope
    state: State
    call: Call
    handler: ToolHandler
    spec: ToolSpec
    arguments: dict[str, Any]
    edited: bool = False

    def digest(self) -> str:
        """The name of the effect as it stands now."""
        return effect_digest(
            self.spec, self.arguments, session_id=self.state.session_id, run_id=self.state.run_id
        )

    def cap(self, result: ToolResult) -> ToolResult:
        """The result, no larger than the window can bear."""
        return self.scope.engine.cap(result, self.state.session_id, self.call.id)


def open_case(scope: Scope, state: State, call: Call) -> Case:
    """Find the handler and read the arguments. Raises ToolNotFoundError or ToolArgumentsError."""
    handler = scope.engine.tools.get(call.name)
    if handler is None:
        raise ToolNotFoundError(f"Tool not found: {call.name}")
    case = Case(scope, state, call, handler, handler.tool, _read_arguments(call))
    if (
        call.phase is not Phase.ALLOWED
    ):  # checked when it was decided; a handler that checks does so once more
        _check(case)
    return case


def _read_arguments(call: Call) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(call.arguments)
    except (ValueError, RecursionError) as error:
        raise ToolArgumentsError(
            f"the arguments of {call.name} are not valid JSON ({error}); send one JSON object"
        ) from None
    if not isinstance(arguments, dict):
        raise ToolArgumentsError(
            f"the arguments of {call.name} must be one JSON object, not {type(arguments).__name__}"
        )
    return arguments  # pyright: ignore[reportUnknownVariableType]  # any JSON object


def _check(case: Case) -> None:
    own = getattr(case.handler, "check_arguments", None)
    if own is not None:
        own(case.arguments)
    else:
        validate_arguments(case.spec, case.arguments)


# --- decide -----------------------------------------------------------------------------------------


async def decide(scope: Scope, state: State, call: Call) -> list[Event]:
    """Take one call through the gates: the events of being allowed, refused or put to a human."""
    try:
        case = open_case(scope, state, call)
        if call.phase is Phase.ANSWERED:
            return _answered(case)
        asked = await hook(case)
        if asked.action != "deny":
            asked = _stricter(asked, permission(case))
        ruling = asked if asked.action == "deny" else _stricter(asked, veto(case))
        if ruling.action == "allow":
            ruling = _stricter(ruling, rate_limit(case))
    except ToolError as error:
        return [refused_result(call, error)]
    if ruling.action == "ask":
        return [RequestOpened(request=approval_request(case, ruling))]
    return _deny(case, ruling) if ruling.action == "deny" else _allow(case, ruling)


async def hook(case: Case) -> Ruling:
    """Ask the application's ``before_tool`` gates; they may edit the arguments."""
    hooks = case.scope.engine.hooks
    if not hooks.wants("before_tool"):
        return _ALLOW
    payload = {
        "run_id": case.state.run_id,
        "session_id": case.state.session_id,
        "tool_name": case.spec.name,
        "arguments": deepcopy(case.arguments),
        "tool_call_id": case.call.id,
        "iteration": case.state.iterations,
    }
    outcome = await hooks.gate("before_tool", payload, argument_key="arguments")
    if outcome.arguments is not None and outcome.decision is not HookDecision.DENY:
        case.arguments, case.edited = outcome.arguments, True
        _check(case)
    if outcome.decision is HookDecision.ALLOW:
        return Ruling("allow", "hook") if case.edited else _ALLOW
    if outcome.decision is HookDecision.DENY:
        return Ruling("deny", "hook", outcome.message)
    return Ruling("ask", "hook", outcome.message)


def permission(case: Case) -> Ruling:
    """Rule by the declared mode, rules and the tool's own facts."""
    governance = case.scope.engine.governance
    return judge(case.spec, case.arguments, mode=governance.mode, rules=governance.rules)


def veto(case: Case) -> Ruling:
    """Refuse what a safety rule forbids, whoever allowed it."""
    rule = first_veto(case.scope.engine.governance.vetoes, case.spec.name, case.arguments)
    return Ruling("deny", "veto", rule.reason) if rule else _ALLOW


def rate_limit(case: Case) -> Ruling:
    """Refuse a call beyond the declared rate; failed calls count too."""
    limit = case.scope.engine.governance.max_calls_per_minute
    if limit is None or case.scope.rates.admit(case.spec.name, limit, case.scope.engine.clock()):
        return _ALLOW
    return Ruling(
        "deny", "rate_limit", f"{case.spec.name} may run {limit} times a minute; wait and try again"
    )


def _stricter(one: Ruling, other: Ruling) -> Ruling:
    """Deny beats ask beats allow; of equals the first that says something."""
    order = ("allow", "ask", "deny")
    if order.index(other.action) > order.index(one.action):
        return other
    return one


def _answered(case: Case) -> list[Event]:
    """Carry out what the human said about a call, if it is still about this call."""
    call, answer = case.call, case.call.approval
    assert call.request is not None and answer is not None  # noqa: PT018 - what the phase means
    if answer.verdict == "deny":
        ruling = Ruling("deny", "approval", _said_no(answer.by, answer.reason))
        return _unknown_outcome(case, answer.reason) if call.attempt else _deny(case, ruling)
    if answer.verdict == "answer":
        text = answer.value if isinstance(answer.value, str) else to_json(answer.value)
        return [finished(call, "ok", ToolResult(text, metadata={"answered_by": answer.by}))]
    if not receipt_holds(case):
        stale = Ruling("ask", "approval", "the approved call has changed or the approval has expired")
        return [RequestOpened(request=approval_request(case, stale))]
    ruling = veto(case)
    if ruling.action != "deny" and permission(case).action == "deny":
        ruling = permission(case)
    if ruling.action != "deny":
        ruling = rate_limit(case)
    if ruling.action == "deny":
        return _deny(case, ruling)
    return _allow(case, Ruling("allow", "approval", f"approved by {answer.by or 'a human'}"))


def receipt_holds(case: Case) -> bool:
    """Whether the human's yes covers exactly what would run now, and is still good."""
    call = case.call
    if call.approval is None:
        return True
    age = case.scope.engine.clock() - call.approval.at
    return call.digest == case.digest() and -_CLOCK_STEP <= age <= case.scope.engine.governance.approval_ttl


def _allow(case: Case, ruling: Ruling) -> list[Event]:
    return [
        ToolDecided(
            call_id=case.call.id,
            name=case.spec.name,
            verdict="allow",
            source=ruling.source,
            reason=ruling.reason,
            arguments=to_json(case.arguments) if case.edited else None,
            digest=case.digest() if case.call.approval else "",
        )
    ]


def _deny(case: Case, ruling: Ruling) -> list[Event]:
    reason = ruling.reason or "no reason given"
    decided = ToolDecided(
        call_id=case.call.id, name=case.spec.name, verdict="deny", source=ruling.source, reason=reason
    )
    text = f"{_DENIAL_TEXT.get(ruling.source, 'Permission denied')}: {reason}"
    return [decided, refused_result(case.call, ToolPermissionError(text))]


def _unknown_outcome(case: Case, reason: str) -> list[Event]:
    text = f"it is unknown whether {case.spec.name} did its work before the process died, and it was not run again"
    info = ErrorInfo("unknown_outcome", text + (f": {reason}" if reason else ""))
    return [finished(case.call, "unknown", ToolResult(text, is_error=True), error=info)]


def _said_no(by: str, reason: str) -> str:
    return f"refused by {by or 'a human'}" + (f": {reason}" if reason else "")


# --- requests ---------------------------------------------------------------------------------------


def approval_request(case: Case, ruling: Ruling) -> Request:
    """The question whether this call may run, bound to exactly what would run."""
    arguments = to_json(case.arguments)
    before = case.call.request.id if case.call.request else ""
    now = case.scope.engine.clock()
    return Request(
        id=f"req_{hashlib.sha256(f'{case.call.key}:{before}'.encode()).hexdigest()[:20]}",
        kind="approval",
        prompt=f"Run {case.spec.name} with {visible(arguments)}? ({visible(ruling.reason or 'a gate asks')})",
        run_id=case.state.run_id,
        session_id=case.state.session_id,
        call_id=case.call.id,
        tool_name=case.spec.name,
        arguments=arguments,
        digest=case.digest(),
        opened_at=now,
        origin=ruling.source,
    )


async def recover(scope: Scope, state: State, call: Call) -> list[Event] | None:
    """What to do about a call that a dead process had started. None: run it again, it does no harm.

    A handler may offer ``probe(key) -> ToolResult | None`` to find out what became of the attempt.
    """
    try:
        case = open_case(scope, state, call)
    except ToolError as error:
        return [refused_result(call, error)]
    if case.spec.repeatable:
        return None
    probe = getattr(case.handler, "probe", None)
    if probe is not None:
        found = await probe(call.key)
        if isinstance(found, ToolResult):
            return [
                finished(
                    call,
                    "error" if found.is_error else "ok",
                    scope.engine.cap(found, state.session_id, call.id),
                )
            ]
    reason = "the process died while it ran; it may or may not have done its work"
    return [RequestOpened(request=approval_request(case, Ruling("ask", "recovery", reason)))]


# --- execute, observe -------------------------------------------------------------------------------


async def execute(case: Case, context: ToolContext[Any] | None) -> list[Event]:
    """Run one allowed call: the event of its one result, or the requests it waits for.

    Nothing a tool raises leaves here but cancellation of the run.
    """
    clock = case.scope.engine.clock
    started = clock()
    limit = case.scope.engine.tool_timeout if case.spec.timeout is None else case.spec.timeout
    patience = asyncio.timeout(limit)
    try:
        async with patience:
            result = await _invoke(case, context)
        return [*_withdrawn(case), observe(case, result, clock() - started)]
    except Parked as parked:
        return _park(case, parked)
    except LoomError as error:
        outcome: Outcome = "denied" if isinstance(error, ToolPermissionError) else "error"
        return [_failed(case, outcome, error, clock() - started)]
    except BaseException as error:
        if patience.expired() and isinstance(error, TimeoutError):
            late = ToolTimeoutError(f"{case.spec.name} took longer than {limit:g} seconds and was stopped")
            return [_failed(case, "timeout", late, clock() - started)]
        if passes(error):
            raise
        raised = ToolExecutionError(f"Error: {described(error)}")
        raised.__cause__ = error
        return [_failed(case, "error", raised, clock() - started)]


async def _invoke(case: Case, context: ToolContext[Any] | None) -> Any:
    in_context = getattr(case.handler, "invoke_in_context", None)
    if in_context is not None:
        return await in_context(case.arguments, context)
    return await case.handler.invoke(case.arguments)


def observe(case: Case, result: Any, seconds: float) -> ToolFinished:
    """Turn what a handler returned into the call's one result: plain data, no larger than the window can bear.

    Raises TypeError for what is no plain data, which is then the call's failure.
    """
    if not isinstance(result, ToolResult):
        result = ToolResult(result if isinstance(result, str) else to_json(result))
    if result.data is not None or result.metadata:
        to_json((result.data, result.metadata))
    text = encodable(result.text or "")
    if text is not result.text:
        result = replace(result, text=text)
    outcome: Outcome = "error" if result.is_error else "ok"
    return finished(case.call, outcome, case.cap(result), seconds=seconds)


def _park(case: Case, parked: Parked) -> list[Event]:
    if not case.spec.repeatable:
        problem = ToolExecutionError(
            f"{case.spec.name} waits for an answer but is not declared idempotent=True; "
            "a waiting tool is entered again from its beginning"
        )
        return [_failed(case, "error", problem, 0.0)]
    if not parked.requests:
        return [_failed(case, "error", ToolExecutionError(f"{case.spec.name} waits for nothing"), 0.0)]
    mine = [request.id for request in case.state.requests if request.call_id == case.call.id]
    needed = [request.id for request in parked.requests]
    return [
        *(RequestWithdrawn(request_id=known) for known in mine if known not in needed),
        *(RequestOpened(request=_for_call(r, case)) for r in parked.requests if r.id not in mine),
        ToolParked(call_id=case.call.id, name=case.spec.name, requests=needed),
    ]


def _withdrawn(case: Case) -> list[Event]:
    """The questions that the call asked and did not wait for in the end."""
    mine = (request for request in case.state.requests if request.call_id == case.call.id)
    return [RequestWithdrawn(request_id=request.id) for request in mine]


def _for_call(request: Request, case: Case) -> Request:
    """A question as this run's own; one forwarded from a child keeps its id, run and session."""
    return replace(
        request, call_id=case.call.id, digest="", opened_at=request.opened_at or case.scope.engine.clock()
    )


def _failed(case: Case, outcome: Outcome, error: LoomError, seconds: float) -> ToolFinished:
    result = case.cap(ToolResult(encodable(str(error)), is_error=True))
    return finished(case.call, outcome, result, error=error.info(), seconds=seconds)


def refused_result(call: Call, error: ToolError) -> ToolFinished:
    """The result of a call that never ran."""
    outcome: Outcome = "denied" if isinstance(error, ToolPermissionError) else "error"
    return finished(call, outcome, ToolResult(str(error), is_error=True), error=error.info())


def finished(
    call: Call, outcome: Outcome, result: ToolResult, *, error: ErrorInfo | None = None, seconds: float = 0.0
) -> ToolFinished:
    """The event of a call's one result."""
    return ToolFinished(
        call_id=call.id,
        name=call.name,
        outcome=outcome,
        result=result,
        error=error,
        duration_ms=int(seconds * 1000),
    )
