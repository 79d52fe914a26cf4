"""Holding a final reply against what was asked for, and asking again within bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from ..events import ErrorRaised, Event, QualityJudged
from ..folds.state import State
from ..tools.base import RunContext
from ..types import ErrorInfo
from .engine import OutputGate


async def judge_reply(
    gate: OutputGate, state: State, context: RunContext[Any]
) -> AsyncGenerator[Event | list[Event], None]:
    """Judge the reply. A critique goes back to the model until the gate's attempts run out."""
    attempt = state.attempts + 1
    critique = gate.judge(state.output, context)
    judged = QualityJudged(passed=critique is None, attempt=attempt, critique=critique or "", judge=gate.name)
    if critique is None or attempt < gate.attempts:
        yield [judged]
        return
    problem = f"the reply does not fit {gate.name} after {attempt} attempts: {critique}"
    yield [judged, ErrorRaised(error=ErrorInfo("output_invalid", problem))]
