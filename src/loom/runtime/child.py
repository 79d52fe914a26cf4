"""An agent as a tool of another agent: a child run in a session of its own, paused and resumed by its parent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..errors import BudgetExceeded, ConfigError, ToolArgumentsError, ToolExecutionError
from ..events import ChildFinished, ChildStarted, RunFinished
from ..tools.base import Parked, ToolContext, ToolHandler
from ..types import RunState, ToolResult, ToolSpec, to_json
from .result import RunResult
from .session import Grounds, Session, SessionConfig


class AgentTool(ToolHandler):
    """Lets the model hand a task to another agent and read its answer.

    The child's session and run follow from the call, so entering the tool again resumes the child instead of
    starting another: the tool is repeatable whatever the child does, because the child has its own ledger.
    The child draws on the parent's budget and asks the parent's human.
    """

    heeds_cancel = True  # a child has its own graces, and a log to settle

    def __init__(self, grounds: Callable[[], Grounds], *, name: str, description: str) -> None:
        if not name or not description:
            raise ConfigError("an agent as a tool needs a name and a description for the model that calls it")
        self._grounds = grounds
        self._spec = ToolSpec(
            name=name,
            description=description,
            parameters={
                "type": "object",
                "properties": {"task": {"type": "string", "description": "What to do, in full."}},
                "required": ["task"],
                "additionalProperties": False,
            },
            idempotent=True,
            concurrency_safe=True,
            timeout=float("inf"),
        )

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
        grounds = replace(self._grounds(), store=scope.store, records=False)
        return Session(grounds, SessionConfig(id=f"{session_id}/{mark}")), f"run_{mark}"

    async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> ToolResult:
        """Start or resume the child and return its answer; leave the tool while the child waits."""
        session, run_id = self._child(context.session_id, context.idempotency_key, context.scope)
        rested = context.scope.budget.rested
        result = await self._run(session, run_id, args, context)
        if result.state is RunState.WAITING:
            raise Parked(list(result.pending))
        last = result.events[-1] if result.events else None
        ended = last if isinstance(last, RunFinished) else RunFinished(state=result.state)
        context.post(
            ChildFinished(
                call_id=context.call_id,
                child_run_id=result.run_id,
                state=result.state,
                usage=result.usage,
                cost=ended.cost,
                estimated_cost=ended.estimated_cost,
                iterations=ended.iterations + ended.child_iterations,
                tool_calls=ended.tool_calls,
                waited_seconds=context.scope.budget.rested - rested,
            )
        )
        return _answer(self._spec.name, result)

    async def _run(
        self, session: Session[Any, Any], run_id: str, args: dict[str, Any], context: ToolContext[Any]
    ) -> RunResult[Any]:
        if await session.store.head(session.id):
            waiting = {request.id for request in await session.pending()}
            answers = [answer for key, answer in context.answers.items() if key in waiting]
            return await session.carry_on(run_id, answers, parent=context)
        started = ChildStarted(
            call_id=context.call_id,
            child_run_id=run_id,
            child_session_id=session.id,
            agent=self._spec.name,
        )
        context.post(started)
        try:
            return await session.begin(args["task"], run_id=run_id, parent=context)
        except (BudgetExceeded, ValueError) as error:
            raise ToolArgumentsError(str(error)) from error


def _answer(name: str, result: RunResult[Any]) -> ToolResult:
    metadata = {"run_id": result.run_id, "session_id": result.session_id, "state": result.status}
    if result.ok:
        text = result.output if isinstance(result.output, str) else to_json(result.output)
        return ToolResult(text, metadata=metadata)
    problem = f"{name} ended as {result.status}: {result.error or 'no reason given'}"
    return ToolResult(problem, metadata=metadata, is_error=True)
