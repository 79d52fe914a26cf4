"""One tool call on its way: who would run it, with what, and the event of its one result."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

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
from ..tools.base import ToolHandler
from ..types import ErrorInfo, ToolResult, ToolSpec, error_text
from .engine import Scope
from .foreign import described
from .reading import call_arguments, read_arguments

logger = logging.getLogger("loom.tools")


@dataclass(slots=True)
class Case:
    """One call on its way: who would run it, with what.

    ``edited`` says that a hook changed the arguments, ``mended`` that they were read otherwise than they were sent.
    """

    scope: Scope
    state: State
    call: Call
    handler: ToolHandler
    spec: ToolSpec
    arguments: dict[str, Any]
    edited: bool = False
    mended: bool = False

    @property
    def effective(self) -> dict[str, Any]:
        """The arguments with the schema's defaults for those left out: what the tool will work with."""
        properties: dict[str, Any] = self.spec.parameters.get("properties") or {}
        left_out: dict[str, Any] = {
            name: schema["default"]
            for name, schema in properties.items()
            if name not in self.arguments and isinstance(schema, dict) and "default" in schema
        }
        return {**left_out, **self.arguments} if left_out else self.arguments

    def digest(self) -> str:
        """The name of the effect as it stands now."""
        return effect_digest(
            self.spec, self.arguments, session_id=self.state.session_id, run_id=self.state.run_id
        )

    def check(self, *, as_sent: bool = False) -> None:
        """Read the arguments as the tool means them. Raises ToolArgumentsError unless they fit.

        ``as_sent`` takes a schema at its word, as for what a hook wrote, which is no model. A handler's own reading
        is the application's code: what else it raises is a fault of the arguments.
        """
        strict = self.spec.strict or any(policy.strict_arguments for policy in self.scope.powers)
        try:
            meant = read_arguments(
                self.handler, self.spec, self.arguments, self.scope.context, strict=strict, as_sent=as_sent
            )
        except (KeyboardInterrupt, ToolError):
            raise
        except BaseException as error:  # nothing is awaited here, so a cancellation is the handler's own
            logger.warning("%s could not check its arguments", self.spec.name, exc_info=True)
            raise ToolArgumentsError(
                f"the arguments of {self.spec.name} cannot be used: {described(error)}"
            ) from error
        if meant is not self.arguments:
            self.arguments, self.mended = meant, True

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
    spec = _spec_of(handler, call)
    strict = spec.strict or any(policy.strict_arguments for policy in scope.powers)
    arguments, mended = call_arguments(call, strict=strict)
    case = Case(scope, state, call, handler, spec, arguments, mended=mended)
    if call.phase is not Phase.ALLOWED:  # else it was checked when it was decided
        case.check()
    return case


def _spec_of(handler: ToolHandler, call: Call) -> ToolSpec:
    try:
        return handler.tool
    except Exception as error:  # a property of the application's
        raise ToolExecutionError(f"{call.name} cannot say what it is: {described(error)}") from error


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
