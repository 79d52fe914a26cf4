"""The one governed path of every tool call: hook -> permission -> veto -> limits -> execute -> observe.

One function a word. Each decision is an event with its source and reason, durable before the effect. A yes
is bound to the digest of exactly what will run (``kernel/consent.py``) and is checked again right before it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import (
    LoomError,
    ToolArgumentsError,
    ToolError,
    ToolExecutionError,
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
from ..folds.state import Call, State
from ..requests import Request
from ..safety.display import encodable
from ..safety.hooks import HookDecision
from ..safety.media import fault_of
from ..safety.permissions import Ruling, judge, stricter
from ..safety.veto import first_veto
from ..tools.base import Parked, ToolContext
from ..types import ToolResult, error_text, sound, to_json
from .attempt import Attempt
from .case import Case, finished, open_case, refused_result
from .consent import approval_request
from .engine import Scope
from .foreign import described
from .hooks import Hooks
from .repeats import call_limit

_ALLOW = Ruling("allow", "permission")
_DENIAL_TEXT = {
    "veto": "Vetoed",
    "hook": "Hook denied",
    "rate_limit": "Rate limit",
    "max_calls": "Call limit",
}


# --- decide -----------------------------------------------------------------------------------------


async def decide(scope: Scope, state: State, call: Call) -> list[Event]:
    """Take one call through the gates: the events of being allowed, refused or put to a human."""
    try:
        case = open_case(scope, state, call)
        asked = await hook(case)
        if asked.action != "deny":
            asked = stricter(asked, permission(case))
        ruling = asked if asked.action == "deny" else stricter(asked, veto(case))
        if ruling.action != "deny":
            ruling = stricter(ruling, call_limit(case))
        if ruling.action == "allow":
            ruling = stricter(ruling, rate_limit(case))
    except ToolError as error:
        return [refused_result(call, error)]
    if ruling.action == "ask":
        return [RequestOpened(request=approval_request(case, ruling))]
    return deny(case, ruling) if ruling.action == "deny" else allow(case, ruling)


async def hook(case: Case) -> Ruling:
    """Ask the ``before_tool`` gates of the application, of the runs above too; they may edit the arguments."""
    ruling = _ALLOW
    for hooks in case.scope.gatekeepers:
        if hooks.wants("before_tool"):
            ruling = stricter(ruling, await _ask_gates(hooks, case))
            if ruling.action == "deny":
                break
    return Ruling("allow", "hook") if ruling is _ALLOW and case.edited else ruling


async def _ask_gates(hooks: Hooks, case: Case) -> Ruling:
    payload = {
        "run_id": case.state.run_id,
        "session_id": case.state.session_id,
        "tool_name": case.spec.name,
        "arguments": deepcopy(case.arguments),
        "tool_call_id": case.call.id,
        "iteration": case.state.iterations,
    }
    gate = hooks.gate("before_tool", payload, argument_key="arguments")
    outcome = await case.scope.patience.with_(gate, "a before_tool hook")
    if outcome.decision is HookDecision.DENY:
        return Ruling("deny", "hook", outcome.message)
    if outcome.arguments is not None:
        case.arguments, case.edited = _plain(outcome.arguments), True
        case.check(as_sent=True)
    return Ruling("ask", "hook", outcome.message) if outcome.decision is HookDecision.ASK else _ALLOW


def _plain(arguments: Any) -> dict[str, Any]:
    """What a hook wants to run instead, as it will be shown, kept and run: one JSON object."""
    try:
        plain = msgspec.json.decode(to_json(arguments))
    except Exception as error:  # encoding may call the application's own serialisers
        raise ToolArgumentsError(f"a hook's arguments are not plain data: {error_text(error)}") from error
    if not isinstance(plain, dict):
        raise ToolArgumentsError(f"a hook's arguments must be one object, not {type(plain).__name__}")
    return plain  # pyright: ignore[reportUnknownVariableType]  # any JSON object


def permission(case: Case) -> Ruling:
    """Rule by the declared modes, rules and the tool's own facts: the strictest from here to the root."""
    ruling, arguments = _ALLOW, case.effective
    for policy in case.scope.powers:
        ruling = stricter(ruling, judge(case.spec, arguments, mode=policy.mode, rules=policy.rules))
    return ruling


