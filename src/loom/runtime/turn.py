"""Whose turn it is in a session of this process: one run at a time, whatever thread or event loop it is of."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..errors import SessionBusy
from ..kernel.attempt import INSIDE

if TYPE_CHECKING:
    from .run import Run

READING: ContextVar[str] = ContextVar("loom_reading", default="")
"""The id of the run whose stream was read last here, or by whoever started the task at work here."""

_READERS_PATIENCE = 2.0
"""Seconds that a task started by the reader of a stream waits for it: mostly the reader waits for that task."""

Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]", "Run[Any]"]


class Turn:
    """A lock in order of arrival, which knows when waiting for it could never end."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._lock = threading.Lock()
        self._waiting: deque[Waiter] = deque()
        self.holder: Run[Any] | None = None

    @property
    def locked(self) -> bool:
        """Whether some run has the turn."""
        return self.holder is not None

    @asynccontextmanager
    async def taken(self, run: Run[Any], patience: float) -> AsyncGenerator[None, None]:
        """Have the turn for the time of the block. Raises SessionBusy as ``refuse_deadlock`` does.

        Also when the run in front belongs to a stream that nobody reads for ``patience`` seconds.
        """
        await self._take(run, patience)
        try:
            yield
        finally:
            with self._lock:
                self._pass_on()

    def refuse_deadlock(self) -> None:
        """Raise SessionBusy when the run that has the turn cannot go on before the caller does."""
        holder = self.holder
        if holder is None:
            return
        if any(scope is holder.scope for scope in INSIDE.get()):
            raise self._busy(
                holder, "a tool of that run asks for it: waiting would never end; use another session"
            )
        if holder.driver is asyncio.current_task() and not holder.dropped:
            why = "its stream was left" if holder.unread else "a hook of that run asks for it"
            raise self._busy(holder, f"{why}, so waiting would never end; {_CLOSE}")

    async def _take(self, run: Run[Any], patience: float) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.holder is None:
                self.holder = run
                return
            self.refuse_deadlock()
            waiter: Waiter = (loop, loop.create_future(), run)
            self._waiting.append(waiter)
        try:
            await self._wait(waiter[1], patience)
        except BaseException:
            with self._lock:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                elif self.holder is run:  # the turn came while the wait was given up
                    self._pass_on()
            raise

    async def _wait(self, granted: asyncio.Future[None], patience: float) -> None:
        while not granted.done():
            holder = self.holder
            reads = holder.reads if holder else 0
            if holder is not None and READING.get() == holder.id:
                patience = min(patience, _READERS_PATIENCE)
            await asyncio.wait([granted], timeout=patience)
            still = holder is not None and holder is self.holder and holder.reads == reads and holder.unread
            if holder is not None and still and not granted.done():
                raise self._busy(holder, f"nobody has read its stream for {patience:g} seconds; {_CLOSE}")

    def _pass_on(self) -> None:
        """Give the turn to whoever has waited longest, and can still be told. With the lock held."""
        self.holder = None
        while self._waiting:
            loop, granted, run = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(_grant, granted)
            except RuntimeError:  # its event loop was closed
                continue
            self.holder = run
            return

    def _busy(self, holder: Run[Any], why: str) -> SessionBusy:
        return SessionBusy(f"session {self._session_id!r} is held by run {holder.id}: {why}")


_CLOSE = "write `async with session.stream(...) as stream:`, or await stream.aclose()"


def _grant(granted: asyncio.Future[None]) -> None:
    if not granted.done():
        granted.set_result(None)
