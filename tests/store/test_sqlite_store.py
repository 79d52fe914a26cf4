"""What is special about the store in a database: damage, versions, busy neighbours, a full disk."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from loom.errors import LeaseLost, SessionBusy, StoreCorrupted, StoreError
from loom.events import Event, encode_event
from loom.store.base import Lease, SessionRecord
from loom.store.sqlite import SqliteLog, SqliteSessionStore
from loom.store.writer import Job
from loom.testing.store_contract.samples import finished, opened, placed, said, started


async def fill(path: Path, events: int = 40) -> list[Event]:
    store = SqliteSessionStore(path)
    store.save_session(SessionRecord("s"))
    lease = await store.acquire("s", owner="a", ttl=60)
    written = placed([started(), opened("r"), *(said(f"text {number}" * 20) for number in range(events))])
    await store.append(lease, written)
    await store.aclose()
    return written


async def read(path: Path) -> list[bytes]:
    store = SqliteSessionStore(path, busy_timeout=0.05)
    try:
        return [encode_event(event) for event in await store.read("s")]
    finally:
        await store.aclose()


async def attempt(path: Path) -> tuple[list[bytes] | None, str]:
    try:
        return await read(path), ""
    except StoreError as error:
        return None, str(error)


async def test_the_file_is_its_owners_and_in_the_right_mode(tmp_path: Path) -> None:
    path = tmp_path / "made" / "s.db"
    await fill(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()


async def test_every_query_of_an_append_finds_its_rows_by_index(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await fill(path)
    plain = sqlite3.connect(path, isolation_level=None)
    for query in (
        "SELECT max(seq) FROM events WHERE session_id = 's'",
        "SELECT token, expires_at FROM leases WHERE session_id = 's'",
        "SELECT body FROM events WHERE run_id = 'r' AND session_id = 's' AND seq > 3 ORDER BY seq",
        "SELECT id FROM runs WHERE session_id = 's' AND unfinished ORDER BY ordinal",
        "DELETE FROM dedupe WHERE kept_until <= 3",
        "SELECT 1 FROM requests WHERE run_id = 'r' LIMIT 1",
    ):
        plan = " ".join(row[3] for row in plain.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "SCAN" not in plan, (query, plan)
    plain.close()


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"{}\n", b"\x89PNG" + b"\0" * 5000, b"x"])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.db"
    path.write_bytes(content)
    store = SqliteSessionStore(path)
    for _ in range(2):
        with pytest.raises(StoreCorrupted, match=r"foreign\.db"):
            await store.read("s")
        with pytest.raises(StoreCorrupted, match=r"foreign\.db"):
            await store.acquire("s", owner="a", ttl=1)
    await store.aclose()
    assert path.read_bytes() == content


async def test_a_flipped_header_gives_the_same_events_or_a_typed_error(tmp_path: Path) -> None:
    path, copy = tmp_path / "s.db", tmp_path / "copy.db"
    expected = [encode_event(event) for event in await fill(path)]
    whole, refused = path.read_bytes(), 0
    for offset in range(100):
        damaged = bytearray(whole)
        damaged[offset] ^= 0xFF
        copy.write_bytes(damaged)
        found, said_so = await attempt(copy)
        if found is None:
            refused += 1
            assert "copy.db" in said_so
            assert copy.read_bytes() == damaged
        else:
            assert found == expected, offset
    assert refused >= 16


async def test_flipped_and_missing_bytes_never_give_other_events(tmp_path: Path) -> None:
    path, copy = tmp_path / "s.db", tmp_path / "copy.db"
    expected = [encode_event(event) for event in await fill(path)]
    whole, refused = path.read_bytes(), 0
    for number, offset in enumerate(range(100, len(whole), len(whole) // 200)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << (number % 8)
        copy.write_bytes(damaged if number % 4 else whole[:offset])
        found, said_so = await attempt(copy)
        if found is None:
            refused += 1
            assert "copy.db" in said_so
        else:
            assert found in (expected, expected[: len(found)]), offset
            assert number % 4 == 0 or found == expected, offset
    assert refused > 50


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    plain = sqlite3.connect(path)
    plain.execute("CREATE TABLE theirs (x)")
    plain.commit()
    plain.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not of Loom"):
        await read(path)
    assert path.read_bytes() == before


async def test_a_newer_schema_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await fill(path)
    plain = sqlite3.connect(path)
    plain.execute("PRAGMA user_version = 99")
    plain.close()
    with pytest.raises(StoreError, match="upgrade") as caught:
        await read(path)
    assert not isinstance(caught.value, StoreCorrupted)


async def test_a_neighbour_that_holds_the_lock_is_a_retryable_error(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await fill(path)
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute("BEGIN IMMEDIATE")
    store = SqliteSessionStore(path, busy_timeout=0.02)
    with pytest.raises(StoreError, match="locked") as caught:
        await store.acquire("s2", owner="a", ttl=60)
    assert caught.value.retryable
    assert await store.head("s") == 42, "reading goes on"
    plain.execute("ROLLBACK")
    plain.close()
    await store.acquire("s2", owner="a", ttl=60)
    await store.aclose()


async def test_a_full_disk_is_not_saved_and_what_was_there_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    expected = [encode_event(event) for event in await fill(path)]
    store = SqliteSessionStore(path)
    lease = await store.acquire("s", owner="a", ttl=60)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = placed([said("x" * 500_000)], head=42)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        for _ in range(2):
            with pytest.raises(StoreError, match="not saved"):
                await store.append(lease, big)
            assert [encode_event(event) for event in await store.read("s")] == expected
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await store.append(lease, big)
    assert await store.head("s") == 43
    await store.aclose()
    assert len(await read(path)) == 43


async def test_one_refused_append_does_not_spoil_the_others_of_its_group(tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "s.db")
    leases = [await store.acquire(f"s{number}", owner="a", ttl=60) for number in range(20)]
    leases[7] = Lease("s7", "a", 999, 9e9)
    answers = await asyncio.gather(
        *(store.append(lease, placed([started()], session_id=lease.session_id)) for lease in leases),
        store.acquire("s3", owner="b", ttl=1),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None)] * 7 + [LeaseLost] + [type(None)] * 12 + [
        SessionBusy
    ]
    assert [await store.head(f"s{number}") for number in range(20)] == [1] * 7 + [0] + [1] * 12
    await store.aclose()


async def test_expiry_is_read_from_the_clock_given(tmp_path: Path) -> None:
    now = 1000.0
    store = SqliteSessionStore(tmp_path / "s.db", clock=lambda: now)
    lease = await store.acquire("s", owner="a", ttl=10)
    assert lease.expires_at == 1010.0
    now = 1009.0
    with pytest.raises(SessionBusy):
        await store.acquire("s", owner="b", ttl=10)
    now = 1010.0
    with pytest.raises(LeaseLost, match="expired"):
        await store.append(lease, placed([started()]))
    await store.aclose()


async def test_a_database_in_this_process_needs_no_file(tmp_path: Path) -> None:
    store = SqliteSessionStore(":memory:")
    store.save_session(SessionRecord("s"))
    assert [row.id for row in store.list_sessions()] == ["s"]
    await store.aclose()
    assert not Path(":memory:").exists()


# --- the write-ahead log ----------------------------------------------------------------------------------

TURNS = """
import asyncio, os, sys
from loom.store.sqlite import SqliteSessionStore
from loom.testing.store_contract.samples import finished, placed, said, started
store = SqliteSessionStore(sys.argv[1])
async def main():
    for number in range(int(sys.argv[2])):
        lease = await store.acquire("s", owner="a", ttl=60)
        await store.append(lease, placed([started(), said("x"), finished()], head=3 * number, run_id=f"run_{number}"))
        await store.release(lease)