def veto(case: Case) -> Ruling:
    """Refuse what a safety rule forbids, here or above, whoever allowed it."""
    arguments = case.effective
    for policy in case.scope.powers:
        rule = first_veto(policy.vetoes, case.spec.name, arguments)
        # guard: tests/kernel/test_governed_path.py
        if rule:
            return Ruling("deny", "veto", rule.reason)
    return _ALLOW


def rate_limit(case: Case) -> Ruling:
    """Refuse a call beyond a declared rate, here or above; failed calls count too."""
    name = case.spec.name
    limited = [
        (scope, limit)
        for scope in case.scope.chain
        if (limit := scope.engine.governance.max_calls_per_minute) is not None
    ]
    for scope, limit in limited:
        # guard: tests/kernel/test_governed_path.py
        if not scope.rates.has_room(name, limit, scope.engine.pace()):
            return Ruling("deny", "rate_limit", f"{name} may run {limit} times a minute; wait and try again")
    for scope, _ in limited:
        scope.rates.count(name, scope.engine.pace())
    return _ALLOW


def allow(case: Case, ruling: Ruling) -> list[Event]:
    """The event of a call that may run."""
    return [
        ToolDecided(
            call_id=case.call.id,
            name=case.spec.name,
            verdict="allow",
            source=ruling.source,
            reason=ruling.reason,
            arguments=to_json(case.arguments) if case.edited or case.mended else None,
            digest=case.digest() if case.call.approval else "",
            concurrency_safe=case.spec.concurrency_safe,
        )
    ]


def deny(case: Case, ruling: Ruling) -> list[Event]:
    """The events of a call that may not run: the decision, and the result that the model reads."""
    reason = encodable(str(ruling.reason or "no reason given"))
    decided = ToolDecided(
        call_id=case.call.id, name=case.spec.name, verdict="deny", source=ruling.source, reason=reason
    )
    text = f"{_DENIAL_TEXT.get(ruling.source, 'Permission denied')}: {reason}"
    return [decided, refused_result(case.call, ToolPermissionError(text))]


# --- execute, observe -------------------------------------------------------------------------------


def execute(
    case: Case, context: ToolContext[Any] | None, tell: Callable[[], None], delay: float = 0.0
) -> Attempt:
    """Enter the tool of one allowed call; ``tell`` is called when there is something to observe."""
    return Attempt(case, context, tell, delay)


async def observe(attempt: Attempt) -> list[Event]:
    """What came of it: the event of the call's one result, or the requests it waits for.

    Nothing when it was stopped, and ended: what became of it is then for the end of the run to say. Nothing a
    tool raises leaves here but the interrupt of the terminal. May be cancelled while an output is kept, and be
    called again then.
    """
    case, error = attempt.case, attempt.error
    seconds = case.scope.engine.pace() - attempt.began
    if attempt.left or (attempt.stopped and attempt.expired):
        return [await _given_up(attempt, seconds)]
    if attempt.stopped:
        return []
    if error is None:
        try:
            result = _plain_result(attempt.result)
        except BaseException as failure:  # what is no plain data is the call's failure
            error = failure
        else:
            outcome: Outcome = "error" if result.is_error else "ok"
            shown = await case.cap(result)
            return [*_withdrawn(case), finished(case.call, outcome, shown, seconds=seconds)]
    if isinstance(error, KeyboardInterrupt):
        raise error
    if isinstance(error, Parked):
        return await _park(case, error)
    if isinstance(error, LoomError):
        refused = isinstance(error, ToolPermissionError)
        return [await _failed(case, "denied" if refused else "error", error, seconds)]
    raised = ToolExecutionError(f"Error: {described(error)}")
    raised.__cause__ = error
    return [await _failed(case, "error", raised, seconds)]


