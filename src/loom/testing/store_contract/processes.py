"""Promises that only processes can try: contention, a writer that slept, a writer that was killed.

Children are spawned, not forked, and make their store with the contract's own ``make_store``. Stores that are
not durable are not asked.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from ...errors import LeaseLost, SessionBusy
from ...events import ModelReplied
from ...store.base import Lease, SessionStore
from .base import TTL, Promises, write
from .samples import said, started

_PATIENCE = 30.0
"""Seconds after which a child that says nothing is taken for stuck."""

_ROUNDS = 15


class ProcessPromises(Promises):
    """What holds between processes."""

    async def test_processes_contend_without_loss(self, tmp_path: Path) -> None:
        """Four processes write to one session in turns; every event is there once, in each one's order."""
        if not self.make_store(tmp_path).durable:
            return
        children = [_spawn(_contend, self, tmp_path, f"p{number}") for number in range(4)]
        for child, _ in children:
            await asyncio.to_thread(child.join, _PATIENCE * 2)
            assert child.exitcode == 0
        async with self.opened(tmp_path) as store:
            events = await store.read("s")
            assert [event.seq for event in events] == list(range(1, 4 * _ROUNDS * 2 + 1))
            for number in range(4):
                run = await store.read("s", run_id=f"p{number}")
                texts = [event.message.content for event in run if isinstance(event, ModelReplied)]
                assert texts == [f"{turn}{half}" for turn in range(_ROUNDS) for half in "ab"]

    async def test_a_writer_that_slept_past_its_lease_is_refused(self, tmp_path: Path) -> None:
        """Stopped after an append, overtaken, continued: it may not write any more."""
        if not hasattr(signal, "SIGSTOP") or not self.make_store(tmp_path).durable:
            return
        child, line = _spawn(_sleep_over, self, tmp_path, "sleeper")
        try:
            assert _hear(line) == "appended"
            os.kill(child.pid or 0, signal.SIGSTOP)
            async with self.opened(tmp_path) as store:
                lease = await _take(store, "awake")
                await write(store, lease, said("awake"))
                os.kill(child.pid or 0, signal.SIGCONT)
                line.send("go on")
                assert _hear(line) == "LeaseLost"
                texts = [
                    event.message.content
                    for event in await store.read("s")
                    if isinstance(event, ModelReplied)
                ]
                assert texts == ["asleep", "awake"]
        finally:
            child.kill()
            child.join()

    async def test_a_killed_writer_leaves_what_it_was_told_is_kept(self, tmp_path: Path) -> None:
        """SIGKILL while it appends: an intact prefix with every acknowledged batch, none of them torn."""
        if not self.make_store(tmp_path).durable:
            return
        for acknowledged in (3, 20):
            child, line = _spawn(_append_for_ever, self, tmp_path, "victim")
            try:
                kept = [_hear(line) for _ in range(acknowledged)][-1]
            finally:
                child.kill()
                child.join()
            while line.poll():  # what it was told after we had heard enough
                try:
                    kept = line.recv()
                except EOFError:
                    break
            async with self.opened(tmp_path) as store:
                events = await store.read("s")
                assert [event.seq for event in events] == list(range(1, len(events) + 1))
                assert len(events) >= kept
                assert len(events) % 3 == 0
                assert await store.head("s") == len(events)
                lease = await store.acquire("s", owner="victim", ttl=TTL)
                await write(store, lease, said("x"), said("y"), said("z"))
                await store.release(lease)

    async def test_a_killed_keeper_leaves_whole_outputs(self, tmp_path: Path) -> None:
        """SIGKILL while it keeps: what it was told is kept is there, what it was not told is whole or not there."""
        if not self.make_store(tmp_path).durable:
            return
        for number in range(3):
            child, line = _spawn(_keep_for_ever, self, tmp_path, f"victim{number}")
            try:
                told = [_hear(line) for _ in range(2)][-1]
            finally:
                child.kill()
                child.join()
            async with self.opened(tmp_path) as store:
                for count in range(told + 10):
                    found = await store.read_output(f"victim{number}", f"out_{count}")
                    assert found in ([a_text(count)] if count <= told else [None, a_text(count)])
                await store.keep_output(f"victim{number}", "out_0", "again")
                assert await store.read_output(f"victim{number}", "out_0") == "again"

    async def test_processes_keep_within_one_bound(self, tmp_path: Path) -> None:
        """Two processes keep outputs of one session; the newest are there, and no more than fit."""
        if not self.make_store(tmp_path).durable:
            return
        children = [_spawn(_keep_some, self, tmp_path, name) for name in ("a", "b")]
        for child, _ in children:
            await asyncio.to_thread(child.join, _PATIENCE)
            assert child.exitcode == 0
        async with self.opened(tmp_path) as store:
            names = [f"{name}_{number}" for name in ("a", "b") for number in range(_ROUNDS)]
            there = [name for name in names if await store.read_output("s", name) is not None]
            assert len(there) == 5
            assert {"a_14", "b_14"} & set(there)


# --- what the children do -----------------------------------------------------------------------------


def _spawn(work: Any, contract: Promises, directory: Path, name: str) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child, args=(work, type(contract), directory, name, theirs), daemon=True)
    child.start()
    theirs.close()
    return child, ours


def _child(work: Any, contract: type[Promises], directory: Path, name: str, line: Connection) -> None:
    asyncio.run(_with_store(work, contract, directory, name, line))


async def _with_store(
    work: Any, contract: type[Promises], directory: Path, name: str, line: Connection
) -> None:
    async with contract().opened(directory) as store:
        await work(store, name, line)


def _hear(line: Connection) -> Any:
    assert line.poll(_PATIENCE), "the child process says nothing"
    return line.recv()


async def _take(store: SessionStore, owner: str) -> Lease:
    while True:
        try:
            return await store.acquire("s", owner=owner, ttl=TTL)
        except SessionBusy:
            await asyncio.sleep(0.002)


async def _contend(store: SessionStore, name: str, line: Connection) -> None:
    for turn in range(_ROUNDS):
        lease = await _take(store, name)
        await write(store, lease, said(f"{turn}a"), said(f"{turn}b"), run_id=name)
        await store.release(lease)


async def _sleep_over(store: SessionStore, name: str, line: Connection) -> None:
    lease = await store.acquire("s", owner=name, ttl=TTL)
    await write(store, lease, said("asleep"))
    lease = await store.renew(lease, ttl=0.3)
    line.send("appended")
    line.recv()
    try:
        await write(store, lease, said("too late"))
    except LeaseLost:
        line.send("LeaseLost")
    else:
        line.send("it was let in")


async def _append_for_ever(store: SessionStore, name: str, line: Connection) -> None:
    lease = await store.acquire("s", owner=name, ttl=TTL)
    while True:
        batch = await write(store, lease, started(), said("x" * 3000), said("z"))
        line.send(batch[-1].seq)


def a_text(number: int) -> str:
    """A text that takes a while to write."""
    return f"{number} " * 100_000


async def _keep_for_ever(store: SessionStore, name: str, line: Connection) -> None:
    number = 0
    while True:
        await store.keep_output(name, f"out_{number}", a_text(number), room=10**9)
        line.send(number)
        number += 1


async def _keep_some(store: SessionStore, name: str, line: Connection) -> None:
    for number in range(_ROUNDS):
        await store.keep_output("s", f"{name}_{number}", "x" * 100, room=500)
