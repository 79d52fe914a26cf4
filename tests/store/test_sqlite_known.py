"""What a database store saves itself: statements that would say what is known, and syncs that nobody needs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loom.errors import LeaseLost, SessionBusy, StoreError
from loom.events import encode_event
from loom.signals import RuntimeSignal
from loom.store.base import Lease, RunRecord, SessionRecord
from loom.store.sqlite import SqliteLog, SqliteSessionStore
from loom.store.sqliteknown import MOST_KNOWN
from loom.store.sqlitemerge import MOST_GROUPS
from loom.store.writer import Job
from loom.testing.store_contract.samples import answered, finished, opened, placed, started


def done(desk: SqliteLog, work: Callable[[SqliteLog], Any], *, sync: bool = True) -> Any:
    job = Job(work, writes=True, sync=sync)
    desk.perform([job])
    if job.error is not None:
        raise job.error
    return job.result


def test_a_log_that_never_rests_is_merged_when_it_is_large(tmp_path: Path) -> None:
    path, alone = tmp_path / "s.db", tmp_path / "alone.db"
    desk = SqliteLog(str(path), lambda: 1000.0, 1.0)
    whole, sizes = 0, []
    for number in range(3 * MOST_GROUPS):
        done(desk, lambda log, n=number: log.save(SessionRecord("s", {"n": n})))
        sizes.append(Path(f"{path}-wal").stat().st_size)
        if number > MOST_GROUPS and not whole:
            shutil.copy(path, alone)
            with sqlite3.connect(alone) as plain:
                (whole,) = plain.execute("SELECT count(*) FROM sessions").fetchone()
            plain.close()
    assert whole == 1
    assert max(sizes[MOST_GROUPS + 2 :]) <= max(sizes[: MOST_GROUPS + 2])
    desk.close()


def test_leases_are_not_synced_and_all_else_is(tmp_path: Path) -> None:
    desk = SqliteLog(str(tmp_path / "s.db"), lambda: 1000.0, 1.0)

    def level(log: SqliteLog) -> int:
        return log._rows.number("PRAGMA synchronous")

    full, normal = 2, 1
    assert [done(desk, level, sync=sync) for sync in (True, False, True, False, True)] == [
        full, normal, full, normal, full,
    ]  # fmt: skip
    mixed = [Job(level, writes=True, sync=sync) for sync in (False, True)]
    desk.perform(mixed)
    assert [job.result for job in mixed] == [full, full]
    done(desk, level, sync=False)
    desk.rest()
    assert desk._rows.number("PRAGMA synchronous") == full
    desk.close()


async def test_the_operations_on_leases_say_that_they_need_not_be_synced(tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "s.db")
    asked: list[bool] = []
    put = store._writer._put
    store._writer._put = lambda job: (asked.append(job.sync), put(job))[1]  # type: ignore[method-assign]
    lease = await store.acquire("s", owner="a", ttl=60)
    await store.renew(lease, ttl=60)
    await store.append(lease, placed([started()]))
    await store.offer("s", RuntimeSignal.create("x"))
    await store.keep_output("s", "out_1", "text")
    await store.release(lease)
    store.save_session(SessionRecord("s"))
    store.delete_session("s")
    await store.aclose()
    assert asked == [False, False, True, True, True, False, True, True]


def test_a_first_job_that_fails_leaves_a_file_that_can_be_opened(tmp_path: Path) -> None:
    """The main file says that it lacks something before the job; closing removes the log that says otherwise."""
    path = tmp_path / "s.db"
    SqliteLog(str(path), lambda: 1000.0, 1.0).close()
    desk = SqliteLog(str(path), lambda: 1000.0, 1.0)
    with pytest.raises(LeaseLost):
        done(desk, lambda log: log.renew(Lease("s", "a", 1, 0.0), 1.0))
    desk.close()
    again = SqliteLog(str(path), lambda: 1000.0, 1.0)
    done(again, lambda log: log.save(SessionRecord("s")))
    again.close()


def test_what_another_connection_wrote_is_heeded_at_once(tmp_path: Path) -> None:
    """A connection knows what it wrote itself; not longer than until somebody else writes."""
    path = str(tmp_path / "s.db")
    one, two = (SqliteLog(path, lambda: 1000.0, 1.0) for _ in range(2))
    lease = done(one, lambda log: log.acquire("s", "a", 60.0))
    first = placed([started(), opened("r")])
    done(one, lambda log: log.append(lease, first, [encode_event(e) for e in first], ()))
    taken = done(two, lambda log: log.acquire("s", "b", 60.0, "a"))
    assert (taken.token, taken.head) == (lease.token + 1, 2)
    with pytest.raises(LeaseLost):
        done(one, lambda log: log.renew(lease, 60.0))
    more = placed([answered("r")], head=2)
    done(two, lambda log: log.append(taken, more, [encode_event(e) for e in more], ()))
    with pytest.raises(SessionBusy):
        done(one, lambda log: log.acquire("s", "a", 60.0))
    assert done(one, lambda log: log.head("s")) == 3
    assert done(one, lambda log: log.open_requests("s")) == []
    done(two, lambda log: log.release(taken))
    back = done(one, lambda log: log.acquire("s", "a", 60.0))
    assert (back.token, back.head) == (taken.token + 1, 3)
    done(two, lambda log: log.save(RunRecord("run_1", "s", "running", metadata={"by": "two"})))
    last = placed([finished()], head=3)
    done(one, lambda log: log.append(back, last, [encode_event(e) for e in last], ()))
    assert done(two, lambda log: log.load_run("run_1")).metadata == {"by": "two"}
    done(two, lambda log: log.delete_session("s"))
    assert done(one, lambda log: (log.head("s"), log.load_run("run_1"))) == (0, None)
    one.close()
    two.close()


@pytest.mark.parametrize("company", [False, True])
def test_what_a_failed_job_wrote_is_not_known(tmp_path: Path, company: bool) -> None:
    """Alone the whole transaction is taken back; in company only what the job wrote."""
    desk = SqliteLog(str(tmp_path / "s.db"), lambda: 1000.0, 1.0)

    def fail(log: SqliteLog) -> None:
        lease = log.acquire("s", "a", 60.0)
        batch = placed([started()])
        log.append(lease, batch, [encode_event(e) for e in batch], ())
        raise StoreError("no")

    other = [Job(lambda log: log.save(SessionRecord("t")), writes=True)] if company else []
    jobs = [Job(fail, writes=True), *other]
    desk.perform(jobs)
    assert [type(job.error) for job in jobs] == [StoreError, *(type(None) for _ in other)]
    lease = done(desk, lambda log: log.acquire("s", "b", 60.0))
    assert (lease.token, lease.head) == (1, 0)
    batch = placed([started()])
    done(desk, lambda log: log.append(lease, batch, [encode_event(e) for e in batch], ()))
    assert len(done(desk, lambda log: log.read("s", 0, None, None))) == 1
    assert (done(desk, lambda log: log.load_session("t")) is not None) == company
    desk.close()


def test_what_is_known_is_bounded(tmp_path: Path) -> None:
    desk = SqliteLog(str(tmp_path / "s.db"), lambda: 1000.0, 1.0)
    for number in range(MOST_KNOWN + 10):
        done(desk, lambda log, n=number: log.acquire(f"s{n}", "a", 60.0))
        done(desk, lambda log, n=number: log.save(SessionRecord(f"s{n}")))
    known = desk._rows.known
    assert max(len(known.leases), len(known.tallies)) <= MOST_KNOWN + 1
    desk.close()


@pytest.mark.parametrize("new", [True, False])
def test_a_connection_trusts_no_schema_and_no_page(tmp_path: Path, new: bool) -> None:
    path = str(tmp_path / "s.db")
    if not new:
        SqliteLog(path, lambda: 1000.0, 1.0).close()
    desk = SqliteLog(path, lambda: 1000.0, 1.0)
    asked = ("trusted_schema", "cell_size_check", "secure_delete", "synchronous", "wal_autocheckpoint")
    assert [desk._rows.number(f"PRAGMA {name}") for name in asked] == [0, 1, 2, 2, 0]
    desk.close()
