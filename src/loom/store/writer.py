"""One thread that does all of a store's blocking work, and groups what waits into one commit.

While a commit is being written to disk, further jobs queue up; they become the next commit together. That is
why a thousand sessions do not need a thousand fsyncs. Nothing here knows what a job does.
"""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MAX_GROUP = 256
"""The most jobs in one commit, so that the first of them does not wait for an endless queue."""


class Job:
    """Some work on a desk, how it ended, and who waits for it: a task (``future``) or a thread (``done``)."""

    __slots__ = ("done", "error", "future", "result", "work", "writes")

    def __init__(self, work: Callable[[Any], Any], *, writes: bool) -> None:
        self.work = work
        self.writes = writes
        self.result: Any = None
        self.error: BaseException | None = None
        self.future: asyncio.Future[Any] | None = None
        self.done: threading.Event | None = None

    def run(self, desk: object) -> None:
        """Do the work and keep how it ended."""
        try:
            self.result = self.work(desk)
        except Exception as error:  # the boundary of the thread: whoever waits for the job gets it
            self.error = error


class Desk(ABC):
    """What the writer works on: an open database or file, used by one thread only."""

    @abstractmethod
    def perform(self, jobs: Sequence[Job]) -> None:
        """Run every job; those that write become durable together, and then only have they succeeded."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files. Must not raise."""


DeskT = TypeVar("DeskT", bound=Desk)


class Writer(Generic[DeskT]):
    """Runs jobs on a desk in one thread, which starts with the first job and ends with ``close``.

    ``open_desk`` is called in the thread and must not refer to the writer's owner. A job after ``close``
    starts anew, as does one in a forked child, where the parent's thread does not exist.
    """

    def __init__(self, open_desk: Callable[[], DeskT], *, name: str) -> None:
        self._open_desk = open_desk
        self._name = name
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Job | None] | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    async def run(self, work: Callable[[DeskT], T], *, writes: bool) -> T:
        """Do ``work`` in the thread. When the waiting task is cancelled the work may still be done."""
        job = Job(work, writes=writes)
        job.future = future = asyncio.get_running_loop().create_future()
        self._put(job)
        result: T = await future
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
        if queue is None or thread is None or self._pid != os.getpid():
            return
        queue.put(None)
        if thread is not threading.current_thread():
            thread.join()

    def _put(self, job: Job) -> None:
        with self._lock:
            if self._queue is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._queue = SimpleQueue()
                # A daemon, because a store that nobody closed must not keep the program from ending.
                self._thread = threading.Thread(
                    target=_work, args=(self._queue, self._open_desk), name=self._name, daemon=True
                )
                self._thread.start()
            self._queue.put(job)


def _work(queue: SimpleQueue[Job | None], open_desk: Callable[[], Desk]) -> None:
    desk: Desk | None = None
    going_on = True
    while going_on:
        jobs, going_on = _next_group(queue)
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
    if desk is not None:
        desk.close()


def _next_group(queue: SimpleQueue[Job | None]) -> tuple[list[Job], bool]:
    jobs: list[Job] = []
    item = queue.get()
    while item is not None:
        jobs.append(item)
        if len(jobs) == MAX_GROUP:
            return jobs, True
        try:
            item = queue.get_nowait()
        except Empty:
            return jobs, True
    return jobs, False


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
