"""One run: a handle that starts it, follows it, stops it and tells what it came to."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from contextvars import copy_context
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, cast
from weakref import ReferenceType, ref

import msgspec
from msgspec.structs import replace

from .._generics import OutputT
from ..errors import BudgetExceeded, ConfigError, RecordNotFound, RequestClosed, StoreError
from ..events import AnyEvent, CancelRequested, Event, RequestAnswered, RequestOpened, RunResumed, RunStarted
from ..folds.records import beginning, event_row, plain, refold
from ..folds.state import State
from ..kernel.attempt import INSIDE
from ..kernel.budget import Budget
from ..kernel.engine import Scope
from ..kernel.interrupt import Interrupt
from ..kernel.journal import Journal
from ..kernel.loop import drive
from ..kernel.people import checked
from ..kernel.steps import cancelled_error
from ..policies.restore import SessionRestorePolicy
from ..requests import Answer, Request
from ..safety.display import encodable
from ..signals import RuntimeTask
from ..tools.base import RunContext, ToolContext
from ..types import Artifact, ErrorInfo, RunState
from .followers import Followers
from .logbook import Logbook
from .result import RunResult, result_of

if TYPE_CHECKING:
    from .session import Session
    from .stream import Stream


_Events = AsyncGenerator[AnyEvent, None]


def new_run_id() -> str:
    """A fresh run id."""
    return f"run_{secrets.token_hex(12)}"


def checked_run_id(run_id: Any) -> str | None:
    """The id of a run to resume. Raises ConfigError for what is none, such as answers in its place."""
    if run_id is None or isinstance(run_id, str):
        return run_id
    raise ConfigError(f"run_id is the id of a run, not {run_id!r:.200}; pass answers as answers=[...]")


def checked_answers(answers: Any) -> tuple[Answer, ...]:
    """One answer or several, as several. Raises ConfigError for what is none."""
    given: tuple[Any, ...] = (answers,)
    if not isinstance(answers, Answer | str | bytes | Mapping):
        try:
            given = tuple(answers)
        except TypeError:
            pass
    for answer in given:
        if not isinstance(answer, Answer):
            raise ConfigError(
                f"{answer!r:.200} is no answer: request.approve(), .deny(reason) and .answer(value) make one"
            )
    return given


class Run(Generic[OutputT]):
    """A handle on one run. ``await run`` gives its result, ``async for event in run`` follows it.

    Made by ``Session.start``, ``stream`` and ``resume``. A run that waits for an answer has a result too, in
    the state ``WAITING``; ``session.resume`` goes on with it, in this process or another.
    """

    def __init__(
        self,
        session: Session[OutputT, Any],
        *,
        run_id: str | None,
        task: RuntimeTask | None = None,
        context: RunContext[Any] | None = None,
        answers: Sequence[Answer] = (),
        parent: ToolContext[Any] | None = None,
        streaming: bool = True,
        retried: bool = False,
    ) -> None:
        self.id = run_id or ""
        self.session = session
        self.task = task
        self.context: RunContext[Any] = context or RunContext()
        self.state = RunState.QUEUED
        self._answers = tuple(answers)
        self._parent = parent
        self._streaming = streaming
        self._retried = retried
        self._events: list[AnyEvent] = []
        self._followers = Followers()
        self._begun = task is None
        self._known = asyncio.Event()
        if task is not None:
            self._known.set()
        self._interrupt = Interrupt()
        self.scope: Scope | None = None
        self.driver: asyncio.Task[Any] | None = None
        self.reads = 0
        self._stream: ReferenceType[Stream[OutputT]] | None = None
        self._driver: asyncio.Task[None] | None = None
        self._result: RunResult[OutputT] | None = None

    # --- following ------------------------------------------------------------------------------------

    async def events(self, after: int = 0) -> AsyncIterator[AnyEvent]:
        """Yield the run's events with a seq over ``after``: the kept ones so far, then all as they happen.

        Any number of readers see the same order. Deltas are only seen by those who are there. Raises what
        kept the run from going on (a StoreError, a RequestClosed), never what a model or tool did.
        """
        self._in_its_loop()
        await self._known.wait()
        async for event in self._followers.follow(lambda: list(self._events)):
            if event.seq > after or (not event.durable and event.seq == after):
                yield event
        if self._driver is not None and self._driver.done():
            self._driver.result()

    def __aiter__(self) -> AsyncIterator[AnyEvent]:
        return self.events()

    async def wait(self) -> RunResult[OutputT]:
        """Wait until the run has ended or waits for an answer, and return its result.

        Cancelling the waiter does not cancel the run; ``cancel`` does. Raises like ``events``, and SessionBusy where
        waiting could never end: in a tool or hook of the run that has the session, or beside its stream left unread.
        """
        self._in_its_loop()
        if self._result is None and self.session.turn.holder is not self:
            self.session.turn.refuse_deadlock()
        while self._driver is not None:
            await asyncio.shield(self._driver)
            if self._result is not None:  # else it was cancelled the moment it parked, and goes on to its end
                return self._result
        raise RuntimeError("this run is driven by the stream it belongs to; read that to its end")

    def __await__(self) -> Generator[Any, None, RunResult[OutputT]]:
        return self.wait().__await__()

    @property
    def result(self) -> RunResult[OutputT] | None:
        """The result, once there is one."""
        return self._result

    @property
    def output(self) -> OutputT | None:
        """The answer, once the run has completed; ``result`` tells it from an answer that is None."""
        return None if self._result is None else self._result.output

    @property
    def prompt(self) -> str:
        """What was asked for, as text; empty for a run to resume until its log has been read."""
        return self.task.goal if self.task else ""

    @property
    def created_at(self) -> datetime | None:
        """When the run began, in UTC; None before it has."""
        return self._events[0].ts if self._events else None

    async def cancel(self, reason: str = "") -> RunResult[OutputT] | None:
        """Stop the run at its next await, settle what was under way, and return the result.

        A tool that does not stop within ``RuntimeLimits.cancel_grace`` is left behind: the run ends without it,
        and the call's result says that it may still take effect. A run that waits is ended, and its requests
        with it. One that has ended stays as it is. None when the run is driven by a stream, which then ends by
        itself.
        """
        self._in_its_loop()
        wanted = CancelRequested(reason=encodable(str(reason or "")))
        if self._result is None:
            self._interrupt(wanted)
        elif self._result.state is RunState.WAITING:
            going_on = self.session.driven
            if going_on is not None and going_on is not self and going_on.id == self.id:
                return await going_on.cancel(reason)
            self._interrupt = Interrupt()
            self._interrupt(wanted)
            self._begun, self._result, self._answers = True, None, ()
            self._followers.reopen()
            return await self.begin().wait()
        return self._result if self._driver is None else await self.wait()

    async def artifacts(self) -> list[Artifact]:
        """What the run produced that outlives it, once it has ended."""
        result = self._result or await self.wait()
        return list(result.artifacts)

    async def transcript(self) -> dict[str, Any]:
        """Everything about the run as plain data."""
        result = self._result or await self.wait()
        started = beginning(result.events)
        return {
            "run_id": self.id,
            "session_id": self.session.id,
            "state": result.state.value,
            "prompt": self.prompt,
            "context": plain(started.inputs if started else self.context.to_payload()),
            "output": msgspec.to_builtins(result.output, enc_hook=str),
            "text": result.text,
            "messages": plain(result.messages),
            "events": [event_row(event) for event in result.events],
            "artifacts": plain(result.artifacts),
        }

    # --- driving --------------------------------------------------------------------------------------

    def begin(self) -> Run[OutputT]:
        """Drive the run in a task of its own. Needs a running event loop."""
        apart = copy_context()
        apart.run(INSIDE.set, ())  # a run that a tool starts for later is not part of its call
        work = self._drain()
        self._driver = asyncio.create_task(work, name=f"loom {self.id or 'resume'}", context=apart)
        self.driver = self._driver
        self._driver.add_done_callback(_retrieve)
        return self

    def read_by(self, stream: Stream[OutputT]) -> None:
        """Be driven by that stream, as long as it is there."""
        self._stream = ref(stream)

    @property
    def unread(self) -> bool:
        """Whether the run stands still, because it is driven by a stream that nobody reads on."""
        stream = self._stream() if self._stream else None
        return stream is not None and stream.unread

    @property
    def dropped(self) -> bool:
        """Whether the stream that drove the run is gone, so that the run is about to be settled."""
        return self._stream is not None and self._stream() is None

    def _in_its_loop(self) -> None:
        """Raise ConfigError in another event loop than the run's own: its handle cannot be waited for there."""
        if self._driver is not None and self._driver.get_loop() is not asyncio.get_running_loop():
            raise ConfigError(f"run {self.id} belongs to another event loop: use its handle there")

    async def _drain(self) -> None:
        async with aclosing(self.advance()) as events:
            async for _ in events:
                pass

    async def advance(self) -> AsyncGenerator[AnyEvent, None]:
        """Drive the run right here, yielding every event. Leaving early cancels it."""
        session = self.session
        try:
            async with AsyncExitStack() as stack:
                logbook = await self._take_turn(stack)
                if logbook is None:
                    return
                await session.catch_up(logbook.seq)
                opened = await self._open(logbook)
                self._known.set()
                if opened is None:
                    return
                journal, opening = opened
                scope = self.scope = self._scope(opening, journal.state)
                self.state, session.driven = RunState.RUNNING, self
                unsaved = session.note_start(self.id, self._events, self.prompt)
                try:
                    driven = cast("_Events", drive(scope, journal, self._interrupt, opening))
                    async with aclosing(driven) as events:
                        async for event in events:
                            if event.durable:
                                self._events.append(event)
                            self._followers.put(event)
                            yield event
                except StoreError as error:
                    if journal.state.status is RunState.QUEUED:
                        raise
                    unsaved = replace(error.info(), message=f"not saved, resume it to go on: {error}")
                finally:
                    session.driven = None
                    self._conclude(journal, unsaved)
                await self._tell_end()
        finally:
            self.scope = self.driver = None
            self._known.set()
            self._followers.close()

    async def _with_files_read(self, task: RuntimeTask) -> RuntimeTask:
        """The task as it is written down: what was sent is in the log, wherever the run is resumed."""
        from ..media import attach

        try:
            return replace(task, attachments=await asyncio.to_thread(attach, task.attachments))
        except ConfigError:
            self.state = RunState.FAILED
            raise

    async def _take_turn(self, stack: AsyncExitStack) -> Logbook | None:
        """Wait for the runs in front; None when this one was cancelled before its turn came."""
        session, patience = self.session, self.session.config.busy_wait
        if self._begun:
            # One that is in the log and is to be cancelled must get at its log; one cancelled later need not wait.
            cancelled = self._interrupt.wanted
            await stack.enter_async_context(session.turn.taken(self, patience))
            hurried = session.opened_log(lambda: self._interrupt.wanted is not cancelled)
            return await stack.enter_async_context(hurried)
        self._interrupt.enter()
        try:
            if self._interrupt.wanted is None or not session.turn.locked:
                await stack.enter_async_context(session.turn.taken(self, patience))
                return await stack.enter_async_context(session.opened_log())
        except asyncio.CancelledError:
            if not self._interrupt.caught():
                raise
        finally:
            self._interrupt.leave()
        wanted = self._interrupt.wanted
        error = cancelled_error(wanted.reason if isinstance(wanted, CancelRequested) else "")
        state = State(run_id=self.id, session_id=session.id, status=RunState.CANCELLED, error=error)
        self._result, self.state = result_of(state, ()), RunState.CANCELLED
        return None

    def _conclude(self, journal: Journal, unsaved: ErrorInfo | None) -> None:
        """Fold the run into its result, also when its consumer has gone and it was settled behind its back."""
        session = self.session
        if journal.state.status is RunState.QUEUED:
            self.state = RunState.FAILED  # not even its beginning could be saved
            return
        unseen = list(cast("Iterable[AnyEvent]", journal.outbox))  # the reader who drove the run has left
        self._events += unseen
        for event in unseen:
            self._followers.put(event)
        session.history.finish(journal.state, self._events, journal.seq)
        state = journal.unsaved_state()
        unsaved = unsaved or session.record(state, self._events)
        output, fault = session.parse(state, self.context)
        result = result_of(state, self._events, output=output, error=unsaved or fault)
        self._result, self.state = result, result.state
        session.concluded(result)

    async def _tell_end(self) -> None:
        hooks, result = self.session.engine.hooks, self._result
        if result is not None and result.state.terminal and hooks.wants("after_run"):
            ids = {"run_id": self.id, "session_id": self.session.id}
            await hooks.tell("after_run", {**ids, "prompt": self.prompt, "result": result})

    def _scope(self, opening: Sequence[Event], state: State) -> Scope:
        session, above = self.session, self._parent.scope if self._parent else None
        begun = next((event for event in opening if isinstance(event, RunStarted)), state)
        known = replace(state, run_id=self.id)
        budget = Budget.of(known, begun.limits, above.budget if above else None, depth=begun.depth)
        return Scope(
            engine=session.engine,
            budget=budget,
            store=session.store,
            context=self.context,
            above=above,
            human=above.human if above else session.human,
            streaming=self._streaming,
            rates=above.rates.below(session.engine) if above else session.rates,
        )

    async def _open(self, logbook: Logbook) -> tuple[Journal, list[Event]] | None:
        """The journal of this run, and what is to be written down first; None when the run has ended."""
        if self._begun or self.task is None:
            return await self._reopen(logbook)
        session, parent = self.session, self._parent
        depth = parent.depth + 1 if parent else 0
        deepest = parent.scope.budget.deepest if parent else None
        if deepest is not None and depth > deepest:
            raise BudgetExceeded(f"max_depth reached: this run would be {depth} deep, {deepest} is the most")
        if self.task.attachments:
            self.task = await self._with_files_read(self.task)
        said, window = session.history.before(logbook.seq + 1, session.restore)
        started = RunStarted(
            task=self.task,
            inputs=self.context.to_payload(),
            restore=session.restore.to_fields(),
            restored=session.restore.summary(window),
            limits=session.limits,
            depth=depth,
            parent_run_id=parent.run_id if parent else None,
        )
        return self._journal(logbook, State(transcript=said)), [started]

    async def _reopen(self, logbook: Logbook) -> tuple[Journal, list[Event]] | None:
        session = self.session
        if not self.id and self._retried:
            self.id = session.history.last_id or "(none)"
        if not self.id:
            self.id = await self._meant(await session.store.unfinished_runs(session.id))
        events = cast("list[AnyEvent]", await session.store.read(session.id, run_id=self.id))
        if not events or not isinstance(started := events[0], RunStarted):
            raise RecordNotFound(f"session {session.id!r} has no run {self.id!r}")
        if started.parent_run_id and self._parent is None and self._interrupt.wanted is None:
            raise ConfigError(
                f"run {self.id} was started by run {started.parent_run_id}, whose policies bind it: resume that one"
            )
        restore = SessionRestorePolicy.from_fields(started.restore)
        said, _ = session.history.before(started.seq, restore)
        state = refold(events, State(transcript=said))
        self.task, self._events = started.task, events
        if self._interrupt.wanted is not None:
            self._answers = ()  # cancelled before its turn came: its answers have lost their purpose
        if not self.context.inputs:
            self.context.inputs = dict(started.inputs)
        if self._retried:
            self._must_be_retriable(state)
            self._retried = False
            return self._journal(logbook, state), [RunResumed(from_state=state.status)]
        if state.status.terminal:
            if self._answers:
                raise RequestClosed(f"run {self.id} has ended; there is nothing left to answer")
            if self._parent is not None:
                # It ended and nobody heard of it: what it spent counts all the same.
                Budget.of(state, state.limits, self._parent.scope.budget, depth=state.depth)
            output, fault = session.parse(state, self.context)
            self._result = result_of(state, events, output=output, error=fault)
            self.state = self._result.state
            return None
        stood = RunState.WAITING if state.requests else RunState.RUNNING
        return self._journal(logbook, state), [RunResumed(from_state=stood), *self._answered(state)]

    async def _meant(self, unfinished: Sequence[str]) -> str:
        """Which of the session's unfinished runs is to go on: the one the answers are for, else the newest."""
        session = self.session
        if not unfinished:
            raise RecordNotFound(f"session {session.id!r} has no unfinished run to resume")
        if len(unfinished) > 1:
            answered = {answer.request_id for answer in self._answers}
            for run_id in reversed(unfinished if answered else ()):
                events = await session.store.read(session.id, run_id=run_id)
                if any(isinstance(e, RequestOpened) and e.request.id in answered for e in events):
                    return run_id
        return unfinished[-1]

    def _must_have_its_tool(self, request: Request, state: State) -> None:
        """Raise ConfigError when this agent has not the tool that asks: an answer counts once and would be lost."""
        if not request.call_id:
            return
        name = state.call(request.call_id).name
        if not self.session.engine.tools.has(name):
            raise ConfigError(
                f"this agent has no tool {name!r}, which request {request.id} is about: resume with one that has it. "
                "The request stays open"
            )

    def _must_be_retriable(self, state: State) -> None:
        if state.status not in (RunState.FAILED, RunState.CANCELLED):
            how = "is not over: resume it" if not state.status.terminal else f"ended as {state.status.value}"
            raise RequestClosed(f"run {self.id} cannot be retried, it {how}")
        if not self.session.history.is_last(self.id):
            raise RequestClosed(f"run {self.id} cannot be retried: a later run was told how it ended")

    def _answered(self, state: State) -> list[RequestAnswered]:
        """The answers, each to a request that is open and to no other."""
        waiting = {request.id: request for request in state.requests}
        answered: list[RequestAnswered] = []
        for answer in self._answers:
            request = waiting.pop(answer.request_id, None)
            if request is None:
                raise RequestClosed(
                    f"{answer!r} is to no open request of run {self.id}: answered already, or of another run, "
                    "which is resumed by itself"
                )
            self._must_have_its_tool(request, state)
            answered.append(RequestAnswered(answer=checked(answer, request, self.session.engine.clock())))
        return answered

    def _journal(self, logbook: Logbook, state: State) -> Journal:
        self.id = self.id or new_run_id()
        session = self.session
        engine = session.engine
        return Journal(
            logbook,
            state,
            session_id=session.id,
            run_id=self.id,
            clock=engine.clock,
            pace=engine.pace,
            judged=engine.output_gate is not None,
        )

    def __repr__(self) -> str:
        return f"<Run {self.id or '(to resume)'} of session {self.session.id}: {self.state.value}>"


def _retrieve(driver: asyncio.Task[None]) -> None:
    """Whoever waits gets the exception; with nobody waiting it is in the log of the store already."""
    if not driver.cancelled():
        driver.exception()
