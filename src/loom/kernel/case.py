"""One tool call on its way: who would run it, with what, and the event of its one result."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import (
    StoreError,
    ToolArgumentsError,
    ToolError,
    ToolExecutionError,
    ToolNotFoundError,
    ToolPermissionError,
)
from ..events import Outcome, ToolFinished
from ..folds.state import Call, Phase, State
from ..safety.receipts import effect_digest
from ..safety.schema import validate_arguments
from ..tools.base import ToolHandler
from ..types import ErrorInfo, ToolResult, ToolSpec, error_text
from .engine import Scope
from .foreign import described

logger = logging.getLogger("loom.tools")

MAX_ARGUMENTS = 4 * 1024 * 1024
"""Characters of one call's arguments: several times what a model can write in one reply."""


@dataclass(slots=True)
class Case:
    """One call on its way: who would run it, with what."""

    scope: Scope
    state: State
    call: Call
    handler: ToolHandler
    spec: ToolSpec
    arguments: dict[str, Any]
    edited: bool = False

    def digest(self) -> str:
        """The name of the effect as it stands now."""
        return effect_digest(
            self.spec, self.arguments, session_id=self.state.session_id, run_id=self.state.run_id
        )

    def check(self) -> None:
        """Raise ToolArgumentsError unless the arguments fit the tool.

        A handler's own check is the application's code: what else it raises is a fault of the arguments.
        """
        own = getattr(self.handler, "check_arguments", None)
        if own is None:
            validate_arguments(self.spec, self.arguments)
            return
        try:
            own(self.arguments)
        except (KeyboardInterrupt, ToolError):
            raise
        except BaseException as error:  # nothing is awaited here, so a cancellation is the check's own
            logger.warning("%s could not check its arguments", self.spec.name, exc_info=True)
            raise ToolArgumentsError(
                f"the arguments of {self.spec.name} cannot be used: {described(error)}"
            ) from error

    async def cap(self, result: ToolResult) -> ToolResult:
        """The result, no larger than the window can bear. What is cut of it is kept before this returns."""
        cap = self.scope.engine.cap
        if cap is None or cap.fits(result):
            return result
        return await cap.cut(result, self.call.id, self._keep)

    async def _keep(self, reference: str, text: str) -> bool:
        store = self.scope.store
        if store is None:
            return False
        try:
            await store.keep_output(self.state.session_id, reference, text)
        except (StoreError, OSError):
            # The tool has done its work: that its output was not kept whole must not cost the call its result.
            logger.warning(
                "the output of %s (call %s) was not kept", self.spec.name, self.call.id, exc_info=True
            )
            return False
        return True


def open_case(scope: Scope, state: State, call: Call) -> Case:
    """Find the handler and read the arguments. Raises ToolNotFoundError or ToolArgumentsError."""
    handler = scope.engine.tools.get(call.name)
    if handler is None:
        raise ToolNotFoundError(f"Tool not found: {call.name}")
    case = Case(scope, state, call, handler, _spec_of(handler, call), _read_arguments(call))
    if call.phase is not Phase.ALLOWED:  # else it was checked when it was decided
        case.check()
    return case


def _spec_of(handler: ToolHandler, call: Call) -> ToolSpec:
    try:
        return handler.tool
    except Exception as error:  # a property of the application's
        raise ToolExecutionError(f"{call.name} cannot say what it is: {described(error)}") from error


def _read_arguments(call: Call) -> dict[str, Any]:
    if len(call.arguments) > MAX_ARGUMENTS:
        raise ToolArgumentsError(
            f"the arguments of {call.name} have {len(call.arguments)} characters; {MAX_ARGUMENTS} are the most, "
            "send less at a time"
        )
    try:
        arguments = msgspec.json.decode(call.arguments)
    except (ValueError, RecursionError) as error:
        raise ToolArgumentsError(
            f"the arguments of {call.name} are not valid JSON ({error}); send one JSON object"
        ) from None
    if not isinstance(arguments, dict):
        raise ToolArgumentsError(
            f"the arguments of {call.name} must be one JSON object, not {type(arguments).__name__}"
        )
    return arguments  # pyright: ignore[reportUnknownVariableType]  # any JSON object


def refused_result(call: Call, error: ToolError) -> ToolFinished:
    """The result of a call that never ran."""
    outcome: Outcome = "denied" if isinstance(error, ToolPermissionError) else "error"
    return finished(call, outcome, ToolResult(error_text(error), is_error=True), error=error.info())


def finished(
    call: Call, outcome: Outcome, result: ToolResult, *, error: ErrorInfo | None = None, seconds: float = 0.0
) -> ToolFinished:
    """The event of a call's one result."""
    return ToolFinished(
        call_id=call.id,
        name=call.name,
        outcome=outcome,
        result=result,
        error=error,
        duration_ms=int(seconds * 1000),
    )
