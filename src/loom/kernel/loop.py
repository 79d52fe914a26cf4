"""The loop: performs the steps the table names until a run ends or waits.

``run`` and ``stream`` are both this one generator; the first drains it, the second hands its events on.
How a model is asked is ``kernel/asking.py``, how calls are decided and run ``kernel/toolpath.py`` and
``kernel/calls.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from ..errors import LoomError, StoreError
from ..events import CancelRequested, ErrorRaised, Event, LimitReached, ToolFinished
from ..folds.changes import fold
from ..folds.state import Call, Phase, State
from ..types import ErrorInfo, RunState, ToolResult
from .answers import carry_out, recover
from .asking import ask_model
from .calls import run_calls
from .case import finished
from .engine import Scope
from .foreign import described, passes
from .interrupt import Alarm, Interrupt
from .journal import Journal
from .people import ask_human
from .runlog import run_logger, tell_log
from .steps import (
    AskModel,
    Await,
    Decide,
    Done,
    Execute,
    Judge,
    Recover,
    Settle,
    Step,
    next_step,
)
from .toolpath import decide
from .verdict import judge_reply

logger = logging.getLogger("loom.loop")


Deeds = AsyncGenerator[Event | list[Event], None]
"""What a step yields: one event for whoever listens right now, or a batch to be kept before going on."""


async def drive(
    scope: Scope, journal: Journal, interrupt: Interrupt, opening: Sequence[Event]
) -> AsyncGenerator[Event, None]:
    """Write ``opening`` down, perform steps, and yield every event, kept ones only once they are durable.

    Ends when the run has ended or waits for an answer. Leaving the generator early, or cancelling the task
    it runs in, cancels the run: what was under way is settled and written down before control returns.
    Raises StoreError when the log cannot be written; the run can then be resumed from what was.
    """
    outbox = journal.outbox
    deeds: Deeds | None = None
    telling = run_logger.isEnabledFor(logging.INFO)
    step: Step = Done()
    alarm: Alarm | None = None
    moved = at_rest = False
    scope.patience, interrupt.grace = interrupt.patience, scope.engine.cancel_grace
    try:
        await interrupt.settle()
        await journal.write(opening)
        while True:
            while outbox:
                event = outbox.popleft()
                if telling:
                    tell_log(event)
                if scope.engine.hooks:
                    await _tell(scope, interrupt, event)
                yield event
            if deeds is None:
                if interrupt.wanted is not None and not journal.state.ending:
                    await journal.write([*_cut_off(scope), interrupt.wanted])
                    continue
                step, moved = next_step(journal.state), False
                if type(step) is Done:
                    break
                deeds = _DEEDS[type(step)](scope, journal.state, step)
                alarm = _set_alarm(scope, journal.state, step, interrupt)
            done = await _perform(deeds, journal, interrupt)
            if done is not None:
                moved = True
                if isinstance(done, Event):
                    journal.stamp(done)
                    if scope.engine.hooks:
                        await _tell(scope, interrupt, done)
                    yield done
                continue
            if alarm is not None:
                alarm.cancel()
            await deeds.aclose()
            deeds = None
            if type(step) is Await and not moved and interrupt.wanted is None:
                break
        at_rest = True
    except StoreError:
        at_rest = True
        raise
    finally:
        if alarm is not None:
            alarm.cancel()
        if not at_rest:
            await _abandon(scope, journal, deeds)


async def _perform(deeds: Deeds, journal: Journal, interrupt: Interrupt) -> Event | list[Event] | None:
    """Do the next deed of a step and keep what is to be kept; None when the step is over or was broken off."""
    failure: ErrorInfo | None = None
    interrupt.enter()
    try:
        if interrupt.wanted is None or journal.state.ending:
            done = await deeds.__anext__()
            late = interrupt.wanted is not None and not journal.state.ending
            if isinstance(done, list):
                # What ended the run was there before what came after all: first come, first written.
                await journal.write([interrupt.wanted, *done] if late and interrupt.wanted else done)
            if interrupt.wanted is not None:
                await interrupt.absorb()
            return None if late else done
    except StopAsyncIteration:
        return None
    except asyncio.CancelledError:
        if not interrupt.caught():
            raise
    except StoreError:
        raise
    except Exception as error:  # our own fault or the application's: it ends this run, told as what it is
        if journal.state.ending:
            raise
        logger.exception("run %s failed inside", journal.state.run_id)
        failure = _inside(error)
    finally:
        interrupt.leave()
    if failure is not None:
        await journal.write([ErrorRaised(error=failure)])
    return None


def _cut_off(scope: Scope) -> list[Event]:
    """What there was of a reply that was broken off, to be written down with why."""
    cut, scope.cut = scope.cut, None
    return [cut] if cut is not None else []


async def _tell(scope: Scope, interrupt: Interrupt, event: Event) -> None:
    """Tell the watchers; one that never returns does not make the run unstoppable."""
    interrupt.enter()
    try:
        await scope.patience.with_(scope.engine.hooks.watch(event, scope.asked), "a hook")
        if interrupt.wanted is not None:
            await interrupt.absorb()
    except asyncio.CancelledError:
        if not interrupt.caught():
            raise
    finally:
        interrupt.leave()


def _inside(error: Exception) -> ErrorInfo:
    """A failure of our own or of the application's parts, as the error that ends the run."""
    if isinstance(error, LoomError):
        return error.info()
    return ErrorInfo("internal", f"the runtime failed: {described(error)}", cause=described(error))


