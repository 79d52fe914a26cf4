"""An agent as a tool of another agent: a child run in a session of its own, paused and resumed by its parent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..errors import (
    BudgetExceeded,
    ConfigError,
    StoreError,
    ToolArgumentsError,
    ToolExecutionError,
    to_exception,
)
from ..events import ChildFinished, ChildStarted, ErrorRaised, RunFinished
from ..policies.rule_check import RuleCheck
from ..signals import RuntimeTask, TaskInput
from ..store.base import SessionStore
from ..tools.base import Parked, SpecFacts, ToolContext, ToolHandler, Unsaved, checked_name
from ..types import RunState, ToolResult, ToolSpec, error_text, to_json
from .grounds import Grounds, SessionConfig
from .result import RunResult
from .session import Session

_TASK: dict[str, Any] = {
    "type": "object",
    "properties": {"task": {"type": "string", "description": "What to do, in full."}},
    "required": ["task"],
    "additionalProperties": False,
}


class TaskReader(Protocol):
    """What reads the arguments of an agent that is asked for more than a text."""

    schema: dict[str, Any]

    def read(self, args: dict[str, Any], context: object, *, strict: bool = False) -> dict[str, Any]:
        """The arguments as they were meant. Raises ToolArgumentsError."""
        ...

    def plain(self, args: dict[str, Any], context: object) -> dict[str, Any]:
        """The validated arguments as plain data. Raises ToolArgumentsError."""
        ...


class AgentTool(SpecFacts, ToolHandler):
    """Lets the model hand a task to another agent and read its answer.

    The child's session and run follow from the call, so entering the tool again resumes the child instead of
    starting another: the tool is repeatable whatever the child does, because the child has its own ledger.
    The child draws on the parent's budget, is bound by the parent's policies and asks the parent's human.
    ``within(seen)`` are the tools that a call may lead to, so that rules may name them, ``checks(seen)`` what
    the rules of this agent and of those below it touch. ``scratch()`` keeps the logs
    of children whose parent has no store, for as long as they run. ``reader`` reads arguments that are more than a
    text; the child gets them as the input of its task, whose goal is then the description.
    """

    heeds_cancel = True  # a child has its own graces, and a log to settle

    def __init__(
        self,
        grounds: Callable[[], Grounds],
        *,
        name: str,
        description: str,
        scratch: Callable[[], SessionStore],
        within: Callable[[set[int]], Sequence[ToolSpec]],
        checks: Callable[[set[int]], Sequence[RuleCheck]],
        reader: TaskReader | None = None,
    ) -> None:
        if not name or not description:
            raise ConfigError("an agent as a tool needs a name and a description for the model that calls it")
        self._grounds = grounds
        self._scratch = scratch
        self.within = within
        self.checks = checks
        self._reader = reader
        if reader is not None:
            self.read_arguments = reader.read
        self._spec = ToolSpec(
            name=checked_name(name),
            description=description,
            parameters=_TASK if reader is None else reader.schema,
            strict=reader is None,  # a task is text, not whatever could be read as text
            idempotent=True,
            concurrency_safe=True,
            timeout=float("inf"),
        )

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self._spec.name

    @property
    def tool(self) -> ToolSpec:
        """See ToolHandler."""
        return self._spec

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        """Not without a run: a child needs its parent's budget, store and human."""
        raise ToolExecutionError(f"{self._spec.name} runs inside an agent only; use agent.run() directly")

    async def withdraw(self, session_id: str, key: str, scope: Any) -> None:
        """End the child of a call that ends without it."""
        session, run_id = self._child(session_id, key, scope)
        if run_id in await session.store.unfinished_runs(session.id):
            await session.resume(run_id).cancel("the run that started this one has ended")

    def _child(self, session_id: str, key: str, scope: Any) -> tuple[Session[Any, Any], str]:
        mark = hashlib.sha256(key.encode()).hexdigest()[:24]
        grounds = replace(self._grounds(), store=scope.store or self._scratch(), records=False)
        return Session(
            grounds, SessionConfig(id=f"{session_id}/{mark}", parent=session_id or None)
        ), f"run_{mark}"

    async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> ToolResult:
        """Start or resume the child and return its answer; leave the tool while the child waits."""
        session, run_id = self._child(context.session_id, context.idempotency_key, context.scope)
        rested = context.scope.budget.rested
        try:
            result = await self._run(session, run_id, args, context)
        except StoreError as error:
            raise Unsaved(error) from error
        if result.state is RunState.WAITING:
            raise Parked(list(result.pending))
        if context.scope.store is None:
            session.forget()
        last = result.events[-1] if result.events else None
        if not isinstance(last, RunFinished):
            raise Unsaved(_store_error(result))
        context.post(
            ChildFinished(
                call_id=context.call_id,
                child_run_id=result.run_id,
                state=result.state,
                usage=result.usage,
                cost=last.cost,
                estimated_cost=last.estimated_cost,
                iterations=last.iterations + last.child_iterations,
                tool_calls=last.tool_calls,
                waited_seconds=context.scope.budget.rested - rested,
            )
        )
        if result.error is not None and result.error.code == "tool_denied" and context.scope.stops_on_denial:
            context.post(ErrorRaised(error=result.error))
        return _answer(self._spec.name, result)

    def _task(self, args: dict[str, Any], context: ToolContext[Any]) -> TaskInput:
        if self._reader is None:
            task: str = args["task"]
            return task
        return RuntimeTask(self._spec.description, input=self._reader.plain(args, context))

    async def _run(
        self, session: Session[Any, Any], run_id: str, args: dict[str, Any], context: ToolContext[Any]
    ) -> RunResult[Any]:
        if await session.store.head(session.id):
            waiting = {request.id for request in await session.pending()}
            answers = [answer for key, answer in context.answers.items() if key in waiting]
            return await session.carry_on(run_id, answers, parent=context)
        task = self._task(args, context)
        started = ChildStarted(
            call_id=context.call_id,
            child_run_id=run_id,
            child_session_id=session.id,
            agent=self._spec.name,
        )
        context.post(started)
        try:
            return await session.begin(task, run_id=run_id, parent=context)
        except (BudgetExceeded, ValueError) as error:
            raise ToolArgumentsError(error_text(error)) from error


def _store_error(result: RunResult[Any]) -> StoreError:
    """Why a run that has not ended could not be written down to its end."""
    error = to_exception(result.error) if result.error else None
    return error if isinstance(error, StoreError) else StoreError(str(error or "the run did not end"))


def _answer(name: str, result: RunResult[Any]) -> ToolResult:
    metadata = {"run_id": result.run_id, "session_id": result.session_id, "state": result.status}
    if result.ok:
        return ToolResult(_told(result), metadata=metadata)
    problem = f"{name} ended as {result.status}: {result.error or 'no reason given'}"
    return ToolResult(problem, metadata=metadata, is_error=True)


def _told(result: RunResult[Any]) -> str:
    """The answer as text: as JSON when it is typed, as the child's model wrote it when there is no JSON of it."""
    if isinstance(result.output, str):
        return result.output
    try:
        return to_json(result.output)
    except Exception:  # the serialisers of the output type are the application's
        last = result.events[-1] if result.events else None
        return last.output if isinstance(last, RunFinished) else ""
