"""Promises about outputs: the whole texts behind what a conversation shows cut."""

from __future__ import annotations

from pathlib import Path

from ...errors import StoreError
from ...store.base import SessionStore
from .base import TTL, Promises, refused, write
from .samples import AWKWARD, said, started

_HOSTILE = (
    "",
    ".",
    "..",
    "../x",
    "..\\x",
    "/etc/passwd",
    "a/b",
    "a.b",
    "a b",
    "a\0b",
    "a\n",
    "\u0661",
    "OUT_1",
    "%2e%2e",
    "'; DROP TABLE outputs; --",
    "x" * 65,
)


class OutputPromises(Promises):
    """``keep_output`` and ``read_output``."""

    async def test_an_output_comes_back_as_it_was(self, tmp_path: Path) -> None:
        """Every character of it, also after reopening; it needs no lease and is no part of the log."""
        texts = {
            "out_1": AWKWARD,
            "out_2": "",
            "out_3": "\r\n\n\r{}\ufeff\u2028\x00 last line without an end",
            "out_4": "\u00e9\U0001f9f5" * 300_000,
            "x" * 64: "a long name",
        }
        async with self.opened(tmp_path) as store:
            for reference, text in texts.items():
                await store.keep_output("s", reference, text)
            for _ in range(2):
                for reference, text in texts.items():
                    assert await store.read_output("s", reference) == text, reference
                assert await store.head("s") == 0
                assert await store.read("s") == []
                store = await self.reopen(store, tmp_path)
            await store.aclose()

    async def test_what_was_not_kept_is_not_there(self, tmp_path: Path) -> None:
        """And asking makes nothing."""
        async with self.opened(tmp_path) as store:
            assert await store.read_output("nobody", "out_1") is None
            await store.keep_output("s", "out_1", "one")
            assert await store.read_output("s", "out_2") is None
            assert await store.read_output("s", "out_11") is None
            assert await store.read_output("s", "out_") is None

    async def test_one_session_cannot_read_the_outputs_of_another(self, tmp_path: Path) -> None:
        """Whatever they are called."""
        names = ("s", "s ", "S", "s/../s", "../s", "/", "\u00e9", "e\u0301", "a\0b", "x" * 5000, "")
        async with self.opened(tmp_path) as store:
            for name in names:
                assert await store.read_output(name, "out_1") is None, name
                await store.keep_output(name, "out_1", f"of {name}")
            store = await self.reopen(store, tmp_path)
            for name in names:
                assert await store.read_output(name, "out_1") == f"of {name}", name
            await store.aclose()

    async def test_a_reference_that_is_no_plain_name_is_refused(self, tmp_path: Path) -> None:
        """Before anything is read or written."""
        async with self.opened(tmp_path) as store:
            await store.keep_output("s", "out_1", "kept")
            before = sorted(tmp_path.parent.rglob("*"))
            for reference in _HOSTILE:
                await refused(ValueError, store.keep_output("s", reference, "text"))
                assert await store.read_output("s", reference) is None, reference
            assert sorted(tmp_path.parent.rglob("*")) == before
            assert await store.read_output("s", "out_1") == "kept"

    async def test_outputs_are_bounded_and_the_oldest_go_first(self, tmp_path: Path) -> None:
        """By the bytes of a session's own outputs; one that is kept again is the newest."""
        async with self.opened(tmp_path) as store:
            await store.keep_output("other", "out_0", "x" * 100)
            for number in range(4):
                await store.keep_output("s", f"out_{number}", "\u00e9" * 50, room=400)
            await store.keep_output("s", "out_0", "\u00e9" * 50, room=400)
            store = await self.reopen(store, tmp_path)
            assert await self._there(store) == [0, 1, 2, 3]
            await store.keep_output("s", "out_4", "y", room=400)
            assert await self._there(store) == [0, 2, 3, 4]
            await store.keep_output("s", "out_5", "z" * 399, room=400)
            assert await self._there(store) == [4, 5]
            store = await self.reopen(store, tmp_path)
            assert await self._there(store) == [4, 5]
            assert await store.read_output("s", "out_5") == "z" * 399
            assert await store.read_output("other", "out_0") == "x" * 100
            await store.aclose()

    async def _there(self, store: SessionStore) -> list[int]:
        return [number for number in range(9) if await store.read_output("s", f"out_{number}") is not None]

    async def test_what_cannot_be_kept_whole_is_refused_whole(self, tmp_path: Path) -> None:
        """Too large, or not text: nothing of it is kept, and nothing else goes for it."""
        async with self.opened(tmp_path) as store:
            await store.keep_output("s", "out_1", "as before", room=100)
            for text in ("x" * 101, "\u00e9" * 51, "half a pair \ud800"):
                await refused(StoreError, store.keep_output("s", "out_2", text, room=100))
                await refused(StoreError, store.keep_output("s", "out_1", text, room=100))
            assert await store.read_output("s", "out_1") == "as before"
            assert await store.read_output("s", "out_2") is None
            await store.keep_output("s", "out_2", "x" * 100, room=100)
            assert await store.read_output("s", "out_1") is None

    async def test_outputs_go_with_their_session(self, tmp_path: Path) -> None:
        """Also those of a session that has no row and no events; other sessions keep theirs."""
        async with self.opened(tmp_path) as store:
            if not self.keeps_rows:
                return
            lease = await store.acquire("s", owner="a", ttl=TTL)
            await write(store, lease, started(), said("x"))
            for name in ("s", "bare", "other"):
                await store.keep_output(name, "out_1", name)
            store.delete_session("s")
            store.delete_session("bare")
            for _ in range(2):
                assert await store.read_output("s", "out_1") is None
                assert await store.read_output("bare", "out_1") is None
                assert await store.read_output("other", "out_1") == "other"
                store = await self.reopen(store, tmp_path)
            await store.keep_output("s", "out_1", "anew")
            assert await store.read_output("s", "out_1") == "anew"
            await store.aclose()

    async def test_outputs_are_copied_in_their_order(self, tmp_path: Path) -> None:
        """To a session that has some already; what is copied belongs to it, and the source keeps its own."""
        async with self.opened(tmp_path) as store:
            for name in ("c", "a", "b"):
                await store.keep_output("s", name, f"text {name}")
            await store.keep_output("t", "own", "own")
            await store.copy_outputs("s", "t")
            await store.copy_outputs("nobody", "t")
            store.delete_session("s")
            store = await self.reopen(store, tmp_path)
            assert await store.read_output("s", "a") is None
            assert [await store.read_output("t", name) for name in ("own", "c", "a", "b")] == [
                "own",
                "text c",
                "text a",
                "text b",
            ]
            await store.keep_output("t", "new", "x" * 10, room=17)
            assert [await store.read_output("t", name) for name in ("own", "c", "a")] == [None] * 3
            assert await store.read_output("t", "b") == "text b"
            await store.aclose()
