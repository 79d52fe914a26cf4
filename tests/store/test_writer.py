"""The thread behind a durable store: grouping, cancelling, closing, forgetting to close, forking."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from loom.errors import StoreError
from loom.store.base import SessionRecord
from loom.store.file import FileSessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.store.writer import MAX_GROUP, Desk, Job, Writer
from loom.testing.store_contract.samples import placed, said, started


class Slate(Desk):
    """Writes the sizes of the groups down; the first group waits until it is told to go on."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.closed = False
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def perform(self, jobs: Sequence[Job]) -> None:
        self.sizes.append(len(jobs))
        self.entered.set()
        assert self.go_on.wait(10)
        for job in jobs:
            job.run(self)

    def close(self) -> None:
        self.closed = True


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def test_what_waits_during_a_commit_is_the_next_commit() -> None:
    slate = Slate()
    writer = Writer(lambda: slate, name="slate")
    first = asyncio.create_task(writer.run(lambda desk: 0, writes=True))
    await asyncio.to_thread(slate.entered.wait, 10)

    def work(number: int) -> asyncio.Task[int]:
        return asyncio.create_task(writer.run(lambda desk: number, writes=True))

    others = [work(number) for number in range(MAX_GROUP + 10)]
    await asyncio.sleep(0)
    slate.go_on.set()
    assert await first == 0
    assert await asyncio.gather(*others) == list(range(MAX_GROUP + 10))
    assert slate.sizes == [1, MAX_GROUP, 10]
    writer.close()
    writer.close()
    assert slate.closed
    assert threads("slate") == []


async def test_a_cancelled_wait_disturbs_nobody() -> None:
    slate = Slate()
    writer = Writer(lambda: slate, name="slate")
    done: list[str] = []
    first = asyncio.create_task(writer.run(lambda desk: done.append("first"), writes=True))
    second = asyncio.create_task(writer.run(lambda desk: done.append("second"), writes=True))
    await asyncio.to_thread(slate.entered.wait, 10)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    slate.go_on.set()
    await second
    assert done == ["first", "second"], "work that was handed over is done all the same"
    writer.close()


async def test_a_desk_that_breaks_settles_its_jobs_and_is_used_again() -> None:
    class Broken(Slate):
        def perform(self, jobs: Sequence[Job]) -> None:
            if not self.go_on.is_set():
                self.go_on.set()
                raise StoreError("broken")
            super().perform(jobs)

    broken = Broken()
    writer = Writer(lambda: broken, name="slate")
    with pytest.raises(StoreError, match="broken"):
        await writer.run(lambda desk: 1, writes=True)
    assert writer.run_sync(lambda desk: 2, writes=False) == 2
    writer.close()


async def test_a_loop_that_is_gone_does_not_stop_the_thread() -> None:
    slate = Slate()
    writer = Writer(lambda: slate, name="slate")

    def abandoned() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(writer.run(lambda desk: 1, writes=True))
        loop.run_until_complete(asyncio.sleep(0))
        assert slate.entered.wait(10)
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()

    await asyncio.to_thread(abandoned)
    slate.go_on.set()
    assert await writer.run(lambda desk: 2, writes=True) == 2
    writer.close()


@pytest.mark.parametrize("kind", [FileSessionStore, SqliteSessionStore])
async def test_a_store_can_be_used_after_closing(tmp_path: Path, kind: type[FileSessionStore]) -> None:
    store = kind(tmp_path / "s")
    lease = await store.acquire("s", owner="a", ttl=60)
    await store.append(lease, placed([started()]))
    await store.aclose()
    await store.aclose()
    await store.append(lease, placed([said("x")], head=1))
    assert await store.head("s") == 2
    await store.aclose()


@pytest.mark.parametrize("kind", [FileSessionStore, SqliteSessionStore])
def test_a_forgotten_store_ends_its_thread(tmp_path: Path, kind: type[FileSessionStore]) -> None:
    store = kind(tmp_path / "forgotten")
    assert threads("loom-store forgotten") == [], "making a store starts nothing"
    store.save_session(SessionRecord("s"))
    assert len(threads("loom-store forgotten")) == 1
    del store
    gc.collect()
    assert threads("loom-store forgotten") == []


