"""One thread that does all of a store's blocking work, and groups what waits into one commit.

While a commit is being written to disk, further jobs queue up; they become the next commit together. That is
why a thousand sessions do not need a thousand fsyncs. Nothing here knows what a job does.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from ..errors import StoreError
from .log import members

T = TypeVar("T")

MAX_GROUP = 256
"""The most jobs in one commit, so that the first of them does not wait for an endless queue."""


class Job:
    """Some work on a desk, how it ended, and who waits for it: a task (``future``) or a thread (``done``).

    ``sync`` says that what it writes must be on disk; what it writes without may go with the power, though not with
    the process. ``well`` says that the work was done, as far as is known: that it is on disk is told by ``future`` or
    ``done``.
    """

    __slots__ = ("done", "error", "future", "result", "sync", "well", "work", "writes")

    def __init__(self, work: Callable[[Any], Any], *, writes: bool, sync: bool = True) -> None:
        self.work = work
        self.writes = writes
        self.sync = sync
        self.result: Any = None
        self.well = False
        self.error: BaseException | None = None
        self.future: asyncio.Future[Any] | None = None
        self.done: threading.Event | None = None

    def run(self, desk: object) -> None:
        """Do the work and keep how it ended."""
        try:
            self.result = self.work(desk)
            self.well = True
        except Exception as error:  # the boundary of the thread: whoever waits for the job gets it
            self.error = error


class _Pause:
    """Asks the thread to let go of its files; ``done`` is set when it has."""

    def __init__(self) -> None:
        self.done = threading.Event()


class Desk(ABC):
    """What the writer works on: an open database or file, used by one thread only."""

    @abstractmethod
    def perform(self, jobs: Sequence[Job]) -> None:
        """Run every job; those that write become durable together, and then only have they succeeded."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files. Must not raise."""

    @property
    def patience(self) -> float | None:
        """Seconds to wait for a job before ``rest`` is called; None for ever."""
        return None

    def rest(self) -> None:
        """Do what can wait. Must not raise."""


DeskT = TypeVar("DeskT", bound=Desk)


class Writer(Generic[DeskT]):
    """Runs jobs on a desk in one thread, which starts with the first job and ends with ``close``.

    ``open_desk`` is called in the thread and must not refer to the writer's owner. A job after ``close``
    starts anew.

    A process that forks lets go of the desk before, so that the child inherits no lock and no connection; both
    open it again with their next job. What is only in memory (``lasting`` is False) stays with the parent, and the
    child's jobs raise StoreError.
    """

    def __init__(self, open_desk: Callable[[], DeskT], *, name: str, lasting: bool = True) -> None:
        self._open_desk = open_desk
        self._name = name
        self._lasting = lasting
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Job | _Pause | None] | None = None
        self._thread: threading.Thread | None = None
        self._orphan = False
        _writers.add(self)

    async def run(
        self,
        work: Callable[[DeskT], T],
        *,
        writes: bool,
        sync: bool = True,
        undo: Callable[[DeskT, T], object] | None = None,
    ) -> T:
        """Do ``work`` in the thread; see Job for ``sync``.

        When the waiting task is cancelled the work may still be done; with ``undo``, which is then given what came
        of it, it is taken back before anything that is asked for later.
        """
        job = Job(work, writes=writes, sync=sync)
        job.future = future = asyncio.get_running_loop().create_future()
        self._put(job)
        try:
            result: T = await future
        except asyncio.CancelledError:
            if undo is not None:
                back = Job(
                    lambda desk: undo(desk, job.result) if job.well else None, writes=writes, sync=sync
                )
                self._put(back)
            raise
        return result

    def run_sync(self, work: Callable[[DeskT], T], *, writes: bool) -> T:
        """Do ``work`` in the thread and block until it is done."""
        job = Job(work, writes=writes)
        job.done = done = threading.Event()
        self._put(job)
        done.wait()
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def close(self) -> None:
        """Finish what is queued, close the desk and end the thread. Safe to call twice."""
        with self._lock:
            queue, thread = self._queue, self._thread
            self._queue = self._thread = None
        if queue is None or thread is None:
            return
        queue.put(None)
        if thread is not threading.current_thread():
            thread.join()

    def _put(self, job: Job) -> None:
        with self._lock:
            if self._orphan:
                raise StoreError(
                    f"{self._name} is in the memory of the process that this one was forked from"
                )
            if self._queue is None:
                self._queue = SimpleQueue()
                # A daemon, because a store that nobody closed must not keep the program from ending.
                self._thread = threading.Thread(
                    target=_work, args=(self._queue, self._open_desk), name=self._name, daemon=True
                )
                self._thread.start()
            self._queue.put(job)

    # --- forks ----------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let go of files and take no job until ``go_on``, in this process, or ``start_over``, in its child."""
        self._lock.acquire()
        if self._queue is not None and self._thread is not threading.current_thread() and self._lasting:
            pause = _Pause()
            self._queue.put(pause)
            pause.done.wait()

    def go_on(self) -> None:
        """Take jobs again."""
        self._lock.release()

    def start_over(self) -> None:
        """Begin anew, in a process that has none of the threads."""
        self._orphan = self._orphan or (self._thread is not None and not self._lasting)
        self._lock = threading.Lock()
        self._queue = self._thread = None


