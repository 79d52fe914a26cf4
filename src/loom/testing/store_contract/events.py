"""Promises about the log: order, atomicity, reading, requests, runs, and what survives reopening."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from ...errors import StoreError
from ...events import Event, ModelReplied, RequestOpened, RunResumed, ToolProgress, encode_event
from ...types import ChatMessage, Role, RunState
from .base import TTL, Promises, refused, same, write
from .samples import answered, every_event, finished, opened, placed, said, started


class EventPromises(Promises):
    """``append``, ``read``, ``head``, ``open_requests``, ``unfinished_runs``, ``find_run``."""

    async def test_every_kind_of_event_comes_back_equal(self, tmp_path: Path) -> None:
        """Also after reopening, in one batch or one by one."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=TTL)
            written = await write(store, lease, *every_event())
            for event in every_event():
                written += await write(store, lease, event, run_id="run_2")
            assert same(await store.read("s"), written)
            again = await self.reopen(store, tmp_path)
            assert same(await again.read("s"), written)
            await again.aclose()

    async def test_an_empty_session_has_nothing(self, tmp_path: Path) -> None:
        """Asking about what does not exist is no error and makes nothing."""
        async with self.opened(tmp_path) as store:
            assert await store.head("nobody") == 0
            assert await store.read("nobody") == []
            assert await store.read("nobody", run_id="r", after=3, limit=2) == []
            assert await store.open_requests("nobody") == []
            assert await store.unfinished_runs("nobody") == []
            assert await store.find_run("nobody") is None
            assert await store.inbox("nobody") == []

    async def test_reading_by_place_run_and_number(self, tmp_path: Path) -> None:
        """``after``, ``run_id`` and ``limit``, alone and together, over batches of different sizes."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=TTL)
            written = await write(store, lease, started(), said("1"), said("2"))
            written += await write(store, lease, started(), said("3"), run_id="run_2")
            written += await write(store, lease, said("4"), finished())
            assert await store.head("s") == 7
            for after in (0, 1, 2, 3, 4, 6, 7, 100):
                for run_id in (None, "run_1", "run_2", "run_3"):
                    for limit in (None, 0, 1, 2, 100):
                        expected = [e for e in written if e.seq > after and run_id in (None, e.run_id)]
                        found = await store.read("s", after=after, run_id=run_id, limit=limit)
                        assert same(found, expected[:limit]), (after, run_id, limit)

    async def test_a_batch_is_kept_whole_or_not_at_all(self, tmp_path: Path) -> None:
        """Seqs that repeat, leave a gap or go back, at every position of a batch."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=TTL)
            written = await write(store, lease, started(), said("1"))
            for bad in ([2], [4], [0], [3, 3], [3, 5], [3, 4, 4], [3, 4, 6], [1, 2, 3]):
                batch = [placed([opened(f"r{seq}")], head=seq - 1)[0] for seq in bad]
                await refused(StoreError, store.append(lease, batch))
                assert same(await store.read("s"), written)
                assert await store.open_requests("s") == []
            written += await write(store, lease, said("2"))
            assert same(await store.read("s"), written)

    async def test_what_is_not_plain_data_is_refused_whole(self, tmp_path: Path) -> None:
        """A durable store says so at once; one in memory may keep the object."""
        async with self.opened(tmp_path) as store:
            if not store.durable:
                return
            lease = await store.acquire("s", owner="a", ttl=TTL)
            surrogate = ModelReplied(iteration=1, message=ChatMessage(Role.ASSISTANT, "\udcff"))
            odd = ToolProgress(call_id="c", data=object())
            for event in (odd, surrogate):
                await refused(StoreError, store.append(lease, placed([started(), event])))
            assert await store.head("s") == 0

    async def test_sessions_do_not_see_each_other(self, tmp_path: Path) -> None:
        """Two sessions with the same seqs and request ids."""
        async with self.opened(tmp_path) as store:
            names = ("s", "s ", "S", "s/../s", "\u00e9", "e\u0301", "'; DROP TABLE events; --", "")
            logs: dict[str, list[Event]] = {}
            for number, name in enumerate(names):
                lease = await store.acquire(name, owner="a", ttl=TTL)
                logs[name] = await write(store, lease, started(), opened("same"), run_id=f"run_{number}")
            for name, written in logs.items():
                assert same(await store.read(name), written)
                assert len(await store.open_requests(name)) == 1

    async def test_requests_are_open_until_answered_or_their_run_ends(self, tmp_path: Path) -> None:
        """A request belongs to the run whose event opened it; its ``run_id`` may name a child's."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=TTL)
            await write(store, lease, started(), opened("r1"), opened("r2", run_id="child", session_id="s2"))
            await write(store, lease, started(), opened("r3", run_id="run_1"), run_id="run_2")
            assert await self._open(store) == ["r1", "r2", "r3"]
            await write(store, lease, answered("r1"), answered("unknown"))
            assert await self._open(store) == ["r2", "r3"]
            store = await self.reopen(store, tmp_path)
            assert await self._open(store) == ["r2", "r3"]
            await write(store, lease, finished())
            assert await self._open(store) == ["r3"]
            await write(store, lease, finished(RunState.CANCELLED), run_id="run_2")
            assert await self._open(store) == []
            await store.aclose()

    async def test_an_open_request_comes_back_as_it_was_asked(self, tmp_path: Path) -> None:
        """Every field of it."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=TTL)
            await write(store, lease, started(), opened("r1"))
            (found,) = await store.open_requests("s")
            (_, event) = await store.read("s")
            assert isinstance(event, RequestOpened)
            assert encode_event(RequestOpened(request=found)) == encode_event(opened("r1"))

    async def test_runs_are_unfinished_until_they_finish(self, tmp_path: Path) -> None:
        """Oldest first; ``find_run`` knows finished ones too."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=TTL)
            for number in (3, 1, 2):
                await write(store, lease, started(), said("x"), run_id=f"run_{number}")
            assert await store.unfinished_runs("s") == ["run_3", "run_1", "run_2"]
            await write(store, lease, finished(), run_id="run_1")
            store = await self.reopen(store, tmp_path)
            assert await store.unfinished_runs("s") == ["run_3", "run_2"]
            assert [await store.find_run(f"run_{n}") for n in (1, 2, 3, 4)] == ["s", "s", "s", None]
            await store.aclose()

    async def test_many_tasks_lose_nothing(self, tmp_path: Path) -> None:
        """Twenty sessions are written to at once; each has every event once, in order."""
        async with self.opened(tmp_path) as store:

            async def work(name: str) -> None:
                lease = await store.acquire(name, owner="a", ttl=TTL)
                for number in range(20):
                    await store.append(lease, placed([said(str(number))], head=number, session_id=name))

            names = [f"s{number}" for number in range(20)]
            await asyncio.gather(*map(work, names))
            for name in names:
                assert [event.seq for event in await store.read(name)] == list(range(1, 21))

    async def test_many_threads_lose_nothing(self, tmp_path: Path) -> None:
        """Each thread with an event loop of its own, on one store."""
        async with self.opened(tmp_path) as store:
            failures: list[BaseException] = []

            async def work(name: str) -> None:
                lease = await store.acquire(name, owner=name, ttl=TTL)
                for number in range(20):
                    await write(store, lease, said(str(number)))

            def thread(name: str) -> None:
                try:
                    asyncio.run(work(name))
                except BaseException as error:  # shown to the test, which would not hear of it otherwise
                    failures.append(error)

            threads = [threading.Thread(target=thread, args=(f"s{number}",)) for number in range(4)]
            for one in threads:
                one.start()
            for one in threads:
                await asyncio.to_thread(one.join)
            assert failures == []
            for number in range(4):
                assert [event.seq for event in await store.read(f"s{number}")] == list(range(1, 21))

    async def test_a_run_that_had_ended_may_go_on(self, tmp_path: Path) -> None:
        """Which is unfinished again then, and whose events are read whole, also by the next process."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=TTL)
            await store.append(lease, placed([started(), finished()], run_id="r"))
            await store.append(lease, placed([started(), finished()], head=2, run_id="q"))
            assert await store.unfinished_runs("s") == []
            again = RunResumed(from_state=RunState.FAILED)
            await store.append(lease, placed([again], head=4, run_id="r"))
            assert await store.unfinished_runs("s") == ["r"]
        async with self.opened(tmp_path) as store:
            if not store.durable:
                return
            assert await store.unfinished_runs("s") == ["r"]
            assert [event.seq for event in await store.read("s", run_id="r")] == [1, 2, 5]
            lease = await store.acquire("s", owner="b", ttl=TTL, instead_of="a")
            await store.append(lease, placed([finished()], head=5, run_id="r"))
            assert await store.unfinished_runs("s") == []
            assert [event.seq for event in await store.read("s", run_id="r")] == [1, 2, 5, 6]

    @staticmethod
    async def _open(store: Any) -> list[str]:
        return [request.id for request in await store.open_requests("s")]
