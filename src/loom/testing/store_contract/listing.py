"""Promises about lists of rows: page by page, and sessions that belong to others."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError, RecordNotFound
from ...signals import RuntimeSignal
from ...store.base import SessionRecord, SessionStore
from .base import TTL, Promises, write
from .records import a_run, a_transcript
from .samples import opened, started


class ListingPromises(Promises):
    """``list_sessions`` and ``list_runs`` with their bounds, ``parent``, and deletion by subtree."""

    async def test_sessions_are_listed_page_by_page(self, tmp_path: Path) -> None:
        """The pages together are the whole list; a page ends where it is told to."""
        if not self.keeps_rows:
            return
        async with self.opened(tmp_path) as store:
            names = [f"s{number}" for number in (3, 1, 4, 0, 5)]
            for name in names:
                store.save_session(SessionRecord(name))
            store.save_session(SessionRecord("s1", {"saved": "again"}))
            assert [row.id for row in store.list_sessions()] == names
            assert [row.id for row in store.list_sessions(limit=2)] == names[:2]
            assert [row.id for row in store.list_sessions(after="s1", limit=2)] == names[2:4]
            assert [row.id for row in store.list_sessions(after="s4")] == names[3:]
            assert store.list_sessions(after="s5") == store.list_sessions(limit=0) == []
            self._refuses(store)

    async def test_runs_are_listed_page_by_page(self, tmp_path: Path) -> None:
        """Of one session or of all; a run of another session is a place to go on from, too."""
        if not self.keeps_rows:
            return
        async with self.opened(tmp_path) as store:
            for number, session_id in enumerate(("s", "t", "s", "s", "t")):
                store.save_run(a_run(f"run_{number}", session_id))
            assert [row.id for row in store.list_runs(limit=3)] == ["run_0", "run_1", "run_2"]
            assert [row.id for row in store.list_runs(after="run_2")] == ["run_3", "run_4"]
            assert [row.id for row in store.list_runs("s", limit=2)] == ["run_0", "run_2"]
            assert [row.id for row in store.list_runs("s", after="run_0", limit=1)] == ["run_2"]
            assert [row.id for row in store.list_runs("t", after="run_2")] == ["run_4"]
            self._refuses(store)

    def _refuses(self, store: SessionStore) -> None:
        for kind, after, limit in ((RecordNotFound, "nobody", None), (ConfigError, None, -1)):
            for ask in (store.list_sessions, store.list_runs):
                try:
                    ask(after=after, limit=limit)
                except kind:
                    continue
                raise AssertionError(f"after={after!r}, limit={limit} was not refused")

    async def test_children_are_listed_when_asked_for(self, tmp_path: Path) -> None:
        """A session that belongs to another is no entry of the list of sessions."""
        if not self.keeps_rows:
            return
        async with self.opened(tmp_path) as store:
            for name, parent in (("a", None), ("a/1", "a"), ("b", None), ("a/1/x", "a/1"), ("c", "a")):
                store.save_session(SessionRecord(name, parent=parent))
            store = await self.reopen(store, tmp_path)
            assert [row.id for row in store.list_sessions()] == ["a", "b"]
            assert [row.id for row in store.list_sessions(after="a", limit=1)] == ["b"]
            assert [row.id for row in store.list_sessions(parent="a")] == ["a/1", "c"]
            assert [row.id for row in store.list_sessions(parent="a", after="a/1")] == ["c"]
            assert [row.id for row in store.list_sessions(parent="b")] == []
            everything = store.list_sessions(children=True)
            assert [row.id for row in everything] == ["a", "a/1", "b", "a/1/x", "c"]
            assert [row.parent for row in everything] == [None, "a", None, "a/1", "a"]
            await store.aclose()

    async def test_a_deleted_session_takes_its_children_along(self, tmp_path: Path) -> None:
        """With all that is kept under their names; a name that only looks like a child's stays."""
        if not self.keeps_rows:
            return
        async with self.opened(tmp_path) as store:
            family = (("a", None), ("a/1", "a"), ("x", "a/1"), ("a/2", None), ("b", "y"), ("y", "b"))
            for number, (name, parent) in enumerate(family):
                store.save_session(SessionRecord(name, parent=parent))
                lease = await store.acquire(name, owner="o", ttl=TTL)
                await write(store, lease, started(), opened("r"), run_id=f"run_{number}")
                store.save_transcript(a_transcript(f"run_{number}", name))
                await store.offer(name, RuntimeSignal.create("hello"))
                await store.keep_output(name, "out", "kept")
            store.delete_session("a")
            store.delete_session("b")  # a ring: each belongs to the other
            for _ in range(2):
                assert [row.id for row in store.list_sessions(children=True)] == ["a/2"]
                assert [row.id for row in store.list_transcripts()] == ["run_3"]
                for number, (name, _) in enumerate(family):
                    kept = name == "a/2"
                    assert await store.head(name) == (2 if kept else 0)
                    assert await store.find_run(f"run_{number}") == (name if kept else None)
                    assert len(await store.inbox(name)) == len(await store.open_requests(name)) == kept
                    assert await store.read_output(name, "out") == ("kept" if kept else None)
                store = await self.reopen(store, tmp_path)
            await store.aclose()