async def _given_up(attempt: Attempt, seconds: float) -> ToolFinished:
    """The result of a call whose time was up, or which did not stop, or both."""
    case, name = attempt.case, attempt.case.spec.name
    text = f"{name} took longer than {attempt.seconds:g} seconds and " if attempt.expired else f"{name} "
    if not attempt.left:
        return await _failed(case, "timeout", ToolTimeoutError(f"{text}was stopped"), seconds)
    text += "did not stop when it was told to: it was left behind"
    if not case.spec.read_only:
        text += " and may still take effect"
    result = ToolResult(text, metadata={"left_behind": True}, is_error=True)
    if not attempt.expired:
        return finished(case.call, "cancelled", result, seconds=seconds)
    error = ToolTimeoutError(text).info()
    return finished(case.call, "timeout", result, error=error, seconds=seconds)


def _plain_result(returned: Any) -> ToolResult:
    """What a handler returned as a result of plain data.

    Raises TypeError for what is none, a part that names a file included.
    """
    if isinstance(returned, ToolResult):
        result = returned
    else:
        result = ToolResult(returned if isinstance(returned, str) else to_json(returned))
    text: Any = "" if result.text is None else result.text  # pyright: ignore[reportUnnecessaryComparison]  # foreign
    clean = encodable(text) if isinstance(text, str) else text
    if clean is not result.text:
        result = replace(result, text=clean)
    if (
        type(text) is not str
        or result.data is not None
        or result.metadata
        or result.content_parts is not None
    ):
        result = sound(result)
        if fault := next(filter(None, map(fault_of, result.content_parts or ())), None):
            raise TypeError(fault)
    elif not isinstance(result.is_error, bool):  # pyright: ignore[reportUnnecessaryIsInstance]  # foreign
        raise TypeError(f"is_error must be True or False, not {result.is_error!r}")
    return result


async def _park(case: Case, parked: Parked) -> list[Event]:
    try:
        wanted = _wanted(case, parked)
    except ToolExecutionError as error:
        return [await _failed(case, "error", error, 0.0)]
    mine = [request.id for request in case.state.requests if request.call_id == case.call.id]
    needed = [request.id for request in wanted]
    return [
        *(RequestWithdrawn(request_id=known) for known in mine if known not in needed),
        *(RequestOpened(request=request) for request in wanted if request.id not in mine),
        ToolParked(call_id=case.call.id, name=case.spec.name, requests=needed),
    ]


def _wanted(case: Case, parked: Parked) -> list[Request]:
    """The requests a tool waits for. Raises ToolExecutionError for a tool that must not or cannot wait."""
    name = case.spec.name
    if not case.spec.repeatable:
        raise ToolExecutionError(
            f"{name} waits for an answer but is not declared idempotent=True; "
            "a waiting tool is entered again from its beginning"
        )
    if not parked.requests:
        raise ToolExecutionError(f"{name} waits for nothing")
    try:
        return [_for_call(request, case) for request in parked.requests]
    except (AttributeError, TypeError, ValueError) as error:
        raise ToolExecutionError(f"{name} waits for what is no request: {error}") from error


def _withdrawn(case: Case) -> list[Event]:
    """The questions that the call asked and did not wait for in the end."""
    mine = (request for request in case.state.requests if request.call_id == case.call.id)
    return [RequestWithdrawn(request_id=request.id) for request in mine]


def _for_call(request: Request, case: Case) -> Request:
    """A question as this run's own; one forwarded from a child keeps its id, run and session.

    Raises ValueError for one that nobody could answer in time.
    """
    if request.expires_at is not None and request.expires_at <= case.scope.engine.clock():
        raise ValueError(f"request {request.id} has expired before it was asked")
    return replace(
        sound(request),
        call_id=case.call.id,
        digest="",
        choices=tuple(request.choices),
        opened_at=request.opened_at or case.scope.engine.clock(),
    )


async def _failed(case: Case, outcome: Outcome, error: LoomError, seconds: float) -> ToolFinished:
    result = await case.cap(ToolResult(encodable(error_text(error)), is_error=True))
    return finished(case.call, outcome, result, error=error.info(), seconds=seconds)
