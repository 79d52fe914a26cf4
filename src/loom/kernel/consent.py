"""What a human is asked about a call, and whether their yes still covers it."""

from __future__ import annotations

import hashlib

from ..requests import Request
from ..safety.display import visible
from ..safety.permissions import Ruling
from ..types import to_json
from .case import Case

_CLOCK_STEP = 1.0
"""Seconds a clock may step back between a yes and its use; a yes of the future must not last for ever."""
STALE = Ruling("ask", "approval", "the approved call has changed or the approval has expired")


def approval_request(case: Case, ruling: Ruling) -> Request:
    """The question whether this call may run, bound to exactly what would run."""
    arguments = to_json(case.arguments)
    before = case.call.request.id if case.call.request else ""
    now = case.scope.engine.clock()
    return Request(
        id=f"req_{hashlib.sha256(f'{case.call.key}:{before}'.encode()).hexdigest()[:20]}",
        kind="approval",
        prompt=f"Run {case.spec.name} with {visible(arguments)}? ({visible(str(ruling.reason or 'a gate asks'))})",
        run_id=case.state.run_id,
        session_id=case.state.session_id,
        call_id=case.call.id,
        tool_name=case.spec.name,
        arguments=arguments,
        digest=case.digest(),
        opened_at=now,
        origin=ruling.source,
    )


def receipt_holds(case: Case) -> bool:
    """Whether the human's yes covers exactly what would run now, and is still good."""
    call = case.call
    if call.approval is None:
        return True
    age = case.scope.engine.clock() - call.approval.at
    lasts = min(policy.approval_ttl for policy in case.scope.powers)
    return call.digest == case.digest() and -_CLOCK_STEP <= age <= lasts
