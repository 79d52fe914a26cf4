"""A session: runs that remember each other, one at a time."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Generic
from weakref import WeakValueDictionary

from msgspec import UNSET, structs, to_builtins

from .._generics import DepsT, OutputT
from ..errors import ConfigError, OutputInvalid, StoreError
from ..events import Event, SessionForked
from ..folds.state import State
from ..hitl.base import Human
from ..kernel.engine import CallRates, Engine
from ..policies.restore import PastRun, SessionRestorePolicy
from ..requests import Answer, Request
from ..safety.declared import mapping, seconds, text
from ..signals import RuntimeTask, TaskInput
from ..store.base import RunRecord, SessionRecord, SessionStore, TranscriptRecord
from ..tools.base import RunContext, ToolContext
from ..types import ErrorInfo, Limits, RunState, describe_error, sound, to_json
from .history import History, artifacts_of, turn_messages
from .logbook import BUSY_WAIT, Logbook, open_logbook
from .owner import new_owner
from .result import RunResult
from .run import Run, new_run_id
from .stream import Stream
from .turn import Turn

logger = logging.getLogger("loom.session")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """Which session, and what is known about it. Without an id it is a new one.

    ``busy_wait`` is how many seconds a run waits for a session in which another process works, or whose stream
    nobody reads, before it raises SessionBusy. Raises ConfigError for values that cannot work.
    """

    id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    extensions: dict[str, Any] = field(default_factory=dict[str, Any])
    busy_wait: float = BUSY_WAIT

    def __post_init__(self) -> None:
        if self.id is not None:
            text("the id of a session", self.id)
        mapping("the metadata of a session", self.metadata)
        mapping("the extensions of a session", self.extensions)
        seconds("busy_wait", self.busy_wait)

    def to_metadata(self) -> dict[str, Any]:
        """Metadata and extensions as one dict; extensions win."""
        return {**self.metadata, **self.extensions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What a session stands on: everything it needs of the agent it belongs to, none of it its own.

    ``records`` says that finished runs go to the store's record half, because its log does not last.
    ``concluded`` is told of every result: of a run that has ended, or that waits.
    """

    engine: Callable[[], Engine]
    store: SessionStore
    limits: Limits
    restore: SessionRestorePolicy
    human: Human | None = None
    parse: Callable[[str, RunContext[Any]], Any] | None = None
    context: Callable[[RunContext[Any] | None, Any], RunContext[Any]] | None = None
    records: bool = False
    concluded: Callable[[Session[Any, Any], RunResult[Any]], None] | None = None

    def beside(
        self, store: SessionStore, concluded: Callable[[Session[Any, Any], RunResult[Any]], None]
    ) -> Grounds:
        """The same ground with another store under it, for a session that need not last."""
        return replace(self, store=store, records=False, concluded=concluded)