@pytest.mark.parametrize("kind", [FileSessionStore, SqliteSessionStore])
async def test_the_folder_may_change_before_the_first_use(
    tmp_path: Path, kind: type[FileSessionStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = kind("s")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.save_session(SessionRecord("s"))
    await store.aclose()
    assert (tmp_path / "s").exists()


SCRIPT = """
import asyncio, os, sys
from loom.store.{module} import {kind} as Kind
from loom.store.base import SessionRecord
from loom.testing.store_contract.samples import placed, started, said
store = Kind(sys.argv[1])
async def main():
    lease = await store.acquire("s", owner="a", ttl=60)
    await store.append(lease, placed([started()]))
    return lease
lease = asyncio.run(main())
if sys.argv[2] == "fork":
    child = os.fork()
    if child == 0:
        asyncio.run(store.append(lease, placed([said("child")], head=1)))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(store.append(lease, placed([said("parent")], head=2)))
    assert asyncio.run(store.head("s")) == 3
store.save_session(SessionRecord("last"))
"""


@pytest.mark.parametrize("what", ["leave", "fork"])
@pytest.mark.parametrize("kind", [FileSessionStore, SqliteSessionStore])
def test_a_program_may_fork_and_leave_without_closing(
    tmp_path: Path, kind: type[FileSessionStore], what: str
) -> None:
    script = SCRIPT.format(module=kind.__module__.rsplit(".", 1)[1], kind=kind.__name__)
    # Forking beside threads is deprecated from 3.12 on; a store has to cope with programs that do.
    flags = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    command = [sys.executable, *flags, "-c", script, str(tmp_path / "s"), what]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, env=dict(os.environ), check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    store = kind(tmp_path / "s")
    assert store.load_session("last") is not None
    asyncio.run(store.aclose())


FORKER = """
import asyncio, os, sys, threading
from pathlib import Path
from loom.store.{module} import {kind} as Kind
from loom.store.base import SessionRecord
path = Path(sys.argv[1])
store = Kind(path)
store.save_session(SessionRecord("first"))
ending = threading.Event()
def write():
    number = 0
    while not ending.is_set():
        number += 1
        store.save_session(SessionRecord(f"s{{number}}"))
thread = threading.Thread(target=write, daemon=True)
thread.start()
def inherited():
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{{fd}}"))
        except OSError:
            continue
    return [name for name in names if name.startswith(str(path))]
for number in range(10):
    child = os.fork()
    if child == 0:
        left = inherited()
        store.save_session(SessionRecord(f"child{{number}}"))
        os._exit(1 if left else 0)
    assert os.waitpid(child, 0)[1] == 0
ending.set()
thread.join()
helper = os.fork()
if helper == 0:
    sys.stdin.read()
    os._exit(0)
store.save_session(SessionRecord("last"))
print(os.getpid(), flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("kind", [FileSessionStore, SqliteSessionStore])
def test_review_f7_a_forked_child_inherits_no_lock_and_no_connection(
    tmp_path: Path, kind: type[FileSessionStore]
) -> None:
    """Forked while another thread writes; the last child outlives its parent, which is killed."""
    script = FORKER.format(module=kind.__module__.rsplit(".", 1)[1], kind=kind.__name__)
    forker = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, str(tmp_path / "s")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert forker.stdout is not None
    assert forker.stdout.readline().strip() == str(forker.pid)
    forker.wait(20)
    store = kind(tmp_path / "s")
    store.save_session(SessionRecord("after"))
    names = {row.id for row in store.list_sessions()}
    assert {"first", "last", "after", *(f"child{number}" for number in range(10))} <= names
    forker.communicate()
    asyncio.run(store.aclose())


MEMORY = """
import asyncio, os, signal, threading, warnings
from loom.errors import StoreError
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.store.base import SessionRecord
store, gone = InMemorySessionStore(), SqliteSessionStore(":memory:")
gone.save_session(SessionRecord("s"))
def hold():
    while True:
        store.log.hold()
        store.log.let_go()
threading.Thread(target=hold, daemon=True).start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        asyncio.run(store.acquire("s", owner="a", ttl=1))
        try:
            gone.load_session("s")
        except StoreError as error:
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(3)
    assert os.waitpid(child, 0)[1] == 0
assert gone.load_session("s") is not None
"""


def test_review_f7_a_forked_child_does_not_wait_for_a_thread_it_has_not(tmp_path: Path) -> None:
    """A store in memory goes on in the child; a database in memory is not there, and that is said."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stderr) == (0, "")
