"""Runs blocking functions on threads of our own, so that they do not stall the event loop.

One pool for the process, made on first use. Its threads are daemons: a function that never returns cannot
keep the interpreter from exiting. A thread cannot be killed; whoever stops waiting leaves it running, and the
pool then makes room for another one.
"""

from __future__ import annotations

import contextvars
import os
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .base import GOES_ON

if TYPE_CHECKING:
    import asyncio

__all__ = ["ThreadPool", "run_in_thread"]

T = TypeVar("T")

POOL_SIZE = 64
"""asyncio's default pool has CPUs + 4 threads, too few for tools that mostly wait."""
MAX_ABANDONED = 256
"""Threads beyond the size that may stand in for abandoned ones."""


class _Job:
    """One call on its way to a thread and back to its loop. Lighter than a concurrent future, which locks thrice."""

    __slots__ = ("_right", "abandoned", "call", "done", "future", "loop")

    def __init__(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.call = call
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.done = False
        self.abandoned = False
        self._right = [True]

    def claim(self) -> bool:
        """The right to decide about the call, which one side gets: the thread to run it, or the waiter to drop it."""
        try:
            return self._right.pop()
        except IndexError:
            return False

    def perform(self) -> None:
        """Run the call and hand its outcome to the loop."""
        result: Any = None
        error: BaseException | None = None
        try:
            result = self.call()
        except StopIteration as stop:  # a future refuses it, and who awaits it would wait for ever
            error = RuntimeError("the function raised StopIteration")
            error.__cause__ = stop
        except BaseException as failure:  # every outcome belongs to the caller, a parked tool's included
            error = failure
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class ThreadPool:
    """Daemon threads taking calls in order. Grows on demand to ``size``, plus one per abandoned call."""

    def __init__(self, size: int = POOL_SIZE, *, name: str = "loom-tool") -> None:
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._started = 0
        self._abandoned = 0

    def submit(self, job: _Job) -> None:
        """Queue a job, and see that a thread will take it."""
        with self._lock:
            self._jobs.put(job)
            if self._idle:
                self._idle -= 1  # one of those that wait is as good as taken
            else:
                self._grow()

    def abandon(self, job: _Job) -> None:
        """Nobody waits for this running call any more: let another thread stand in for it until it ends."""
        with self._lock:
            if job.done or self._abandoned >= MAX_ABANDONED:
                return
            job.abandoned = True
            self._abandoned += 1
            if not self._jobs.empty():
                self._grow()

    def _grow(self) -> None:
        if self._threads < self._size + self._abandoned:
            self._threads += 1
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _next(self) -> _Job | None:
        """The job to do next; None for a thread that is no longer needed."""
        with self._lock:
            try:
                return self._jobs.get_nowait()
            except queue.Empty:
                if self._threads > self._size + self._abandoned:
                    self._threads -= 1
                    return None
                self._idle += 1
        return self._jobs.get()

    def _work(self) -> None:
        while True:
            job = self._next()
            if job is None:
                return
            if job.claim():
                job.perform()
                with self._lock:
                    job.done = True
                    self._abandoned -= job.abandoned
            del job  # an idle thread must not keep the last call alive


_pool: ThreadPool | None = None
_pool_lock = threading.Lock()
_fork_hook_set = False


def shared_pool() -> ThreadPool:
    """The pool of this process."""
    global _pool, _fork_hook_set
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPool()
        if not _fork_hook_set and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_pool)
            _fork_hook_set = True
        return _pool


def _forget_pool() -> None:
    """A forked child has none of the parent's threads, and the lock may have been held."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


async def run_in_thread(call: Callable[[], T], pool: ThreadPool | None = None) -> T:
    """Await a blocking call, which sees a copy of the current context variables.

    When cancelled it returns at once: a queued call never runs, a running one goes on, which the CancelledError
    then says (``GOES_ON``), and its outcome is dropped. Exceptions pass through.
    """
    import asyncio

    pool = pool or shared_pool()
    context = contextvars.copy_context()
    job = _Job(lambda: context.run(call), asyncio.get_running_loop())
    pool.submit(job)
    try:
        result: T = await job.future
    except asyncio.CancelledError:
        if job.claim():
            raise
        pool.abandon(job)
        raise asyncio.CancelledError(GOES_ON) from None
    return result