class Session(Generic[OutputT, DepsT]):
    """Runs that remember each other. Made by ``agent.session``; the same id gives the same session.

    Runs of one session take turns; sessions never see each other. With a durable store another process may
    open the same session: whoever runs holds its lease, the others wait.
    """

    def __init__(self, grounds: Grounds, config: SessionConfig) -> None:
        self.id = config.id or f"ses_{secrets.token_hex(12)}"
        self.config = config
        self.metadata = config.to_metadata()
        self.store = grounds.store
        self.limits = grounds.limits
        self.restore = grounds.restore
        self.human = grounds.human
        self.owner = new_owner()
        self.turn = Turn(self.id)
        self.history = History()
        self.rates = CallRates()
        self.driven: Run[OutputT] | None = None
        self._grounds = grounds
        self._opened = False
        self._runs: WeakValueDictionary[str, Run[OutputT]] = WeakValueDictionary()

    # --- what one does with a session -------------------------------------------------------------

    def start(
        self,
        task: TaskInput,
        *,
        context: RunContext[DepsT] | None = None,
        deps: DepsT | None = None,
        parent: ToolContext[Any] | None = None,
    ) -> Run[OutputT]:
        """Start a run in the background and return its handle at once. Needs a running event loop.

        ``task`` is text, a ``RuntimeTask``, or a sequence of text and parts such as ``ImagePart("cat.png")``;
        files are read before the run begins, and waiting for it raises ConfigError when one cannot be.
        ``parent`` is the context of the tool that starts it, when one does: budget, depth and human are then
        shared. Raises ValueError for a task without text, TypeError for what is no task.
        """
        return self._new_run(task, context, deps, parent, streaming=True).begin()

    async def run(
        self,
        task: TaskInput,
        *,
        context: RunContext[DepsT] | None = None,
        deps: DepsT | None = None,
        parent: ToolContext[Any] | None = None,
    ) -> RunResult[OutputT]:
        """Run a task to its end, or until it waits for an answer, and return its result. See ``start``.

        Cancelling this call cancels the run, which is settled and written down first.
        """
        return await self._through(self._new_run(task, context, deps, parent, streaming=False))

    def stream(
        self,
        task: TaskInput,
        *,
        context: RunContext[DepsT] | None = None,
        deps: DepsT | None = None,
    ) -> Stream[OutputT]:
        """Run a task and yield its events as they happen; leaving the loop early cancels the run.

        ``async with session.stream(task) as stream:`` closes it in time, and has ``stream.result``.

        With an ``output_type``, ``output.partial`` events show the object while it grows. The last event of a
        run that ended is ``run.finished``; of one that waits, a request or ``tool.parked``.
        """
        return Stream(self._new_run(task, context, deps, None, streaming=True))

    def resume(
        self,
        run_id: str | None = None,
        answers: Sequence[Answer] = (),
        *,
        context: RunContext[DepsT] | None = None,
        deps: DepsT | None = None,
        parent: ToolContext[Any] | None = None,
    ) -> Run[OutputT]:
        """Go on with a run that waits or whose process died; returns the same kind of handle as ``start``.

        ``run_id`` None is the session's newest unfinished run. ``answers`` may answer some of the open
        requests; each counts once. Waiting for the handle raises RecordNotFound when there is no such run,
        RequestClosed when an answer is to no open request; nothing is changed then.
        """
        run = Run(
            self,
            run_id=run_id,
            context=self._context(context, deps),
            answers=answers,
            parent=parent,
        )
        if run_id:
            self._runs[run_id] = run
        return run.begin()

    async def pending(self) -> list[Request]:
        """The requests of this session that nobody has answered, oldest first."""
        return await self.store.open_requests(self.id)

    async def fork(self, id: str | None = None, *, at: int | None = None) -> Session[OutputT, DepsT]:  # noqa: A002
        """A new session that begins with what this one had said by the seq ``at`` (default: by now).

        Raises ConfigError when the id is taken.
        """
        head = await self.store.head(self.id)
        await self._read_to(head)
        seq = head if at is None else at
        said, _ = self.history.before(seq + 1, SessionRestorePolicy.everything())
        other: Session[OutputT, DepsT] = Session(self._grounds, SessionConfig(id=id, metadata=self.metadata))
        async with other.opened_log() as logbook:
            if logbook.seq:
                raise ConfigError(f"session {other.id!r} exists already; fork into a new id")
            forked = SessionForked(
                session_id=other.id,
                seq=1,
                at=self.engine.clock(),
                source_session_id=self.id,
                source_seq=seq,
                messages=tuple(said),
            )
            await logbook.append([forked])
        return other

    def forget(self) -> None:
        """Drop this session from the store, with everything it said."""
        self.store.delete_session(self.id)

    def get_run(self, run_id: str) -> Run[OutputT] | None:
        """The handle of a run of this process, as long as someone holds it."""
        return self._runs.get(run_id)

    def list_runs(self) -> list[Run[OutputT]]:
        """The handles of this process's runs that someone holds."""
        return list(self._runs.values())

    @property
    def durable(self) -> bool:
        """True when a run survives the death of this process."""
        return self.store.durable

    # --- what a run needs of its session ----------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The agent's live parts."""
        return self._grounds.engine()

    async def catch_up(self, head: int) -> None:
        """Know everything the log holds up to the seq ``head``. The first time also says who keeps it."""
        if not self._opened:
            self._opened = True
            self._open_records(head)
        await self._read_to(head)

    async def _read_to(self, head: int) -> None:
        if head != self.history.seq:
            self.history.absorb(await self.store.read(self.id, after=self.history.seq))

    def _open_records(self, head: int) -> None:
        if self.store.durable or self._grounds.records or self.metadata:
            known = self.store.load_session(self.id)
            if known is None:
                self.store.save_session(SessionRecord(self.id, self.metadata))
            elif self.metadata and known.metadata != (merged := {**known.metadata, **self.metadata}):
                self.store.save_session(SessionRecord(self.id, merged, created_at=known.created_at))
        if not self._grounds.records:
            return
        if not self.store.volatile:
            name = type(self.store).__name__
            logger.warning("%s keeps finished runs only: a crash loses the run under way", name)
        if head == 0:  # nothing in the log of this process: all there was is in the records
            self.history.absorb_records(_past(record) for record in self.store.list_transcripts(self.id))

    def opened_log(self, hurry: Callable[[], bool] = lambda: False) -> AbstractAsyncContextManager[Logbook]:
        """The session's log, held for the time of the block; while ``hurry()``, only if nobody else has it."""
        return open_logbook(self.store, self.id, self.owner, self.config.busy_wait, hurry)

    def note_start(self, run_id: str) -> ErrorInfo | None:
        """Tell a store that keeps records only that a run begins or goes on. Returns why it could not be."""
        if not self._grounds.records:
            return None
        return _kept(run_id, lambda: self.store.save_run(RunRecord(run_id, self.id, RunState.RUNNING.value)))

    def record(self, state: State, events: Sequence[Event], context: RunContext[Any]) -> ErrorInfo | None:
        """Write how a run stands to a store that keeps records only. Returns why it could not be."""
        if not self._grounds.records or not events:
            return None
        over = state.status.terminal
        where = state.status.value if over else RunState.WAITING.value
        error = to_builtins(state.error) if state.error else None

        def save() -> None:
            self.store.save_run(RunRecord(state.run_id, self.id, where, state.output, error))
            if over:
                self.store.save_transcript(_transcript(state, events, context))

        return _kept(state.run_id, save)

    def concluded(self, result: RunResult[Any]) -> None:
        """A run of this session has ended or waits."""
        if self._grounds.concluded is not None:
            self._grounds.concluded(self, result)

    def parse(self, state: State, context: RunContext[Any]) -> tuple[Any, ErrorInfo | None]:
        """The output as the agent's ``output_type``, None included; UNSET leaves the text as it is.

        Also what is wrong with an answer that passed once and does not any more: a validator may have changed.
        """
        parse = self._grounds.parse
        if parse is None or state.status is not RunState.COMPLETED:
            return UNSET, None
        try:
            return parse(state.output, context), None
        except OutputInvalid as error:
            return UNSET, error.info()

    def _context(self, context: RunContext[Any] | None, deps: Any) -> RunContext[Any]:
        make = self._grounds.context
        return make(context, deps) if make else context or RunContext(deps=deps)

    async def begin(self, task: TaskInput, *, run_id: str, parent: ToolContext[Any]) -> RunResult[OutputT]:
        """Run a child's task under an id its parent knows, so that it can be found again."""
        return await self._through(self._new_run(task, None, None, parent, streaming=False, run_id=run_id))

    async def carry_on(
        self, run_id: str, answers: Sequence[Answer], *, parent: ToolContext[Any]
    ) -> RunResult[OutputT]:
        """Go on with a child's run, as part of the call it belongs to: cancelling that cancels this."""
        context = self._context(None, None)
        return await self._through(
            Run(self, run_id=run_id, context=context, answers=answers, parent=parent, streaming=False)
        )

    async def _through(self, run: Run[OutputT]) -> RunResult[OutputT]:
        """Drive a run right here and return its result."""
        run.driver = asyncio.current_task()
        async with aclosing(run.advance()) as events:
            async for _ in events:
                pass
        assert run.result is not None
        return run.result

    def _new_run(
        self,
        task: TaskInput,
        context: RunContext[Any] | None,
        deps: Any,
        parent: ToolContext[Any] | None,
        *,
        streaming: bool,
        run_id: str = "",
    ) -> Run[OutputT]:
        asked, given = RuntimeTask.from_input(task), self._context(context, deps)
        _must_be_plain(asked, given)
        if isinstance(task, RuntimeTask) and task.attachments:
            from ..media import refuse_files

            refuse_files(task.attachments)  # a task may have come over a wire
        run: Run[OutputT] = Run(
            self,
            run_id=run_id or new_run_id(),
            task=asked,
            context=given,
            parent=parent,
            streaming=streaming,
        )
        self._runs[run.id] = run
        return run

    def __repr__(self) -> str:
        return f"<Session {self.id}>"