asyncio.run(main())
os._exit(0)
"""


async def test_review_e5_a_removed_write_ahead_log_is_noticed(tmp_path: Path) -> None:
    """A process that dies right after its turns; then the file with them is removed, or the main file copied alone."""
    path = tmp_path / "s.db"
    for turns in (1, 2, 40):
        subprocess.run([sys.executable, "-c", TURNS, str(path), str(turns)], check=True)
        log = Path(f"{path}-wal")
        assert path.stat().st_size > 4096
        kept = log.read_bytes()
        for emptied in (False, True):
            log.unlink()
            if emptied:
                log.touch()
            Path(f"{path}-shm").unlink(missing_ok=True)
            before = path.read_bytes()
            store = SqliteSessionStore(path)
            with pytest.raises(StoreCorrupted, match="-wal is gone"):
                await store.read("s")
            await store.aclose()
            assert path.read_bytes() == before
            log.write_bytes(kept)
        store = SqliteSessionStore(path)
        assert len(await store.read("s")) == 3 * turns
        await store.aclose()
        assert not log.exists()
        assert len(await SqliteSessionStore(path).read("s")) == 3 * turns
        path.unlink()
        for name in tmp_path.iterdir():
            name.unlink()


async def test_review_e5_after_a_run_the_main_file_has_it(tmp_path: Path) -> None:
    """Merged soon after, with the store still open: the main file alone is a whole backup, and goes on as one."""
    path, alone = tmp_path / "s.db", tmp_path / "alone.db"
    desk = SqliteLog(str(path), lambda: 1000.0, 1.0)

    def turn(number: int) -> None:
        batch = placed([started(), finished()], head=2 * number, run_id=f"run_{number}")
        bodies = [encode_event(event) for event in batch]
        job = Job(lambda log: log.append(log.acquire("s", "a", 60.0), batch, bodies, ()), writes=True)
        desk.perform([job])
        assert job.error is None

    sizes = set()
    for number in range(30):
        turn(number)
        assert desk.patience is not None
        shutil.copy(path, alone)
        with pytest.raises(StoreCorrupted, match="-wal is gone"):
            SqliteLog(str(alone), lambda: 1000.0, 1.0)
        desk.rest()
        assert desk.patience is None
        shutil.copy(path, alone)
        copy = SqliteLog(str(alone), lambda: 1000.0, 1.0)
        assert len(copy.read("s", 0, None, None)) == 2 * number + 2
        copy.close()
        sizes.add(Path(f"{path}-wal").stat().st_size)
    assert max(sizes) < 200_000, "the log is begun anew after a merge"
    desk.close()


async def test_review_e5_a_merge_by_another_process_is_heeded(tmp_path: Path) -> None:
    path, alone = tmp_path / "s.db", tmp_path / "alone.db"
    one, two = (SqliteLog(str(path), lambda: 1000.0, 1.0) for _ in range(2))

    def save(desk: SqliteLog, name: str) -> None:
        job = Job(lambda log: log.save(SessionRecord(name)), writes=True)
        desk.perform([job])
        assert job.error is None

    for number in range(6):
        save(one, f"a{number}")
        save(two, f"b{number}")
        (one if number % 2 else two).rest()
        save(one if number % 3 else two, f"c{number}")
        shutil.copy(path, alone)
        with pytest.raises(StoreCorrupted, match="-wal is gone"):
            SqliteLog(str(alone), lambda: 1000.0, 1.0)
    assert len(one.list_sessions(None, False, None, None)) == 18
    one.close()
    two.close()
    last = SqliteLog(str(path), lambda: 1000.0, 1.0)
    assert len(last.list_sessions(None, False, None, None)) == 18
    last.close()


BESIDE = """
import os, sqlite3, sys
from loom.store.base import SessionRecord
from loom.store.sqlite import SqliteSessionStore
store = SqliteSessionStore(sys.argv[1])
store.save_session(SessionRecord("before"))
other = sqlite3.connect(sys.argv[1])
for number in range(int(sys.argv[3])):
    other.execute(f"PRAGMA wal_checkpoint({sys.argv[2]})").fetchall()
    store.save_session(SessionRecord(f"s{number}"))
