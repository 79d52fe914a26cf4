"""Running calls beside each other. Which may run is decided in ``kernel/toolpath.py``, which together in ``steps``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

from ..errors import StoreError, ToolError
from ..events import Event, RequestOpened, ToolFinished, ToolStarted
from ..folds.state import Call, State
from ..tools.base import ToolContext, ToolHandler, Unsaved
from .attempt import Attempt
from .case import Case, open_case, refused_result
from .consent import STALE, approval_request, receipt_holds
from .engine import Scope
from .repeats import Retry, retry_of
from .toolpath import execute, observe

Batch = list[Event]


class Feed:
    """What running tools post, for the loop to pick up. Bounded in nothing: events are small and picked up at once.

    ``open`` are the ids of the calls that may still post; what a call posts after its end goes nowhere. ``unsaved``
    is why a run that one of them drives could not be written down.
    """

    __slots__ = ("_kept", "_live", "_stirred", "_waiter", "open", "unsaved")

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.unsaved: StoreError | None = None
        self._live: list[Event] = []
        self._kept: list[Event] = []
        self._stirred = False
        self._waiter: asyncio.Future[None] | None = None

    def post(self, call_id: str, event: Event) -> None:
        """Hand over an event of a call."""
        if call_id in self.open:
            (self._kept if event.durable else self._live).append(event)
            self.wake()

    def wake(self) -> None:
        """Let the loop look again."""
        self._stirred = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def stirred(self) -> None:
        """Wait for anything to happen. For one task."""
        if not self._stirred:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._stirred = False

    def live(self) -> list[Event]:
        """What was posted since the last time for whoever listens right now."""
        events, self._live = self._live, []
        return events

    def kept(self) -> list[Event]:
        """What was posted since the last time and is to be kept."""
        events, self._kept = self._kept, []
        return events


async def run_calls(scope: Scope, state: State, calls: Sequence[Call]) -> AsyncGenerator[Event | Batch]:
    """Run allowed calls at once and yield batches of events; each batch is durable when this goes on.

    Left early, it returns when every tool has stopped or was left behind, and ``scope.late`` has what came of them.
    Raises the StoreError of a run that one of them drives, when what the others came to has been yielded.
    """
    cases: list[Case] = []
    opening: list[Event] = []
    for call in calls:
        case_or_event = _prepare(scope, state, call)
        if isinstance(case_or_event, Case):
            cases.append(case_or_event)
        else:
            opening.append(case_or_event)
    opening += [_started(case) for case in cases]
    yield opening
    feed = Feed()
    pending = [_begin(scope, case, feed) for case in cases]
    try:
        while pending and feed.unsaved is None:
            await feed.stirred()
            # First what is not kept: whoever listens may leave there, and nothing taken may be lost by that.
            for event in feed.live():
                yield event
            kept, again = await _picked_up(feed, pending)
            if kept:
                yield kept
            pending += [_begin(scope, retry.case, feed, retry.delay) for retry in again]
        for event in feed.live():
            yield event
    finally:
        if pending:
            await _break_off(scope, feed, pending)
    if feed.unsaved is not None:
        late, scope.late = scope.late, []
        if late:
            yield late
        raise feed.unsaved


def _begin(scope: Scope, case: Case, feed: Feed, delay: float = 0.0) -> Attempt:
    feed.open.add(case.call.id)
    context = _context(scope, case, feed) if _wants_context(case.handler) else None
    return execute(case, context, feed.wake, delay)


async def _picked_up(feed: Feed, pending: list[Attempt]) -> tuple[list[Event], list[Retry]]:
    """What is to be kept: what was posted, and what came of the calls that are over, then pending no more.

    Also the calls that failed and are entered again, once that is kept.
    """
    over = [attempt for attempt in pending if attempt.over]
    seen: list[Event] = []
    again: list[Retry] = []
    for attempt in over:
        if isinstance(attempt.error, Unsaved):
            feed.unsaved = attempt.error.error
        elif (retry := retry_of(attempt)) is not None:
            seen += retry.events
            again.append(retry)
        else:
            seen += await observe(attempt)
    # Only from here on is anything taken: observing may wait for the disk, and be cancelled then.
    for attempt in over:
        feed.open.discard(attempt.case.call.id)
        pending.remove(attempt)
    return [*feed.kept(), *seen], again


def _prepare(scope: Scope, state: State, call: Call) -> Case | Event:
    try:
        case = open_case(scope, state, call)
    except ToolError as error:
        return refused_result(call, error)
    if not receipt_holds(case):
        return RequestOpened(request=approval_request(case, STALE))
    if not call.attempt and (stop := scope.budget.reserve(tool_calls=1)) is not None:
        return refused_result(call, ToolError(f"the budget above this run is used up: {stop.limit}"))
    return case


def _started(case: Case) -> ToolStarted:
    call = case.call
    return ToolStarted(call_id=call.id, name=call.name, idempotency_key=call.key, attempt=call.attempt + 1)


async def _break_off(scope: Scope, feed: Feed, pending: list[Attempt]) -> None:
    """Stop what is under way, wait for it as long as its grace lasts, and put down what came of it after all."""
    cancelled: asyncio.CancelledError | None = None
    for attempt in pending:
        attempt.stop()
    while not all(attempt.over for attempt in pending):
        try:
            await feed.stirred()
        except asyncio.CancelledError as error:
            cancelled = error
            for attempt in pending:
                attempt.stop()
    scope.late += feed.kept()
    feed.open.clear()
    for attempt in pending:
        try:
            events = await observe(attempt)
        except asyncio.CancelledError as error:
            cancelled = error  # while an output was being kept: the call is settled without its result
            continue
        scope.late += [event for event in events if isinstance(event, ToolFinished)]
    if cancelled is not None:
        raise cancelled


def _context(scope: Scope, case: Case, feed: Feed) -> ToolContext[Any]:
    given, call = scope.context, case.call
    return ToolContext(
        inputs=given.inputs,
        knowledge=given.knowledge,
        extensions=given.extensions,
        deps=given.deps,
        session_id=case.state.session_id,
        run_id=case.state.run_id,
        call_id=call.id,
        tool_name=call.name,
        idempotency_key=call.key,
        attempt=call.attempt + 1,
        depth=case.state.depth,
        answers={answer.request_id: answer for answer in call.answers},
        scope=scope,
        _post=partial(feed.post, call.id),
    )


def _wants_context(handler: ToolHandler) -> bool:
    """Whether a handler needs to know its run; a duck type says so by having ``invoke_in_context``."""
    wants: bool = getattr(handler, "wants_context", hasattr(handler, "invoke_in_context"))
    return wants