_writers: weakref.WeakSet[Writer[Any]] = weakref.WeakSet()
_paused: list[Writer[Any]] = []


def _before_fork() -> None:
    _paused[:] = members(_writers)
    for writer in _paused:
        writer.pause()


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop().go_on()


def _after_fork_in_child() -> None:
    while _paused:
        _paused.pop().start_over()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


def _work(queue: SimpleQueue[Job | _Pause | None], open_desk: Callable[[], Desk]) -> None:
    desk: Desk | None = None
    last: Job | _Pause | None = _Pause()
    while last is not None:
        jobs, last = _next_group(queue, desk)
        try:
            if desk is None and jobs:
                desk = open_desk()
            if desk is not None and jobs:
                desk.perform(jobs)
        except Exception as error:  # a job that is never settled would hang whoever waits for it
            for job in jobs:
                job.error = error
        _settle(jobs)
        del jobs
        if desk is not None and not isinstance(last, Job):
            desk.close()
            desk = None
        if isinstance(last, _Pause):
            last.done.set()


def _next_group(
    queue: SimpleQueue[Job | _Pause | None], desk: Desk | None
) -> tuple[list[Job], Job | _Pause | None]:
    """What waits, up to a full group or to what is no job; and the last that was taken out."""
    jobs: list[Job] = []
    item = _next(queue, desk)
    while isinstance(item, Job):
        jobs.append(item)
        if len(jobs) == MAX_GROUP:
            return jobs, item
        try:
            item = queue.get_nowait()
        except Empty:
            return jobs, jobs[-1]
    return jobs, item


def _next(queue: SimpleQueue[Job | _Pause | None], desk: Desk | None) -> Job | _Pause | None:
    if desk is not None and desk.patience is not None:
        try:
            return queue.get(timeout=desk.patience)
        except Empty:
            desk.rest()
    return queue.get()


def _settle(jobs: Sequence[Job]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.future is not None:
            by_loop.setdefault(job.future.get_loop(), []).append(job)
        if job.done is not None:
            job.done.set()
    for loop, finished in by_loop.items():
        try:
            loop.call_soon_threadsafe(_tell, finished)
        except RuntimeError:
            continue  # the loop was closed: nobody waits any more


def _tell(jobs: Sequence[Job]) -> None:
    for job in jobs:
        future = job.future
        if future is None or future.done():
            continue
        if job.error is None:
            future.set_result(job.result)
        else:
            future.set_exception(job.error)
