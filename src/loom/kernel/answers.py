"""Calls that come back from a wait: answered by a human, or found half done after a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..errors import ToolError
from ..events import Event, RequestOpened
from ..folds.state import Call, State
from ..safety.permissions import Ruling
from ..types import ErrorInfo, ToolResult, error_text, to_json
from .case import Case, finished, open_case, refused_result
from .consent import STALE, approval_request, receipt_holds
from .engine import Scope
from .foreign import passes
from .repeats import call_limit
from .toolpath import allow, deny, hook, permission, rate_limit, veto

logger = logging.getLogger("loom.tools")


async def carry_out(scope: Scope, state: State, call: Call) -> list[Event]:
    """Do what the human said about a call, if it is still about this call."""
    try:
        return await _answered(open_case(scope, state, call))
    except ToolError as error:
        return [refused_result(call, error)]


async def _answered(case: Case) -> list[Event]:
    call, answer = case.call, case.call.approval
    assert call.request is not None and answer is not None  # noqa: PT018 - what the phase means
    if answer.verdict == "deny":
        ruling = Ruling("deny", "approval", _said_no(answer.by, answer.reason))
        return _unknown_outcome(call, answer.reason) if call.attempt else deny(case, ruling)
    if answer.verdict == "answer":
        text = answer.value if isinstance(answer.value, str) else to_json(answer.value)
        return [finished(call, "ok", ToolResult(text, metadata={"answered_by": answer.by}))]
    # guard: tests/kernel/test_approvals.py
    if not receipt_holds(case):
        return [RequestOpened(request=approval_request(case, STALE))]
    ruling = await _gates_now(case)
    if ruling.action != "deny":
        ruling = veto(case)
    # guard: tests/kernel/test_approvals.py -k after_the_question
    if ruling.action != "deny" and permission(case).action == "deny":
        ruling = permission(case)
    if ruling.action != "deny":
        ruling = call_limit(case)
    if ruling.action != "deny":
        ruling = rate_limit(case)
    if ruling.action == "deny":
        return deny(case, ruling)
    return allow(case, Ruling("allow", "approval", f"approved by {answer.by or 'a human'}"))


async def _gates_now(case: Case) -> Ruling:
    """What the gates say once more, long after the question: only a no counts, for what was approved is what runs."""
    approved, edited = case.arguments, case.edited
    ruling = await hook(case)
    case.arguments, case.edited = approved, edited
    return ruling


def _unknown_outcome(call: Call, reason: str) -> list[Event]:
    text = f"it is unknown whether {call.name} did its work before the process died, and it was not run again"
    text += f": {reason}" if reason else ""
    return [
        finished(call, "unknown", ToolResult(text, is_error=True), error=ErrorInfo("unknown_outcome", text))
    ]


def _said_no(by: str, reason: str) -> str:
    return f"refused by {by or 'a human'}" + (f": {reason}" if reason else "")


async def recover(scope: Scope, state: State, call: Call) -> list[Event] | None:
    """What to do about a call that a dead process had started. None: run it again, it does no harm.

    A handler may offer ``probe(key) -> ToolResult | None`` to find out what became of the attempt.
    """
    try:
        case = open_case(scope, state, call)
    except ToolError as error:
        return _unknown_outcome(call, error_text(error))
    if case.spec.repeatable:
        forbidden = next((r for r in (permission(case), veto(case)) if r.action == "deny"), None)
        return _unknown_outcome(call, forbidden.reason) if forbidden else None
    probe = getattr(case.handler, "probe", None)
    if probe is not None:
        found = await _probed(probe, call)
        if isinstance(found, ToolResult):
            return [finished(call, "error" if found.is_error else "ok", await case.cap(found))]
    reason = "the process died while it ran; it may or may not have done its work"
    return [RequestOpened(request=approval_request(case, Ruling("ask", "recovery", reason)))]


async def _probed(probe: Callable[[str], Any], call: Call) -> Any:
    try:
        return await probe(call.key)
    except BaseException as error:
        if passes(error):
            raise
        logger.exception("%s could not tell what became of call %s", call.name, call.id)
        return None
