"""Running the calls of one reply: safe ones together, others in order, all with their results in place.

Which calls may run is decided in ``kernel/toolpath.py``; here is how they run beside each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from typing import Any

from ..errors import ToolError
from ..events import Event, RequestOpened, ToolStarted
from ..tools.base import ToolContext, ToolHandler
from .case import Case, open_case, refused_result
from .consent import STALE, approval_request, receipt_holds
from .engine import Scope
from .state import Call, State
from .toolpath import execute

Batch = list[Event]


class Feed:
    """What running tools post, for the loop to pick up. Bounded in nothing: events are small and picked up at once."""

    __slots__ = ("_posted", "_waker")

    def __init__(self) -> None:
        self._posted: deque[Event] = deque()
        self._waker = asyncio.Event()

    def post(self, event: Event) -> None:
        """Hand over an event."""
        self._posted.append(event)
        self._waker.set()

    def wake(self, _: object = None) -> None:
        """Let the loop look again."""
        self._waker.set()

    async def posted(self) -> list[Event]:
        """Wait for anything to happen and return what was posted meanwhile."""
        await self._waker.wait()
        self._waker.clear()
        events = list(self._posted)
        self._posted.clear()
        return events


async def run_calls(scope: Scope, state: State, calls: Sequence[Call]) -> AsyncIterator[Event | Batch]:
    """Run allowed calls and yield batches of events; each batch is durable when this goes on."""
    for group in _groups(scope, calls):
        cases: list[Case] = []
        opening: list[Event] = []
        for call in group:
            case_or_event = _prepare(scope, state, call)
            if isinstance(case_or_event, Case):
                cases.append(case_or_event)
            else:
                opening.append(case_or_event)
        opening += [_started(case) for case in cases]
        yield opening
        if cases:
            async for batch in _run_together(scope, cases):
                yield batch


def _prepare(scope: Scope, state: State, call: Call) -> Case | Event:
    try:
        case = open_case(scope, state, call)
    except ToolError as error:
        return refused_result(call, error)
    if not receipt_holds(case):
        return RequestOpened(request=approval_request(case, STALE))
    if (stop := scope.budget.reserve(tool_calls=1)) is not None:
        return refused_result(call, ToolError(f"the budget above this run is used up: {stop.limit}"))
    return case


def _started(case: Case) -> ToolStarted:
    call = case.call
    return ToolStarted(call_id=call.id, name=call.name, idempotency_key=call.key, attempt=call.attempt + 1)


def _groups(scope: Scope, calls: Sequence[Call]) -> Iterator[list[Call]]:
    """Neighbours that are safe together form one group; every other call is a group of its own."""

    def safe(call: Call) -> bool:
        handler = scope.engine.tools.get(call.name)
        return handler is not None and handler.tool.concurrency_safe

    for together, group in groupby(calls, key=safe):
        if together:
            yield list(group)
        else:
            yield from ([call] for call in group)


async def _run_together(scope: Scope, cases: list[Case]) -> AsyncIterator[Event | Batch]:
    if len(cases) == 1 and not _wants_context(cases[0].handler):
        yield await execute(cases[0], None)
        return
    feed = Feed()
    tasks = [asyncio.create_task(execute(case, _context(scope, case, feed))) for case in cases]
    for task in tasks:
        task.add_done_callback(feed.wake)
    try:
        pending = list(tasks)
        while pending:
            events = await feed.posted()
            for task in [task for task in pending if task.done()]:
                pending.remove(task)
                events += task.result()
            kept = [event for event in events if event.durable]
            for live in (event for event in events if not event.durable):
                yield live
            if kept:
                yield kept
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
        _post=feed.post,
    )


def _wants_context(handler: ToolHandler) -> bool:
    """Whether a handler needs to know its run; a duck type says so by having ``invoke_in_context``."""
    wants: bool = getattr(handler, "wants_context", hasattr(handler, "invoke_in_context"))
    return wants