os._exit(0)
"""


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
def test_review_e5_a_merge_by_another_program_is_heeded(tmp_path: Path, mode: str, times: int) -> None:
    """As a backup tool does, beside an open store: what is saved after it is in the log alone, and is missed."""
    path = tmp_path / "s.db"
    subprocess.run([sys.executable, "-c", BESIDE, str(path), mode, str(times)], check=True)
    kept = shutil.copytree(tmp_path, tmp_path / "kept") / "s.db"
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink()
    if not _missed(path):
        assert _names(path) == _names(kept), "lost, and nobody noticed"
    assert len(_names(kept)) == times + 1


def test_review_e5_a_merge_by_another_program_in_the_middle_of_a_commit_is_heeded(tmp_path: Path) -> None:
    """What is acknowledged is in the main file, or the main file says that it lacks something."""
    path, alone = tmp_path / "s.db", tmp_path / "alone.db"
    desk, other = SqliteLog(str(path), lambda: 1000.0, 1.0), sqlite3.connect(path)

    def save_and_merge(log: SqliteLog) -> None:
        log.save(SessionRecord("during"))
        other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    for work in (lambda log: log.save(SessionRecord("before")), save_and_merge):
        job = Job(work, writes=True)
        desk.perform([job])
        assert job.error is None
    shutil.copy(path, alone)
    if not _missed(alone):
        assert _names(alone) == ["before", "during"]
    other.close()
    desk.close()


def test_review_e5_a_merge_that_a_reader_holds_up_is_done_when_it_has_gone(tmp_path: Path) -> None:
    """A log is not said to be merged while somebody reads an older state, which keeps the rest out of the main file."""
    path, alone = tmp_path / "s.db", tmp_path / "alone.db"
    desk, reader = SqliteLog(str(path), lambda: 1000.0, 1.0), sqlite3.connect(path, isolation_level=None)

    def turn(number: int) -> None:
        batch = placed([started(), finished()], head=2 * number, run_id=f"run_{number}")
        bodies = [encode_event(event) for event in batch]
        job = Job(lambda log: log.append(log.acquire("s", "a", 60.0), batch, bodies, ()), writes=True)
        desk.perform([job])
        assert job.error is None

    turn(0)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    turn(1)
    desk.rest()
    assert desk.patience is not None
    reader.execute("COMMIT")
    desk.rest()
    assert desk.patience is None
    shutil.copy(path, alone)
    copy = SqliteLog(str(alone), lambda: 1000.0, 1.0)
    assert len(copy.read("s", 0, None, None)) == 4
    copy.close()
    reader.close()
    desk.close()


def test_review_e5_a_main_file_that_could_not_be_told_is_told_before_the_next_write(tmp_path: Path) -> None:
    """Somebody reads a state from before the log was begun anew: when that ends, the next write says it."""
    path, alone = tmp_path / "s.db", tmp_path / "alone.db"
    desk, reader = SqliteLog(str(path), lambda: 1000.0, 1.0), sqlite3.connect(path, isolation_level=None)

    def save(name: str) -> None:
        job = Job(lambda log: log.save(SessionRecord(name)), writes=True)
        desk.perform([job])
        assert job.error is None

    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    save("while it reads")
    reader.execute("COMMIT")
    save("after")
    shutil.copy(path, alone)
    assert _missed(alone)
    reader.close()
    desk.close()
    assert _names(path) == ["while it reads", "after"]


def test_review_e5_a_main_file_that_is_gone_is_not_a_new_store(tmp_path: Path) -> None:
    """Its log is left: SQLite would remove it with what it holds."""
    path = tmp_path / "s.db"
    subprocess.run([sys.executable, "-c", TURNS, str(path), "2"], check=True)
    log = Path(f"{path}-wal").read_bytes()
    for emptied in (False, True):
        path.unlink(missing_ok=True)
        if emptied:
            path.touch()
        with pytest.raises(StoreCorrupted, match="is gone, and its write-ahead log"):
            SqliteLog(str(path), lambda: 1000.0, 1.0)
        assert Path(f"{path}-wal").read_bytes() == log


def _missed(path: Path) -> bool:
    try:
        SqliteLog(str(path), lambda: 1000.0, 1.0).close()
    except StoreCorrupted as error:
        return "-wal is gone" in str(error)
    return False


def _names(path: Path) -> list[str]:
    desk = SqliteLog(str(path), lambda: 1000.0, 1.0)
    rows = desk.list_sessions(None, False, None, None)
    desk.close()
    return [row.id for row in rows]


async def test_review_e5_one_may_go_on_without_the_log_as_the_docs_say(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    subprocess.run([sys.executable, "-c", TURNS, str(path), "2"], check=True)
    Path(f"{path}-wal").unlink()
    with sqlite3.connect(path) as plain:
        plain.execute("UPDATE witness SET ahead = 0")
    plain.close()
    store = SqliteSessionStore(path)
    store.save_session(SessionRecord("after"))
    assert store.load_session("after") is not None
    await store.aclose()
