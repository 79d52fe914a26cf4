"""What is special about outputs on a disk: an older schema, modes, damage, a full disk, what a crash leaves."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import sqlite3
import stat
from pathlib import Path

import pytest

from loom.errors import StoreCorrupted, StoreError
from loom.events import encode_event
from loom.signals import RuntimeSignal
from loom.store.base import SessionRecord, SessionStore
from loom.store.file import FileSessionStore
from loom.store.outputfiles import OutputFiles
from loom.store.schema import APPLICATION_ID, MIGRATIONS
from loom.store.sqlite import SqliteSessionStore
from loom.testing.store_contract.samples import opened, placed, said, started

# --- the schema before outputs --------------------------------------------------------------------------


def former(path: Path, source: Path) -> None:
    """A database as the schema's first version made it, with everything that stands in ``source``."""
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute("PRAGMA journal_mode = WAL")
    for statement in MIGRATIONS[0].split(";"):
        plain.execute(statement)
    tables = [name for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    plain.execute("DELETE FROM tokens")
    plain.execute("ATTACH ? AS source", (str(source),))
    for table in tables:
        names = ", ".join(row[1] for row in plain.execute(f"PRAGMA main.table_info({table})"))
        plain.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM source.{table}")
    plain.execute("DETACH source")
    plain.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    plain.execute("PRAGMA user_version = 1")
    plain.close()


async def test_a_database_of_the_former_schema_is_taken_over(tmp_path: Path) -> None:
    source = SqliteSessionStore(tmp_path / "now.db")
    source.save_session(SessionRecord("s", {"a": 1}))
    lease = await source.acquire("s", owner="a", ttl=60)
    written = placed([started(), opened("r"), said("text")])
    await source.append(lease, written)
    await source.offer("s", RuntimeSignal.create("x", dedupe_key="k"))
    await source.release(lease)
    await source.aclose()
    former(tmp_path / "then.db", tmp_path / "now.db")
    for _ in range(2):
        store = SqliteSessionStore(tmp_path / "then.db")
        assert [encode_event(event) for event in await store.read("s")] == [*map(encode_event, written)]
        assert await store.read_output("s", "out_2") is None
        assert len(await store.open_requests("s")) == len(await store.inbox("s")) == 1
        assert (await store.acquire("s", owner="b", ttl=0)).token > lease.token
        await store.keep_output("s", "out_1", "kept")
        assert await store.read_output("s", "out_1") == "kept"
        await store.aclose()


def test_the_former_schema_is_what_was_published() -> None:
    """A migration that is changed after it was published leaves two kinds of databases with one number."""
    digest = hashlib.sha256(MIGRATIONS[0].encode()).hexdigest()
    assert digest == "20bca7b1aa4c8b0df2bd079e7881391788ce8f0bc864af25a8c1746eb6d1f858"


async def test_making_room_reads_no_output(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteSessionStore(path)
    await store.keep_output("s", "out_1", "x")
    await store.aclose()
    plain = sqlite3.connect(path)
    query = "SELECT ordinal, size FROM outputs WHERE session_id = 's' ORDER BY ordinal DESC"
    plan = " ".join(row[3] for row in plain.execute(f"EXPLAIN QUERY PLAN {query}"))
    plain.close()
    assert "COVERING INDEX outputs_by_age" in plan
    assert "SORT" not in plan.upper().replace("USING", "")


# --- both -----------------------------------------------------------------------------------------------


def opened_store(kind: str, folder: Path) -> SessionStore:
    return SqliteSessionStore(folder / "s.db") if kind == "sqlite" else FileSessionStore(folder / "s.jsonl")


@pytest.mark.parametrize("kind", ["sqlite", "file"])
async def test_a_full_disk_keeps_nothing_and_loses_nothing(kind: str, tmp_path: Path) -> None:
    store = opened_store(kind, tmp_path)
    await store.keep_output("s", "out_1", "as before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        for reference in ("out_1", "out_2"):
            with pytest.raises(StoreError, match="not saved"):
                await store.keep_output("s", reference, "x" * 5_000_000)
        assert await store.read_output("s", "out_1") == "as before"
        assert await store.read_output("s", "out_2") is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await store.keep_output("s", "out_2", "x" * 5_000_000)
    assert await store.read_output("s", "out_2") == "x" * 5_000_000
    await store.aclose()


@pytest.mark.parametrize("kind", ["sqlite", "file"])
async def test_a_changed_byte_is_damage_and_never_another_text(kind: str, tmp_path: Path) -> None:
    store = opened_store(kind, tmp_path)
    text = "harmless " * 40
    await store.keep_output("s", "out_1", text)
    await store.aclose()
    if kind == "file":
        (path,) = outputs(tmp_path)
    else:
        path = tmp_path / "s.db"
    whole = path.read_bytes()
    at = whole.index(b"harmless harmless")
    for damaged in (whole[:at] + b"H" + whole[at + 1 :], whole[: at + 5] + b"\xff" + whole[at + 6 :]):
        path.write_bytes(damaged)
        again = opened_store(kind, tmp_path)
        with pytest.raises(StoreCorrupted, match="damaged"):
            await again.read_output("s", "out_1")
        await again.aclose()
        assert path.read_bytes() == damaged


# --- files ----------------------------------------------------------------------------------------------


def outputs(folder: Path) -> list[Path]:
    found = (folder / "s.jsonl.outputs").rglob("*")
    return sorted(path for path in found if path.is_file() and path.name != "kept")


async def test_files_are_their_owners_and_outside_the_log(tmp_path: Path) -> None:
    former_mask = os.umask(0)
    try:
        store = FileSessionStore(tmp_path / "s.jsonl")
        for reference in ("out_1", "out_2"):
            await store.keep_output("../../s", reference, f"text of {reference}\n")
    finally:
        os.umask(former_mask)
    found = outputs(tmp_path)
    assert [path.name for path in found] == ["00000001-14-out_1", "00000002-14-out_2"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    for folder in (tmp_path / "s.jsonl.outputs", found[0].parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert found[0].read_text().splitlines()[1:] == ["text of out_1"]
    assert "text of" not in (tmp_path / "s.jsonl").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.jsonl", "s.jsonl.lock", "s.jsonl.outputs"]
    await store.aclose()


async def test_what_a_crash_left_is_written_over(tmp_path: Path) -> None:
    """A file that was never whole, and an older one of the same name that had not been removed yet."""
    store = FileSessionStore(tmp_path / "s.jsonl")
    await store.keep_output("s", "out_1", "older")
    (path,) = outputs(tmp_path)
    (path.parent / "new").write_bytes(b"half a f")
    older = path.read_bytes()
    await store.keep_output("s", "out_1", "newer")
    path.write_bytes(older)
    assert await store.read_output("s", "out_1") == "newer"
    await store.keep_output("s", "out_1", "newest")
    assert await store.read_output("s", "out_1") == "newest"
    assert len(outputs(tmp_path)) == 1
    store.delete_session("s")
    assert list((tmp_path / "s.jsonl.outputs").iterdir()) == []
    await store.aclose()


async def test_a_file_in_another_ones_place_is_damage(tmp_path: Path) -> None:
    """Renamed, or from another session's folder: what it says of itself counts."""
    store = FileSessionStore(tmp_path / "s.jsonl")
    await store.keep_output("s", "out_1", "mine")
    await store.keep_output("t", "out_1", "theirs")
    mine, theirs = sorted(outputs(tmp_path), key=lambda path: "theirs" in path.read_text())
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(StoreCorrupted, match="place"):
        await store.read_output("s", "out_1")
    mine.unlink()
    mine.symlink_to(theirs)
    with pytest.raises(StoreError):
        await store.read_output("s", "out_1")
    await store.aclose()


async def test_outputs_survive_a_compaction(tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path / "s.jsonl")
    store.save_session(SessionRecord("s"))
    await store.keep_output("s", "out_1", "kept")
    await store.compact()
    assert await store.read_output("s", "out_1") == "kept"
    await store.aclose()


async def test_foreign_files_in_a_sessions_folder_are_left_out(tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path / "s.jsonl")
    await store.keep_output("s", "out_1", "kept")
    (path,) = outputs(tmp_path)
    for name in (".hidden", "notes.txt", "9-9-out_2", "00000009--out_2", "00000009-1-OUT"):
        (path.parent / name).write_text("x")
    await store.keep_output("s", "out_2", "too")
    assert await store.read_output("s", "out_1") == "kept"
    assert await store.read_output("s", "out_2") == "too"
    await store.aclose()


async def test_review_e4_a_removed_output_is_missed(tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path / "s.jsonl")
    for number in range(3):
        await store.keep_output("s", f"out_{number}", "x" * 10)
    for path in outputs(tmp_path):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(StoreCorrupted, match=rf"{path.name} is damaged: it was removed"):
            await store.read_output("s", path.name[-5:])
        with pytest.raises(StoreCorrupted, match="removed"):
            await store.copy_outputs("s", "t")
        assert await store.read_output("s", "out_9") is None
        path.write_bytes(content)
    await store.copy_outputs("s", "t")
    await store.aclose()


async def test_outputs_that_made_room_or_were_kept_again_are_not_missed(tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path / "s.jsonl")
    for number in (0, 1, 0, 2, 3):
        await store.keep_output("s", f"out_{number}", "x" * 10, room=25)
    assert [await store.read_output("s", f"out_{n}") for n in range(4)] == [None, None, "x" * 10, "x" * 10]
    await store.copy_outputs("s", "t")
    await store.aclose()


async def test_the_list_of_outputs_is_on_disk_before_anything_goes(tmp_path: Path) -> None:
    """A list that the power takes back must not name what has gone; one that only lacks a name does no harm."""
    synced: list[str] = []
    keeper = OutputFiles(tmp_path / "o")
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        real(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        keeper.keep("s", "out_1", b"one", 100)
        (home,) = (tmp_path / "o").iterdir()
        assert synced == [tmp_path.name, "o", "new", home.name], "each new folder in the one above it, too"
        synced.clear()
        keeper.keep("s", "out_2", b"two", 100)
        assert synced == ["new", home.name]
        synced.clear()
        keeper.keep("s", "out_3", b"three", 8)
        assert synced == ["new", home.name, "new", home.name]
    assert sorted(path.name for path in home.iterdir()) == ["00000002-3-out_2", "00000003-5-out_3", "kept"]


async def test_a_list_of_outputs_that_says_nothing_and_one_that_is_damaged(tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path / "s.jsonl")
    await store.keep_output("s", "out_1", "one")
    (path,) = outputs(tmp_path)
    kept = path.parent / "kept"
    whole = kept.read_bytes()
    for nothing in (b"", bytes(len(whole))):
        kept.write_bytes(nothing)
        assert await store.read_output("s", "out_2") is None
    kept.write_bytes(whole.replace(b"out_1", b"out_2"))
    with pytest.raises(StoreCorrupted, match="kept is damaged"):
        await store.read_output("s", "out_2")
    assert await store.read_output("s", "out_1") == "one"
    await store.aclose()


def test_an_output_is_kept_though_its_list_cannot_be_written(tmp_path: Path) -> None:
    """An older list would name what goes now, so there is none, and nothing is missed wrongly."""
    keeper, real = OutputFiles(tmp_path / "o"), os.rename

    def rename(source: Path, target: Path) -> None:
        if target.name == "kept":
            raise OSError(errno.ENOSPC, "no room")
        real(source, target)

    keeper.keep("s", "out_1", b"one", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        keeper.keep("s", "out_2", b"two", 3)
    assert keeper.read("s", "out_2") == "two"
    assert keeper.read("s", "out_1") is None
