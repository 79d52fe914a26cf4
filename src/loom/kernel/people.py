"""Putting open requests to whoever is attached, and checking what comes back."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator
from typing import Any

from msgspec.structs import replace

from ..errors import RequestClosed
from ..events import Event, RequestAnswered, RequestExpired
from ..folds.state import State
from ..requests import Answer, Request
from ..types import error_text, sound
from .engine import Scope
from .foreign import passes

logger = logging.getLogger("loom.human")


async def ask_human(scope: Scope, state: State, step: object) -> AsyncGenerator[Event | list[Event], None]:
    """Ask about the open requests in order, yielding each answer. Yields nothing when nobody can answer."""
    if scope.human is None:
        return
    for request in state.requests:
        try:
            answer = await _asked(scope, request)
            if answer is not None and _is_late(request, scope.engine.clock()):
                yield [RequestExpired(request_id=request.id)]
                continue
            kept = None if answer is None else checked(answer, request, scope.engine.clock())
        except BaseException as error:
            if passes(error):
                raise
            logger.exception("request %s could not be put to %r; the run waits", request.id, scope.human)
            continue
        if kept is not None:
            yield [RequestAnswered(answer=kept)]


async def _asked(scope: Scope, request: Request) -> Any:
    """What the human says, None when nobody can say anything now."""
    assert scope.human is not None
    with scope.budget.resting():
        answer: Any = scope.human.ask(request)
        return await scope.patience.with_(answer, "the human") if inspect.isawaitable(answer) else answer


def _is_late(request: Request, now: float) -> bool:
    return request.expires_at is not None and now > request.expires_at


def checked(answer: Any, request: Request, now: float) -> Answer:
    """The answer as it will be kept. Raises RequestClosed when it is not an answer to this request."""
    if not isinstance(answer, Answer) or answer.request_id != request.id:
        raise RequestClosed(f"{answer!r} does not answer request {request.id}")
    if answer.verdict not in ("approve", "deny", "answer"):
        raise RequestClosed(
            f"{answer.verdict!r} is no verdict; use .approve(), .deny(reason) or .answer(value)"
        )
    if _is_late(request, now):
        raise RequestClosed(
            f"request {request.id} has expired: resume without an answer, and it is asked anew"
        )
    if answer.verdict == "answer" and request.choices and answer.value not in request.choices:
        raise RequestClosed(f"{answer.value!r} is not among the choices {', '.join(request.choices)}")
    if request.kind == "question" and answer.verdict == "approve":
        raise RequestClosed("a question needs .answer(value), not a yes")
    if request.kind == "approval" and answer.verdict == "answer" and request.origin != "recovery":
        raise RequestClosed("an approval needs .approve() or .deny(reason), not a value")
    try:
        return sound(replace(answer, at=now))
    except Exception as error:  # encoding may call the application's own serialisers
        raise RequestClosed(
            f"the answer to request {request.id} cannot be kept: {error_text(error)}"
        ) from error
