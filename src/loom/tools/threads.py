"""Runs blocking functions on threads of our own, so that they do not stall the event loop.

One pool for the process, made on first use. Its threads are daemons: a function that never returns cannot
keep the interpreter from exiting. A thread cannot be killed; whoever stops waiting leaves it running, and the
pool then makes room for another one.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["ThreadPool", "run_in_thread"]

T = TypeVar("T")

POOL_SIZE = 64
"""asyncio's default pool has CPUs + 4 threads, too few for tools that mostly wait."""
MAX_ABANDONED = 256
"""Threads beyond the size that may stand in for abandoned ones."""


class ThreadPool:
    """Daemon threads taking calls in order. Grows on demand to ``size``, plus one per abandoned call."""

    def __init__(self, size: int = POOL_SIZE, *, name: str = "loom-tool") -> None:
        self._size = size
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._started = 0
        self._abandoned = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call. A queued call can be cancelled, a running one cannot."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        with self._lock:
            if not self._idle.acquire(blocking=False):
                self._grow()
        return future

    def abandon(self, future: Future[Any]) -> None:
        """Nobody waits for this running call any more: let another thread stand in for it until it ends."""
        with self._lock:
            if self._abandoned >= MAX_ABANDONED:
                return
            self._abandoned += 1
            if not self._calls.empty():
                self._grow()
        future.add_done_callback(self._returned)

    def _returned(self, future: Future[Any]) -> None:
        with self._lock:
            self._abandoned -= 1

    def _grow(self) -> None:
        if self._threads < self._size + self._abandoned:
            self._threads += 1
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                future, call = self._calls.get_nowait()
            except queue.Empty:
                if self._retire():
                    return
                self._idle.release()
                future, call = self._calls.get()
            _perform(future, call)
            del future, call  # an idle thread must not keep the last call alive

    def _retire(self) -> bool:
        with self._lock:
            surplus = self._threads > self._size + self._abandoned
            self._threads -= surplus
        return surplus


def _perform(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except StopIteration as error:  # a future refuses it, and who awaits it would wait for ever
        unexpected = RuntimeError("the function raised StopIteration")
        unexpected.__cause__ = error
        future.set_exception(unexpected)
    except BaseException as error:  # every outcome belongs to the caller, a parked tool's included
        future.set_exception(error)
    else:
        future.set_result(result)


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

    When cancelled it returns at once: a queued call never runs, a running one goes on and its outcome is
    dropped. Exceptions pass through.
    """
    pool = pool or shared_pool()
    future = pool.submit(functools.partial(contextvars.copy_context().run, call))
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if not future.cancel() and not future.done():
            pool.abandon(future)
        raise
