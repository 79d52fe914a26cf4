"""Stopping a run from outside, at any await: because somebody cancels it, or because its time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..events import Event
from .engine import CANCEL_GRACE
from .foreign import cancellations_borne
from .patience import Patience


class Interrupt:
    """How the outside stops a run at any await: by cancel, or because its time is up.

    As ``asyncio.timeout`` does it: cancel the task, and take that cancellation back where it arrives. What was told
    to stop, and did not in ``grace`` seconds, is told again; by then patience with it is over.
    """

    def __init__(self) -> None:
        self.wanted: Event | None = None
        self.grace = CANCEL_GRACE
        self.patience = Patience()
        self._strikes = 0
        self._task: asyncio.Task[Any] | None = None
        self._struck: asyncio.Task[Any] | None = None
        self._borne = 0

    def __call__(self, event: Event) -> None:
        """Make ``event`` (a CancelRequested or a LimitReached) the next thing that happens to the run."""
        if self.wanted is None:
            self.wanted = event
            if self._task is not None:
                self._struck, self._strikes = self._task, 1
                self._task.cancel()
                self._task.get_loop().call_later(self.grace, self._strike_again)

    def _strike_again(self) -> None:
        if self._task is not None and self._struck is self._task and self.patience.tried:
            self.patience.over = True
            self._strikes += 1
            self._task.cancel()

    async def settle(self) -> None:
        """Know which cancellations of the current task are old, so that they are not taken for new ones."""
        self._borne = await cancellations_borne()

    def enter(self) -> None:
        """From here on the current task may be interrupted."""
        self._task = asyncio.current_task()

    def leave(self) -> None:
        """From here on foreign code runs, which is not ours to cancel."""
        self._task = None

    async def absorb(self) -> None:
        """After an await that returned: take back a cancellation of ours that foreign code swallowed.

        One that has not arrived yet arrives here instead, as a CancelledError.
        """
        task = asyncio.current_task()
        if task is None or self._struck is not task:
            return
        await asyncio.sleep(0)
        self._take_back(task)

    def caught(self) -> bool:
        """Of a CancelledError: True when it was ours alone, so that the task may go on."""
        task = asyncio.current_task()
        if task is None or self._struck is not task:
            return False
        return self._take_back(task) <= self._borne

    def _take_back(self, task: asyncio.Task[Any]) -> int:
        """Take our cancellations of the task back, and return how many others there are."""
        strikes, self._struck, self._strikes = self._strikes, None, 0
        self.patience.over = False
        for _ in range(strikes - 1):
            task.uncancel()
        return task.uncancel()


class Alarm:
    """Rings at a time that may move away while it is waited for."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, due: Callable[[], float], ring: Callable[[], None]
    ) -> None:
        self._loop, self._due, self._ring = loop, due, ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self) -> Alarm:
        """Ring, or look again when the time is said to have come."""
        if self._loop.time() >= self._due():
            self._ring()
        else:
            self._handle = self._loop.call_at(self._due() + 0.001, self.set)
        return self

    def cancel(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()
