"""One tool at work: in a task of its own, told to stop when it must, and left behind when it does not.

What a tool awaits cannot be given up by whoever awaits the tool, so it gets a task. What came of it is read in
``kernel/toolpath.py``; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from typing import Any

from ..tools.base import GOES_ON, ToolContext
from .case import Case
from .engine import Scope

logger = logging.getLogger("loom.tools")

_left: set[asyncio.Task[None]] = set()
"""Tasks left behind, until they end: the event loop alone would not keep them alive."""


INSIDE: ContextVar[tuple[Scope, ...]] = ContextVar("loom_inside", default=())
"""The scopes of the run whose tool is at work here and of those above it; empty outside of tools."""


class Attempt:
    """A call that was entered. ``over`` when there is nothing more to wait for; ``tell`` is called then.

    It ended with ``error`` or, when that is None, with ``result``. ``expired`` says that its time was up,
    ``left`` that it goes on although it was told to stop; whatever it comes to then is heard by nobody.
    ``delay`` is how many seconds pass before the tool is entered; its timeout counts from then.
    """

    __slots__ = (
        "_context", "_delay", "_loop", "_tell", "_timer", "_told", "_work", "began", "case", "error", "expired", "left",
        "over", "result", "seconds",
    )  # fmt: skip

    def __init__(
        self, case: Case, context: ToolContext[Any] | None, tell: Callable[[], None], delay: float = 0.0
    ) -> None:
        engine = case.scope.engine
        self.case = case
        self.seconds = engine.tool_timeout if case.spec.timeout is None else case.spec.timeout
        self.began = engine.pace()
        self.result: Any = None
        self.error: BaseException | None = None
        self.expired = self.left = self.over = self._told = False
        self._context = context
        self._tell = tell
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._work: asyncio.Task[None] = self._loop.create_task(self._enter(), name=f"loom {case.spec.name}")
        self._work.add_done_callback(self._ended)
        self._timer = (
            None if self.seconds == inf else self._loop.call_later(delay + self.seconds, self._expire)
        )

    @property
    def stopped(self) -> bool:
        """Whether it ended because it was told to, without a result."""
        return self._told and isinstance(self.error, asyncio.CancelledError)

    def stop(self) -> None:
        """Tell it to stop, again if it was told before; its grace begins with the first time."""
        if self.over:
            return
        if not self._told:
            self._told = True
            self._quiet()
            if not getattr(self.case.handler, "heeds_cancel", False):
                self._timer = self._loop.call_later(self.case.scope.engine.cancel_grace, self._leave)
        self._work.cancel()

    def _expire(self) -> None:
        self.expired = True
        self.stop()

    async def _enter(self) -> None:
        case = self.case
        INSIDE.set(case.scope.chain)
        try:
            if self._delay:
                await asyncio.sleep(self._delay)
            in_context = getattr(case.handler, "invoke_in_context", None)
            if in_context is not None:
                result = await in_context(case.arguments, self._context)
            else:
                result = await case.handler.invoke(case.arguments)
            self._conclude(result, None)
        except BaseException as error:  # whatever it raises is its outcome; a task would let some of it out
            self._conclude(None, error)

    def _ended(self, work: asyncio.Task[None]) -> None:
        _left.discard(work)
        if work.cancelled():  # before it had begun
            self._conclude(None, asyncio.CancelledError())

    def _leave(self) -> None:
        if self._work.done():
            return
        logger.warning("%s (call %s) did not stop and is left behind", self.case.spec.name, self.case.call.id)
        _left.add(self._work)
        self._conclude(None, asyncio.CancelledError(GOES_ON))

    def _conclude(self, result: Any, error: BaseException | None) -> None:
        if self.over:
            return
        self.over = True
        self.result, self.error = result, error
        self.left = self._told and isinstance(error, asyncio.CancelledError) and GOES_ON in error.args
        self._quiet()
        self._tell()

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
