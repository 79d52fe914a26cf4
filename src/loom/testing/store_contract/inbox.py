"""Promises about the inbox: signals wait, are counted once, and are taken together with what was done."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ...errors import LeaseLost, StoreError
from ...signals import RuntimeSignal
from ...store.base import SIGNAL_WINDOW, SessionStore
from .base import TTL, Promises, refused, write
from .samples import AWKWARD, NESTED, placed, said, started


class InboxPromises(Promises):
    """``offer``, ``inbox``, and the ``taken`` of ``append``."""

    async def test_signals_wait_in_order_and_come_back_equal(self, tmp_path: Path) -> None:
        """No lease is needed to offer one."""
        async with self.opened(tmp_path) as store:
            full = RuntimeSignal(
                source="gateway",
                type="mail",
                summary=AWKWARD,
                payload=NESTED,
                urgency="critical",
                session_id="s",
                run_id="run_1",
                dedupe_key="k",
                observed_at=12.25,
            )
            offered = [full, RuntimeSignal.create("b"), RuntimeSignal.create("a")]
            for signal in offered:
                assert await store.offer("s", signal)
            assert await store.offer("other", RuntimeSignal.create("c"))
            assert await store.inbox("s") == offered
            store = await self.reopen(store, tmp_path)
            assert await store.inbox("s") == offered
            await store.aclose()

    async def test_one_dedupe_key_is_one_signal(self, tmp_path: Path) -> None:
        """In one session, within the window, also after it was taken and after reopening."""
        async with self.opened(tmp_path) as store:
            first = RuntimeSignal.create("a", dedupe_key="k")
            assert await store.offer("s", first)
            assert not await store.offer("s", RuntimeSignal.create("b", dedupe_key="k"))
            assert await store.offer("s", RuntimeSignal.create("c", dedupe_key="k2"))
            assert await store.offer("other", RuntimeSignal.create("d", dedupe_key="k"))
            lease = await store.acquire("s", owner="a", ttl=TTL)
            await write(store, lease, started(), taken=[first.id])
            store = await self.reopen(store, tmp_path)
            assert not await store.offer("s", RuntimeSignal.create("e", dedupe_key="k"))
            assert [signal.summary for signal in await store.inbox("s")] == ["c"]
            await store.aclose()

    async def test_outside_the_window_a_key_is_new(self, tmp_path: Path) -> None:
        """A window of 0 seconds never refuses, and a short window does not forget for a longer one."""
        async with self.opened(tmp_path) as store:
            for number in range(3):
                assert await store.offer("s", RuntimeSignal.create(str(number), dedupe_key="k"), window=0)
            assert not await store.offer("s", RuntimeSignal.create("x", dedupe_key="k"), window=SIGNAL_WINDOW)
            assert [signal.summary for signal in await store.inbox("s")] == ["0", "1", "2"]

    async def test_signals_without_a_key_are_never_refused(self, tmp_path: Path) -> None:
        """Even when they say the same."""
        async with self.opened(tmp_path) as store:
            for _ in range(2):
                assert await store.offer("s", RuntimeSignal.create("same"))
            assert len(await store.inbox("s")) == 2

    async def test_a_signal_is_taken_with_the_events_or_not_at_all(self, tmp_path: Path) -> None:
        """A refused append leaves the inbox as it was."""
        async with self.opened(tmp_path) as store:
            signals = [RuntimeSignal.create(text) for text in "abc"]
            for signal in signals:
                await store.offer("s", signal)
            lease = await store.acquire("s", owner="a", ttl=TTL)
            wrong = placed([said("x")], head=5)
            await refused(StoreError, store.append(lease, wrong, taken=[signals[0].id]))
            assert await store.inbox("s") == signals
            await write(store, lease, started(), taken=[signals[1].id, "unknown"])
            assert await store.inbox("s") == [signals[0], signals[2]]
            store = await self.reopen(store, tmp_path)
            assert await store.inbox("s") == [signals[0], signals[2]]
            await store.append(lease, [], taken=[signals[0].id])
            assert await store.inbox("s") == [signals[2]]
            expired = await store.renew(lease, ttl=0)
            await refused(LeaseLost, store.append(expired, [], taken=[signals[2].id]))
            assert await store.inbox("s") == [signals[2]]
            await store.aclose()

    async def test_of_many_with_one_key_one_is_taken_in(self, tmp_path: Path) -> None:
        """When all are offered at once."""
        async with self.opened(tmp_path) as store:

            async def offer(target: SessionStore, number: int) -> bool:
                return await target.offer("s", RuntimeSignal.create(str(number), dedupe_key="k"))

            answers = await asyncio.gather(*(offer(store, number) for number in range(50)))
            assert sum(answers) == 1
            assert len(await store.inbox("s")) == 1

    async def test_a_source_hides_nothing_of_another(self, tmp_path: Path) -> None:
        """The same key of two sources is two keys, however they are spelled; of one it is one."""
        async with self.opened(tmp_path) as store:
            pairs = [
                ("mail", "k"),
                ("operator", "k"),
                ("mai", "lk"),
                ("", "k"),
                ('a","b', "c"),
                ("a", 'b","c'),
            ]
            for source, key in pairs:
                assert await store.offer("s", RuntimeSignal.create("x", source=source, dedupe_key=key))
            store = await self.reopen(store, tmp_path)
            for source, key in pairs:
                assert not await store.offer("s", RuntimeSignal.create("x", source=source, dedupe_key=key))
            assert [signal.source for signal in await store.inbox("s")] == [source for source, _ in pairs]
            await store.aclose()

    async def test_signal_of_another_source_is_not_replaced(self, tmp_path: Path) -> None:
        """An id names one waiting signal; who knows it can neither change nor remove what another source said."""
        async with self.opened(tmp_path) as store:
            first = RuntimeSignal(id="i", source="bank", summary="paid", observed_at=1.0)
            assert await store.offer("s", first)
            forged = RuntimeSignal(id="i", source="mail", summary="not paid", dedupe_key="k", observed_at=2.0)
            assert "'i'" in await refused(StoreError, store.offer("s", forged))
            assert await store.inbox("s") == [first]
            store = await self.reopen(store, tmp_path)
            assert "'i'" in await refused(StoreError, store.offer("s", forged))
            other = RuntimeSignal(id="j", source="mail", summary="hello", dedupe_key="k", observed_at=3.0)
            assert await store.offer("s", other), "what was refused does not count as offered"
            own = RuntimeSignal(id="i", source="bank", summary="paid twice", observed_at=4.0)
            assert await store.offer("s", own)
            assert await store.inbox("s") == [own, other]
            assert await store.offer("other", forged)
            await store.aclose()

    async def test_signal_of_another_source_is_not_replaced_at_once(self, tmp_path: Path) -> None:
        """Nor when both are offered together."""
        async with self.opened(tmp_path) as store:
            signals = [
                RuntimeSignal(id="i", source=source, summary=source, observed_at=1.0) for source in "abc"
            ]
            offers = (store.offer("s", signal) for signal in signals)
            found = await asyncio.gather(*offers, return_exceptions=True)
            assert [type(each) for each in found] == [bool, StoreError, StoreError]
            assert await store.inbox("s") == signals[:1]
            await store.aclose()