def _kept(run_id: str, save: Callable[[], None]) -> ErrorInfo | None:
    try:
        save()
    except Exception as failure:  # the application's store; its failure must not destroy the answer
        logger.exception("run %s was not saved", run_id)
        return StoreError(f"not saved: {describe_error(failure)}").info()
    return None


def _transcript(state: State, events: Sequence[Event], context: RunContext[Any]) -> TranscriptRecord:
    return TranscriptRecord(
        state.run_id,
        state.session_id,
        state.goal,
        state.output,
        messages=[to_builtins(message) for message in state.transcript.after(state.own)],
        context=context.to_payload(),
        events=[to_builtins(event) for event in events],
        artifacts=[to_builtins(a) for a in artifacts_of(state, events[-1].at)],
        metadata={"state": state.status.value},
    )


def _past(record: TranscriptRecord) -> PastRun:
    messages = turn_messages(record.prompt, record.output)
    return PastRun(record.prompt, record.output, messages, inputs=record.context)


def _must_be_plain(task: RuntimeTask, context: RunContext[Any]) -> None:
    try:
        sound(structs.replace(task, attachments=[]))  # those are checked when their files are read
        to_json(context.to_payload())
    except Exception as error:  # encoding may call the application's own serialisers
        raise ConfigError(f"a task and its inputs must be plain data: {describe_error(error)}") from error
