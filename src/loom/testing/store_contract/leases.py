"""Promises about leases: who may write, until when, and that nobody else ever does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ...errors import LeaseLost, SessionBusy
from ...store.base import Lease, SessionStore
from .base import TTL, Promises, refused, same, write
from .samples import placed, said, started


class LeasePromises(Promises):
    """``acquire``, ``renew``, ``release``, and what they mean for ``append``."""

    async def test_a_second_owner_must_wait(self, tmp_path: Path) -> None:
        """Until the first gives the session back."""
        async with self.opened(tmp_path) as store:
            first = await store.acquire("s", owner="a", ttl=TTL)
            said_no = await refused(SessionBusy, store.acquire("s", owner="b", ttl=TTL))
            assert "s" in said_no
            await write(store, first, started())
            await store.release(first)
            second = await store.acquire("s", owner="b", ttl=TTL)
            await write(store, second, said("b"))
            assert await store.head("s") == 2

    async def test_the_session_of_a_dead_owner_can_be_taken_at_once(self, tmp_path: Path) -> None:
        """By whoever names it as dead, once: the next one who does finds the new owner there."""
        async with self.opened(tmp_path) as store:
            dead = await store.acquire("s", owner="dead", ttl=TTL)
            await write(store, dead, started())
            await refused(SessionBusy, store.acquire("s", owner="b", ttl=TTL, instead_of="somebody else"))
            heir = await store.acquire("s", owner="b", ttl=TTL, instead_of="dead")
            assert heir.token > dead.token
            assert heir.head == 1
            await refused(SessionBusy, store.acquire("s", owner="c", ttl=TTL, instead_of="dead"))
            await self._fenced(store, dead)
            await write(store, heir, said("b"))

    async def test_a_busy_session_says_who_holds_it(self, tmp_path: Path) -> None:
        """So that the holder can be found out to be dead."""
        async with self.opened(tmp_path) as store:
            await store.acquire("s", owner="a", ttl=TTL)
            holder = ""
            try:
                await store.acquire("s", owner="b", ttl=TTL)
            except SessionBusy as busy:
                holder = busy.owner
            assert holder == "a"

    async def test_another_session_is_another_lease(self, tmp_path: Path) -> None:
        """One owner's lease says nothing about other sessions."""
        async with self.opened(tmp_path) as store:
            await store.acquire("s", owner="a", ttl=TTL)
            other = await store.acquire("s2", owner="b", ttl=TTL)
            await write(store, other, started())

    async def test_an_expired_lease_may_be_taken(self, tmp_path: Path) -> None:
        """And the former owner is fenced off for good, whatever it tries."""
        async with self.opened(tmp_path) as store:
            first = await store.acquire("s", owner="a", ttl=TTL)
            written = await write(store, first, started())
            first = await store.renew(first, ttl=0)
            second = await store.acquire("s", owner="b", ttl=TTL)
            assert second.token > first.token
            await self._fenced(store, first)
            written += await write(store, second, said("b"))
            await self._fenced(store, first)
            assert same(await store.read("s"), written)

    async def test_acquiring_again_voids_the_older_lease(self, tmp_path: Path) -> None:
        """Also for the same owner: a name is no proof that it is the same process."""
        async with self.opened(tmp_path) as store:
            first = await store.acquire("s", owner="a", ttl=TTL)
            second = await store.acquire("s", owner="a", ttl=TTL)
            assert second.token > first.token
            await self._fenced(store, first)
            await write(store, second, started())

    async def test_an_expired_lease_does_not_append(self, tmp_path: Path) -> None:
        """Even if nobody took the session."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=0)
            await refused(LeaseLost, store.append(lease, placed([started()])))
            assert await store.head("s") == 0

    async def test_an_expired_lease_that_nobody_took_can_be_renewed(self, tmp_path: Path) -> None:
        """And then appends; the lease in hand may be the old value, its token counts."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=0)
            renewed = await store.renew(lease, ttl=TTL)
            assert (renewed.token, renewed.owner, renewed.session_id) == (lease.token, "a", "s")
            assert renewed.expires_at > lease.expires_at
            await write(store, renewed, started())
            await write(store, lease, said("x"))
            assert await store.head("s") == 2

    async def test_a_released_lease_is_void(self, tmp_path: Path) -> None:
        """It neither appends nor comes back."""
        async with self.opened(tmp_path) as store:
            lease = await store.acquire("s", owner="a", ttl=TTL)
            await store.release(lease)
            await self._fenced(store, lease)

    async def test_releasing_a_lost_lease_does_nothing(self, tmp_path: Path) -> None:
        """Above all it does not take the new owner's lease away."""
        async with self.opened(tmp_path) as store:
            first = await store.acquire("s", owner="a", ttl=0)
            second = await store.acquire("s", owner="b", ttl=TTL)
            await store.release(first)
            await refused(SessionBusy, store.acquire("s", owner="c", ttl=TTL))
            await write(store, second, started())
            await store.release(second)
            await store.release(second)

    async def test_tokens_only_rise(self, tmp_path: Path) -> None:
        """Across release, reopening and deletion; or an old writer could pass for a new one."""
        async with self.opened(tmp_path) as store:
            tokens: list[int] = []
            for _ in range(3):
                lease = await store.acquire("s", owner="a", ttl=TTL)
                tokens.append(lease.token)
                await store.release(lease)
            store = await self.reopen(store, tmp_path)
            lease = await store.acquire("s", owner="a", ttl=TTL)
            tokens.append(lease.token)
            if self.keeps_rows:
                store.delete_session("s")
                await self._fenced(store, lease)
                again = await store.acquire("s", owner="a", ttl=TTL)
                tokens.append(again.token)
                await self._fenced(store, lease)
            assert tokens == sorted(set(tokens))
            await store.aclose()

    async def test_a_made_up_lease_is_refused(self, tmp_path: Path) -> None:
        """For a session that nobody has taken."""
        async with self.opened(tmp_path) as store:
            await self._fenced(store, Lease("s", "a", 1, 9e12))
            await store.release(Lease("s", "a", 1, 9e12))

    async def test_only_one_of_many_gets_the_session(self, tmp_path: Path) -> None:
        """When all ask at once."""
        async with self.opened(tmp_path) as store:
            asked = [store.acquire("s", owner=f"o{number}", ttl=TTL) for number in range(20)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            won = [answer for answer in answers if isinstance(answer, Lease)]
            assert len(won) == 1
            assert sum(isinstance(answer, SessionBusy) for answer in answers) == 19

    @staticmethod
    async def _fenced(store: SessionStore, lease: Lease) -> None:
        head = await store.head(lease.session_id)
        event = placed([said("late")], head=head, session_id=lease.session_id)
        await refused(LeaseLost, store.append(lease, event))
        await refused(LeaseLost, store.append(lease, []))
        await refused(LeaseLost, store.renew(lease, ttl=TTL))
        assert await store.head(lease.session_id) == head

    async def test_who_is_cancelled_while_taking_a_session_does_not_keep_it(self, tmp_path: Path) -> None:
        """Before it is asked for, while it is being taken, when it was taken and nobody knows, and after that."""
        async with self.opened(tmp_path) as store:
            for steps in range(24):
                taker = asyncio.create_task(store.acquire("s", owner="a", ttl=TTL))
                for _ in range(steps % 6):
                    await asyncio.sleep(0)
                if steps >= 12:
                    store.load_session("s")  # what was asked for before has been done when this returns
                for _ in range(steps % 4):
                    await asyncio.sleep(0)
                taker.cancel()
                (lease,) = await asyncio.gather(taker, return_exceptions=True)
                if isinstance(lease, Lease):
                    await store.release(lease)
                await store.release(await store.acquire("s", owner="b", ttl=TTL))
