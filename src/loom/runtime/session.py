"""A session: runs that remember each other, one at a time."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from typing import Any, Generic

from msgspec import UNSET, structs

from .._generics import DepsT, OutputT
from ..errors import ConfigError, LoomError, OutputInvalid, StoreError
from ..events import AnyEvent, SessionForked
from ..folds.records import run_record, transcript_record
from ..folds.state import State
from ..kernel.engine import CallRates, Engine
from ..kernel.foreign import passes
from ..policies.restore import SessionRestorePolicy
from ..requests import Answer, Request
from ..signals import RuntimeTask, TaskInput
from ..store.base import RunRecord, SessionRecord
from ..tools.base import RunContext, ToolContext
from ..types import ErrorInfo, RunState, describe_error, sound, to_json
from .grounds import Grounds, SessionConfig
from .history import History, past_record
from .logbook import Logbook, open_logbook
from .owner import Owner
from .result import RunResult
from .run import Run, checked_answers, checked_run_id, new_run_id
from .stream import Stream
from .turn import Turn

logger = logging.getLogger("loom.session")

_HANDLES = 64
"""Handles of ended runs that a session keeps, so that they can be looked up: more than a screen shows."""


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
        self._owner = Owner()
        self.turn = Turn(self.id)
        self.history = History()
        self.rates = CallRates()
        self.driven: Run[OutputT] | None = None
        self._grounds = grounds
        self.closed = False
        self._created_at: datetime | None = None
        self._opened = False
        self._runs: dict[str, Run[OutputT]] = {}

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
        answers: Sequence[Answer] | Answer = (),
        *,
        context: RunContext[DepsT] | None = None,
        deps: DepsT | None = None,
        parent: ToolContext[Any] | None = None,
    ) -> Run[OutputT]:
        """Go on with a run that waits or whose process died; returns the same kind of handle as ``start``.

        ``run_id`` None is the run that the answers are for, without answers the session's newest unfinished one.
        ``answers`` (one, or several of one run) may answer some of the open requests; each counts once. Waiting
        for the handle raises RecordNotFound when there is no such run, RequestClosed when an answer is to no
        open request; nothing is changed then. Raises ConfigError for what is no answer.
        """
        self._must_be_open()
        run = Run(
            self,
            run_id=checked_run_id(run_id),
            context=self._context(context, deps),
            answers=checked_answers(answers),
            parent=parent,
        )
        if run_id:
            self._keep(run)
        return run.begin()

    def retry(
        self,
        run_id: str | None = None,
        *,
        context: RunContext[DepsT] | None = None,
        deps: DepsT | None = None,
    ) -> Run[OutputT]:
        """Go on with a run that failed or was cancelled, where it stopped; returns a handle as ``start`` does.

        What was said, done and approved stays, under the same run id: after an outage of the model service only the
        model is asked again. ``run_id`` None is the session's last run, and no other can be retried, for later runs
        were told how it ended. Waiting for the handle raises RecordNotFound when there is no such run, RequestClosed
        when it completed, reached a limit, is not over, or is not the last.
        """
        self._must_be_open()
        run = Run(self, run_id=checked_run_id(run_id), context=self._context(context, deps), retried=True)
        if run_id:
            self._keep(run)
        return run.begin()

    async def pending(self) -> list[Request]:
        """The requests of this session that nobody has answered, oldest first."""
        return await self.store.open_requests(self.id)

    async def fork(self, id: str | None = None, *, at: int | None = None) -> Session[OutputT, DepsT]:  # noqa: A002
        """A new session that begins with what this one had said by the seq ``at`` (default: by now).

        It keeps the outputs that this one keeps, so that what is shown cut can be read on there, too.
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
            await self.store.copy_outputs(self.id, other.id)
            await logbook.append([forked])
        return other

    async def close(self) -> None:
        """Close the session: stop what it is running, settle and write that down, and take nothing on any more.

        Nothing of what it said is lost, and runs that wait go on waiting: ``agent.session(id)`` opens it again.
        Store and model are the agent's and stay open. A run that a stream drives ends with its stream. Safe to
        call twice; starting or resuming a run afterwards raises ConfigError.
        """
        self.closed = True
        for run in self.list_runs():
            if run.result is None:
                await run.cancel("the session was closed")

    aclose = close

    def again(self) -> Session[OutputT, DepsT]:
        """This session opened anew, for when it was closed."""
        return Session(self._grounds, SessionConfig(id=self.id, metadata=self.metadata))

    async def __aenter__(self) -> Session[OutputT, DepsT]:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.aclose()

    def forget(self) -> None:
        """Drop this session from the store, with everything it said, and with the sessions of its children."""
        self._runs.clear()
        self.store.delete_session(self.id)
        if not self.store.durable:  # a store of records knows nothing of the log that it inherits
            self.store.log.forget(self.id)

    def get_run(self, run_id: str) -> Run[OutputT] | None:
        """The handle of a run of this session object: of one that is not over, or among the newest 64 that are."""
        return self._runs.get(run_id)

    def list_runs(self) -> list[Run[OutputT]]:
        """The handles of this session object's runs, oldest first: those not over, and the newest 64 that are."""
        return list(self._runs.values())

    def _keep(self, run: Run[OutputT]) -> None:
        self._runs.pop(run.id, None)
        self._runs[run.id] = run
        if len(self._runs) <= _HANDLES:
            return
        over = [known.id for known in self._runs.values() if known.state.terminal or known is run]
        for run_id in over[: max(0, len(over) - _HANDLES)]:
            del self._runs[run_id]

    @property
    def created_at(self) -> datetime | None:
        """When the session began, in UTC, as far as its store knows; None for one that was never used."""
        if self._created_at is None:
            known = self.store.load_session(self.id)
            self._created_at = None if known is None else known.created_at
        return self._created_at

    @property
    def durable(self) -> bool:
        """True when a run survives the death of this process."""
        return self.store.durable

    # --- what a run needs of its session ----------------------------------------------------------

    @property
    def owner(self) -> str:
        """The name under which this process takes the session."""
        return self._owner.name

    @property
    def engine(self) -> Engine:
        """The agent's live parts."""
        return self._grounds.engine()

    async def catch_up(self, head: int) -> None:
        """Know everything the log holds up to the seq ``head``. The first time also says who keeps it."""
        if not self._opened:
            self._open_records(head)
            if self.created_at is None:
                self._created_at = datetime.fromtimestamp(self.engine.clock(), UTC)
            self._opened = True
        await self._read_to(head)

    async def _read_to(self, head: int) -> None:
        if head != self.history.seq:
            self.history.absorb(await self.store.read(self.id, after=self.history.seq))

    def _open_records(self, head: int) -> None:
        try:
            self._read_records(head)
        except LoomError:
            raise
        except Exception as error:  # the application's store
            raise StoreError(f"session {self.id!r} could not be opened: {describe_error(error)}") from error

    def _read_records(self, head: int) -> None:
        parent = self.config.parent
        if parent is not None and not self.store.durable:
            self.store.log.adopt(self.id, parent)
        if (
            self.store.durable
            or self._grounds.records
            or self.metadata
            or (parent is not None and self.store.volatile)
        ):
            known = self.store.load_session(self.id)
            if known is None:
                self.store.save_session(SessionRecord(self.id, self.metadata, parent=parent))
            elif self.metadata and known.metadata != (merged := {**known.metadata, **self.metadata}):
                row = SessionRecord(self.id, merged, created_at=known.created_at, parent=known.parent)
                self.store.save_session(row)
        if not self._grounds.records:
            return
        if not self.store.volatile:
            name = type(self.store).__name__
            logger.warning("%s keeps finished runs only: a crash loses the run under way", name)
        if head == 0:  # nothing in the log of this process: all there was is in the records
            self.history.absorb_records(
                past_record(record) for record in self.store.list_transcripts(self.id)
            )

    def opened_log(self, hurry: Callable[[], bool] = lambda: False) -> AbstractAsyncContextManager[Logbook]:
        """The session's log, held for the time of the block; while ``hurry()``, only if nobody else has it."""
        return open_logbook(self.store, self.id, self.owner, self.config.busy_wait, hurry)

    def note_start(self, run_id: str, events: Sequence[AnyEvent], prompt: str) -> ErrorInfo | None:
        """Tell a store that keeps records only that a run begins or goes on. Returns why it could not be."""
        if not self._grounds.records:
            return None
        row = run_record(events, session_id=self.id) or RunRecord(
            run_id, self.id, RunState.RUNNING.value, metadata={"prompt": prompt}
        )
        row.state = RunState.RUNNING.value
        return _kept(run_id, lambda: self.store.save_run(row))

    def record(self, state: State, events: Sequence[AnyEvent]) -> ErrorInfo | None:
        """Write how a run stands to a store that keeps records only. Returns why it could not be."""
        if not self._grounds.records or not events:
            return None
        row = run_record(events, session_id=self.id)
        if row is None:
            return None
        said = transcript_record(events, session_id=self.id) if state.status.terminal else None

        def save() -> None:
            self.store.save_run(row)
            if said is not None:
                self.store.save_transcript(said)

        return _kept(state.run_id, save)

    def concluded(self, result: RunResult[Any]) -> None:
        """A run of this session has ended or waits."""
        if self._grounds.concluded is not None:
            self._grounds.concluded(self, result)

    def parse(self, state: State, context: RunContext[Any]) -> tuple[Any, ErrorInfo | None]:
        """The output as the agent's ``output_type``, None included; UNSET leaves the text as it is.

        Beside it why it could not be made: it has been judged, but whatever an application validates with may
        change its mind, in another process too.
        """
        parse = self._grounds.parse
        if parse is None or state.status is not RunState.COMPLETED:
            return UNSET, None
        try:
            return parse(state.output, context), None
        except BaseException as error:
            if passes(error):
                raise
            failure = OutputInvalid(f"the answer passed and could not be made again: {describe_error(error)}")
            failure.__cause__ = error
            return UNSET, failure.info()

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
        self._must_be_open()
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
        self._keep(run)
        return run

    def _must_be_open(self) -> None:
        if self.closed:
            raise ConfigError(f"session {self.id!r} was closed; agent.session({self.id!r}) opens it again")

    def __repr__(self) -> str:
        return f"<Session {self.id}{' (closed)' if self.closed else ''}>"

    def __dir__(self) -> list[str]:
        return list(_SHOWN)


_SHOWN = (
    "aclose", "again", "close", "closed", "config", "created_at", "durable", "forget", "fork", "get_run", "id",
    "list_runs", "metadata", "pending", "resume", "retry", "run", "start", "stream",
)  # fmt: skip
"""What a session is for; the rest is what its runs need of it."""


def _kept(run_id: str, save: Callable[[], None]) -> ErrorInfo | None:
    try:
        save()
    except Exception as failure:  # the application's store; its failure must not destroy the answer
        logger.exception("run %s was not saved", run_id)
        return StoreError(f"not saved: {describe_error(failure)}").info()
    return None


def _must_be_plain(task: RuntimeTask, context: RunContext[Any]) -> None:
    try:
        sound(structs.replace(task, attachments=[]))  # those are checked when their files are read
        to_json(context.to_payload())
    except Exception as error:  # encoding may call the application's own serialisers
        raise ConfigError(f"a task and its inputs must be plain data: {describe_error(error)}") from error
