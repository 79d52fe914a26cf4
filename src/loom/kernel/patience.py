"""Awaiting code that may not stop when it is told to: a model service's client, a hook, a human.

Such code runs in the task of the run, where it cannot be left by waiting less. So what it awaits is handed on from
here, and when its grace is over the chain of awaits is cut at this place: the code is closed and heard no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any, Generic, TypeVar

from ..types import describe_error

logger = logging.getLogger("loom.loop")

T = TypeVar("T")


class Patience:
    """How long what was told to stop is still waited for. ``over`` says that it has been long enough."""

    __slots__ = ("over", "tried")

    def __init__(self) -> None:
        self.over = False
        self.tried = 0

    def with_(self, work: Awaitable[T], what: str) -> Awaitable[T]:
        """``work``, which is left when patience is over; ``what`` names it then."""
        return _Left(work, self, what)

    async def each(self, items: AsyncIterator[T], what: str) -> AsyncIterator[T]:
        """The items, each awaited with patience."""
        while True:
            try:
                item = await self.with_(items.__anext__(), what)
            except StopAsyncIteration:
                return
            yield item


class _Left(Generic[T]):
    """One await that can be left: it passes on what the work waits for, and what happens to that."""

    __slots__ = ("_patience", "_what", "_work")

    def __init__(self, work: Awaitable[T], patience: Patience, what: str) -> None:
        self._work, self._patience, self._what = work, patience, what

    def __await__(self) -> Generator[Any, Any, T]:
        steps: Any = self._work.__await__()
        self._patience.tried += 1
        try:
            return (yield from self._handed_on(steps))
        finally:
            self._patience.tried -= 1

    def _handed_on(self, steps: Any) -> Generator[Any, Any, T]:
        error: BaseException | None = None
        while True:
            try:
                waits_for = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as ended:
                value: T = ended.value
                return value
            try:
                yield waits_for
                error = None
            except asyncio.CancelledError as cancelled:
                if self._patience.over:
                    self._leave(steps)
                    raise
                error = cancelled
            except BaseException as thrown:  # whatever is thrown in is the work's
                error = thrown

    def _leave(self, steps: Any) -> None:
        logger.warning("%s did not stop when it was told to, and is left behind", self._what)
        try:
            steps.close()
        except BaseException as failure:  # it goes on even so: nothing it says is heard
            logger.warning("%s could not be closed: %s", self._what, describe_error(failure))
