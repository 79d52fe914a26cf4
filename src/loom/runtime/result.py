"""What a run came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

from msgspec import Struct

from .._generics import OutputT
from ..events import Event, ToolFinished
from ..folds.state import State
from ..requests import Request
from ..safety.media import MEDIA_PARTS, MediaPart
from ..types import Artifact, ChatMessage, ErrorInfo, Keyed, Role, RunState, Usage
from .history import artifacts_of


class RunResult(Struct, Keyed, Generic[OutputT], frozen=True, kw_only=True):
    """What a run came to. Read fields as attributes or as keys: ``result.output``, ``result["output"]``.

    ``state`` is ``COMPLETED`` only for success; ``output`` is then the answer (validated when the agent has
    an ``output_type``), otherwise the last text the model wrote, which may be empty. ``pending`` are the
    requests a waiting run waits for. ``denied`` are the results of refused calls. ``cost`` is None when a
    price is not known. ``messages`` are those of this run. ``duration_ms`` leaves out waiting for people.
    """

    run_id: str
    session_id: str
    state: RunState
    output: OutputT
    artifacts: Sequence[Artifact] = ()
    events: Sequence[Event] = ()
    messages: Sequence[ChatMessage] = ()
    usage: Usage = Usage()
    cost: float | None = None
    iterations: int = 0
    error: ErrorInfo | None = None
    pending: Sequence[Request] = ()
    denied: Sequence[ToolFinished] = ()
    duration_ms: int = 0
    estimated_cost: float | None = None

    def __repr__(self) -> str:
        shown = repr(self.output)
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        trouble = f", error={self.error.code!r}" if self.error else ""
        waits = f", pending={len(self.pending)}" if self.pending else ""
        return f"<RunResult {self.run_id}: {self.state.value}, output={shown}{trouble}{waits}>"

    @property
    def status(self) -> str:
        """The state as a word."""
        return self.state.value

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """The images, sounds, films and files the model made, in order; ``loom.media.load_file_bytes`` opens one."""
        replies = (
            m.content for m in self.messages if m.role is Role.ASSISTANT and isinstance(m.content, tuple)
        )
        return tuple(part for content in replies for part in content if isinstance(part, MEDIA_PARTS))

    @property
    def ok(self) -> bool:
        """True when the run did what was asked."""
        return self.state is RunState.COMPLETED


def result_of(
    state: State, events: Sequence[Event], *, output: Any = None, error: ErrorInfo | None = None
) -> RunResult[Any]:
    """Fold a run that has ended or waits. ``error`` is what kept it from being written down to its end."""
    ended = state.status.terminal
    status = RunState.FAILED if error else state.status if ended else RunState.WAITING
    return RunResult(
        run_id=state.run_id,
        session_id=state.session_id,
        state=status,
        output=state.output if output is None else output,
        artifacts=artifacts_of(state, events[-1].at if events else 0.0) if ended else (),
        events=tuple(events),
        messages=tuple(state.transcript.after(state.own)),
        usage=state.usage,
        cost=state.cost if state.iterations else None,
        iterations=state.iterations,
        error=error or state.error,
        pending=() if ended or error else state.requests,
        denied=tuple(e for e in events if isinstance(e, ToolFinished) and e.outcome == "denied"),
        duration_ms=int(state.active_seconds * 1000),
        estimated_cost=state.estimated_cost,
    )
