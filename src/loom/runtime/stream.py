"""A run as a stream: its events as they happen, and its result when they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import AsyncGeneratorType, TracebackType
from typing import TYPE_CHECKING, Generic, Self, cast

from .._generics import OutputT
from ..errors import RunNotOver
from ..events import AnyEvent
from .turn import READING

if TYPE_CHECKING:
    from .result import RunResult
    from .run import Run


class Stream(Generic[OutputT]):
    """The events of one run. Reading drives it: a stream that nobody reads stands still and holds its session.

    ``async with agent.stream(task) as stream:`` closes it however the block is left; a run that had not ended is
    then cancelled, settled and written down. ``result`` is there when the run has ended or waits.
    """

    def __init__(self, run: Run[OutputT]) -> None:
        self._run = run
        self._events = run.advance()
        run.read_by(self)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[AnyEvent]:
        run = self._run
        run.reads += 1
        run.driver = asyncio.current_task()
        if READING.get() is not run.id:
            READING.set(run.id)
        return self._events.__anext__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading. Cancels the run unless it has ended or waits."""
        await self._events.aclose()

    @property
    def unread(self) -> bool:
        """Whether the stream stands still, because nobody reads on."""
        events = cast("AsyncGeneratorType[AnyEvent, None]", self._events)
        return events.ag_frame is not None and not events.ag_running

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._run.id

    @property
    def result(self) -> RunResult[OutputT]:
        """What the run came to. Raises RunNotOver (a RuntimeError) while it goes on."""
        if self._run.result is None:
            raise RunNotOver(f"run {self._run.id} has not ended: read its stream to the end first")
        return self._run.result

    def __repr__(self) -> str:
        return f"<Stream of {self._run!r}>"
