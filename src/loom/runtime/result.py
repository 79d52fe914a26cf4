"""What a run came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, cast

from msgspec import UNSET, Struct

from .._generics import OutputT
from ..errors import RunFailed, RunWaiting, to_exception
from ..events import AnyEvent, ToolFinished
from ..folds.records import artifacts_of, beginning, messages_of
from ..folds.state import State
from ..requests import Request
from ..safety.media import MEDIA_PARTS, MediaPart
from ..safety.sources import each_once
from ..types import Artifact, ChatMessage, ErrorInfo, Keyed, Role, RunState, Source, Usage


class RunResult(Struct, Keyed, Generic[OutputT], frozen=True, kw_only=True):
    """What a run came to. Read fields as attributes or as keys: ``result.output``, ``result["output"]``.

    ``state`` is ``COMPLETED`` only for success; ``output`` is then the answer, a value of the agent's
    ``output_type``, and None for a run that has not completed. ``text`` is what the model last wrote, however
    the run ended; it may be empty. ``error`` says why a run failed, was cancelled or stopped at a limit; a
    waiting run has none, ``pending`` are the requests it waits for. ``denied`` are the results of refused
    calls. ``cost`` is None when a price is not known. ``messages`` are those of this run, from the task as it was
    given: what the model read beside it is the run's context. ``duration_ms`` leaves out waiting for people.
    """

    run_id: str
    session_id: str
    state: RunState
    output: OutputT | None
    text: str = ""
    artifacts: Sequence[Artifact] = ()
    events: Sequence[AnyEvent] = ()
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
        name, said = ("output", repr(self.output)) if self.ok else ("text", repr(self.text))
        said = said if len(said) <= 200 else f"{said[:200]}..."
        trouble = f", error={self.error.code!r}" if self.error else ""
        waits = f", pending={len(self.pending)}" if self.pending else ""
        return f"<RunResult {self.run_id}: {self.state.value}, {name}={said}{trouble}{waits}>"

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
    def sources(self) -> tuple[Source, ...]:
        """What the replies say they rest on, in order, each once."""
        return each_once(source for message in self.messages for source in message.sources)

    @property
    def ok(self) -> bool:
        """True when the run did what was asked."""
        return self.state is RunState.COMPLETED

    def unwrap(self) -> OutputT:
        """The output of a run that completed, and an exception for any other.

        Raises RunWaiting with the pending requests, RunCancelled, BudgetExceeded for a limit, else the error
        that ``error`` tells of, such as OutputInvalid or RateLimitError.
        """
        if self.ok:
            return cast("OutputT", self.output)
        if self.state is RunState.WAITING:
            asked = "; ".join(f"{request.id} ({request.prompt})" for request in self.pending)
            raise RunWaiting(
                f"run {self.run_id} waits for an answer: {asked or 'no request is open'}",
                pending=self.pending,
            )
        if self.error is not None:
            raise to_exception(self.error)
        raise RunFailed(f"run {self.run_id} ended as {self.status} and has no output")


def result_of(
    state: State, events: Sequence[AnyEvent], *, output: Any = UNSET, error: ErrorInfo | None = None
) -> RunResult[Any]:
    """Fold a run that has ended or waits. ``error`` is what kept it from being written down to its end.

    ``output`` is the typed answer, which may be None; UNSET stands for the text.
    """
    ended = state.status.terminal
    status = RunState.FAILED if error else state.status if ended else RunState.WAITING
    return RunResult(
        run_id=state.run_id,
        session_id=state.session_id,
        state=status,
        output=(state.output if output is UNSET else output) if status is RunState.COMPLETED else None,
        text=state.output,
        artifacts=artifacts_of(state, events[-1].at if events else 0.0) if ended and not error else (),
        events=tuple(events),
        messages=tuple(messages_of(state, beginning(events))),
        usage=state.usage,
        cost=state.cost if state.iterations else None,
        iterations=state.iterations,
        error=error or state.error,
        pending=() if ended or error else state.requests,
        denied=tuple(e for e in events if isinstance(e, ToolFinished) and e.outcome == "denied"),
        duration_ms=int(state.active_seconds * 1000),
        estimated_cost=state.estimated_cost,
    )