async def _abandon(scope: Scope, journal: Journal, deeds: Deeds | None) -> None:
    """The consumer has gone: settle what was under way and write down that the run was cancelled."""
    cancelled: asyncio.CancelledError | None = None
    if deeds is not None:
        try:
            await deeds.aclose()
        except asyncio.CancelledError as error:  # while tools were stopped: they have, or were left behind
            cancelled = error
    if journal.state.status is not RunState.QUEUED:
        await _settle_abandoned(scope, journal)
    if cancelled is not None:
        raise cancelled


async def _settle_abandoned(scope: Scope, journal: Journal) -> None:
    try:
        if not journal.state.ending:
            await journal.write([*_cut_off(scope), CancelRequested(reason="abandoned")])
        while type(step := next_step(journal.state)) is not Done:
            async for batch in _DEEDS[type(step)](scope, journal.state, step):
                await journal.write(batch if isinstance(batch, list) else [batch])
    except StoreError:
        logger.warning("run %s was abandoned and could not be settled", journal.state.run_id, exc_info=True)
    if scope.engine.hooks:
        for event in journal.outbox:
            await scope.engine.hooks.watch(event, scope.asked)


def _set_alarm(scope: Scope, state: State, step: Step, interrupt: Interrupt) -> Alarm | None:
    """Interrupt the step when the run's wall time is up; a human may take as long as they like."""
    allowed = state.limits.max_seconds
    if allowed is None or state.ending or type(step) is Await:
        return None
    loop, rested = asyncio.get_running_loop(), scope.budget.rested
    due = loop.time() + max(0.0, allowed - state.active_seconds)
    reached = LimitReached(limit="max_seconds", allowed=allowed, spent=allowed)
    return Alarm(loop, lambda: due + scope.budget.rested - rested, lambda: interrupt(reached)).set()


# --- deeds: one for each step -----------------------------------------------------------------------


async def _decide(scope: Scope, state: State, step: Decide) -> Deeds:
    events: list[Event] = []
    decided: list[Event] = []
    for call in step.calls:
        state = fold(decided, state)  # a limit of calls counts those that were allowed just now
        decided = await (carry_out if call.phase is Phase.ANSWERED else decide)(scope, state, call)
        events += decided
    denied = next((e for e in events if isinstance(e, ToolFinished) and e.outcome == "denied"), None)
    if denied is not None and scope.stops_on_denial:
        events.append(ErrorRaised(error=ErrorInfo("tool_denied", denied.result.text)))
    yield events


def _execute(scope: Scope, state: State, step: Execute) -> Deeds:
    return run_calls(scope, state, step.calls)


async def _recover(scope: Scope, state: State, step: Recover) -> Deeds:
    again: list[Call] = []
    for call in step.calls:
        events = await recover(scope, state, call)
        if events is None:
            again.append(call)
        else:
            yield events
    if again:
        async with aclosing(run_calls(scope, state, again)) as batches:
            async for batch in batches:
                yield batch


async def _settle(scope: Scope, state: State, step: Settle) -> Deeds:
    late, scope.late = scope.late, []
    told = {event.call_id for event in late if isinstance(event, ToolFinished)}
    calls = [call for call in step.calls if call.id not in told]
    for call in calls:
        withdraw = getattr(scope.engine.tools.get(call.name), "withdraw", None)
        if withdraw is not None and call.attempt:
            try:
                await withdraw(state.session_id, call.key, scope)
            except BaseException as error:  # a handler is foreign code; it cannot keep the run from ending
                if passes(error):
                    raise
                logger.exception("%s could not withdraw what call %s had begun", call.name, call.id)
    cancelled = [
        finished(call, "cancelled", ToolResult(_settled_text(call), is_error=True)) for call in calls
    ]
    yield [*late, *cancelled]


def _settled_text(call: Call) -> str:
    if call.attempt:
        return f"{call.name} was interrupted; whether it had an effect is unknown"
    return f"{call.name} was not run: the run is ending"


async def _judge(scope: Scope, state: State, step: Judge) -> Deeds:
    assert scope.engine.output_gate is not None
    async for batch in judge_reply(scope.engine.output_gate, state, scope.context):
        yield batch


_DEEDS: dict[type, Callable[[Scope, State, Any], Deeds]] = {
    AskModel: ask_model,
    Decide: _decide,
    Execute: _execute,
    Recover: _recover,
    Await: ask_human,
    Settle: _settle,
    Judge: _judge,
}
"""One deed a step. ``Stop``, ``Fail`` and ``Finish`` need none: the journal writes them with what led to them."""
