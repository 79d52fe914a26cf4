"""What is special about the store in one file: its lines, its lock, damage, a full disk, compaction."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loom.errors import LeaseLost, SessionBusy, StoreCorrupted, StoreError
from loom.events import Event, encode_event
from loom.signals import RuntimeSignal
from loom.store.base import Lease, RunRecord, SessionRecord, TranscriptRecord
from loom.store.file import FileLog, FileSessionStore
from loom.store.linefile import LineFile
from loom.store.lines import seal, unseal
from loom.store.writer import Job
from loom.testing.store_contract.samples import finished, opened, placed, said, started


class Desk:
    """A ``FileLog`` used directly, without its thread."""

    def __init__(self, path: Path, sync: Callable[[int], None] = os.fsync, now: float = 1000.0) -> None:
        self.now = now
        self.log = FileLog(LineFile(path, lock_timeout=0.05, sync=sync), lambda: self.now)

    def do(self, work: Callable[[FileLog], Any], *, writes: bool = False) -> Any:
        job = Job(work, writes=writes)
        self.log.perform([job])
        if job.error is not None:
            raise job.error
        return job.result

    def acquire(self, ttl: float = 60.0, owner: str = "a") -> Lease:
        return self.do(lambda log: log.acquire("s", owner, ttl), writes=True)

    def append(self, lease: Lease, *events: Event, taken: tuple[str, ...] = ()) -> None:
        ready = placed(events, head=self.do(lambda log: log.head("s")))
        bodies = [encode_event(event) for event in ready]
        self.do(lambda log: log.append(lease, ready, bodies, taken), writes=True)

    def seqs(self) -> list[int]:
        return [event.seq for event in self.do(lambda log: log.read("s", 0, None, None))]

    def texts(self) -> list[bytes]:
        return [encode_event(event) for event in self.do(lambda log: log.read("s", 0, None, None))]


def attempt(read: Callable[[], list[bytes]]) -> tuple[list[bytes] | None, str]:
    try:
        return read(), ""
    except StoreCorrupted as error:
        return None, str(error)


BATCHES = ([started()], [said("one"), said("two")], [opened("r")], [said("three")])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.json"
    desk = Desk(path)
    desk.do(lambda log: log.save(SessionRecord("s")), writes=True)
    lease = desk.acquire()
    for batch in BATCHES:
        desk.append(lease, *batch)
    desk.log.close()
    return path


def test_every_line_is_json_and_the_file_is_its_owners(written: Path) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["record"]["kind"] for line in lines] == ["header", "session", "lease"] + [
        "events"
    ] * 4
    assert all(line.endswith(b"\n") for line in lines)
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(f"{written}.lock").stat().st_mode) == 0o600


def test_an_append_writes_as_much_at_the_end_of_a_long_log(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "s.json", sync=lambda fd: None)
    lease = desk.acquire()
    sizes = []
    for number in range(1000, 2000):
        before = (tmp_path / "s.json").stat().st_size
        desk.append(lease, said(str(number)))
        sizes.append((tmp_path / "s.json").stat().st_size - before)
    assert max(sizes[100:]) - min(sizes[100:]) <= 1  # seqs 100 to 1000: one digit more
    assert desk.seqs() == list(range(1, 1001))


def test_cut_at_every_byte_the_intact_batches_remain(written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    sizes = [0, 0, 0, *(sum(map(len, BATCHES[: number + 1])) for number in range(len(BATCHES)))]
    for size in range(len(whole)):
        path = tmp_path / f"cut{size}.json"
        path.write_bytes(whole[:size])
        desk = Desk(path, sync=lambda fd: None)
        complete = sum(end <= size for end in ends)
        expected = list(range(1, sizes[complete - 1] + 1)) if complete else []
        assert desk.seqs() == expected
        assert path.read_bytes() == whole[:size], "reading must not change the file"
        lease = desk.acquire(owner="a")
        desk.append(lease, said("after"))
        assert desk.seqs() == [*expected, len(expected) + 1]
        desk.log.close()
        again = Desk(path)
        assert again.seqs() == [*expected, len(expected) + 1]
        again.log.close()
        path.unlink()


def test_a_flipped_bit_is_noticed_and_the_file_left_alone(written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    original = Desk(written).texts()
    path = tmp_path / "flipped.json"
    noticed = 0
    for number, offset in enumerate(range(0, len(whole), max(len(whole) // 400, 1))):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << (number % 8)
        path.write_bytes(damaged)
        desk = Desk(path)
        found, said_so = attempt(desk.texts)
        if found is None:
            noticed += 1
            assert re.search(r"flipped\.json, line \d+", said_so)
            with pytest.raises(StoreCorrupted):
                desk.acquire()
        else:
            assert found == original[: len(found)]
            assert offset >= whole.rindex(b"\n", 0, -1), "only an unfinished tail may be passed over"
        assert path.read_bytes() == damaged
        desk.log.close()
    assert noticed > 390


@pytest.mark.parametrize("change", ["remove", "double", "swap"])
def test_whole_lines_that_are_gone_doubled_or_moved_are_noticed(written: Path, change: str) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    for at in range(1, len(lines) - 1):
        if change == "remove":
            damaged = lines[:at] + lines[at + 1 :]
        elif change == "double":
            damaged = [*lines[:at], lines[at], *lines[at:]]
        else:
            damaged = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
        written.write_bytes(b"".join(damaged))
        with pytest.raises(StoreCorrupted, match=f"line {at + 1 if change != 'double' else at + 2} "):
            Desk(written).seqs()
        assert written.read_bytes() == b"".join(damaged)


@pytest.mark.parametrize(
    "content",
    [
        b'{"sessions": {}, "runs": {}, "transcripts": {}}',
        b'{\n  "runs": {},\n  "sessions": {}\n}\n',
        b"[]\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\0" * 4096,
        b"hello",
        b"\n",
        b"SQLite format 3\0" + b"\0" * 100,
        "caf\u00e9".encode("latin-1"),
    ],
)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.json"
    path.write_bytes(content)
    desk = Desk(path)
    for ask in (desk.seqs, desk.acquire):
        with pytest.raises(StoreCorrupted, match=r"foreign\.json"):
            ask()
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 40, b'{"crc":'])
def test_a_file_that_was_only_just_begun_is_a_new_store(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    desk = Desk(path)
    assert desk.seqs() == []
    assert path.read_bytes() == content
    desk.append(desk.acquire(), said("x"))
    assert Desk(path).seqs() == [1]


def test_blocks_that_a_power_cut_left_empty_are_an_unfinished_tail(written: Path) -> None:
    whole = written.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    Path(f"{written}.lock").write_bytes(b"")  # the mark is written after the line, so it was not there either
    for start, end in (
        (last, len(whole)),
        (last, last + 50),
        (last + 30, last + 60),
        (last + 40, len(whole)),
    ):
        written.write_bytes(whole[:start] + b"\0" * (end - start) + whole[end:])
        Path(f"{written}.lock").write_bytes(b"")
        desk = Desk(written)
        assert desk.seqs() == [1, 2, 3, 4]
        desk.append(desk.acquire(), said("again"))
        assert Desk(written).seqs() == [1, 2, 3, 4, 5]
    # The same holes anywhere else are damage.
    Path(f"{written}.lock").write_bytes(b"")
    written.write_bytes(whole[: last - 60] + b"\0" * 30 + whole[last - 30 :])
    with pytest.raises(StoreCorrupted):
        Desk(written).seqs()


def test_a_file_of_a_newer_version_asks_for_an_upgrade(written: Path) -> None:
    from loom.store.lines import seal

    content = seal(b'{"kind":"header","format":"loom-sessions","version":99}', 0)[0]
    written.write_bytes(content)
    with pytest.raises(StoreError, match="upgrade") as caught:
        Desk(written).seqs()
    assert not isinstance(caught.value, StoreCorrupted)


def test_damage_after_reading_is_noticed_when_it_is_read(written: Path) -> None:
    desk = Desk(written)
    assert len(desk.seqs()) == 5
    damaged = written.read_bytes().replace(b"two", b"2wo")
    with written.open("r+b") as stream:
        stream.write(damaged)
    with pytest.raises(StoreCorrupted, match="line 5 "):
        desk.seqs()
    with written.open("r+b") as stream:
        stream.truncate(100)
    with pytest.raises(StoreCorrupted, match="shorter"):
        desk.seqs()


def test_a_failing_sync_is_not_saved_and_does_not_show_up_later(tmp_path: Path) -> None:
    path, failing = tmp_path / "s.json", False

    def sync(fd: int) -> None:
        if failing:
            raise OSError(errno.EIO, "the disk is gone")
        os.fsync(fd)

    desk = Desk(path, sync=sync)
    lease = desk.acquire()
    desk.append(lease, started())
    before = path.read_bytes()
    failing = True
    with pytest.raises(StoreError, match="not saved"):
        desk.append(lease, said("lost"))
    assert path.read_bytes() == before
    assert desk.seqs() == [1]
    failing = False
    desk.append(lease, said("kept"))
    assert Desk(path).seqs() == [1, 2]
    assert b"lost" not in path.read_bytes()


def test_a_full_disk_is_not_saved_and_what_was_there_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    desk = Desk(path)
    lease = desk.acquire()
    desk.append(lease, started())
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for room in (0, 1, 100, 5000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
            with pytest.raises(StoreError, match="not saved"):
                desk.append(lease, said("x" * 6000))
            assert desk.seqs() == [1]
            assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    desk.append(lease, said("x" * 6000))
    assert Desk(path).seqs() == [1, 2]


def test_one_refused_job_does_not_spoil_the_others_of_its_group(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "s.json")
    lease = desk.acquire()
    ready = placed([started()])
    bodies = [encode_event(event) for event in ready]
    jobs = [
        Job(lambda log: log.append(Lease("s", "a", 99, 9e9), ready, bodies, ()), writes=True),
        Job(lambda log: log.append(lease, ready, bodies, ()), writes=True),
        Job(lambda log: log.append(lease, ready, bodies, ()), writes=True),
        Job(lambda log: log.acquire("s", "b", 1.0), writes=True),
    ]
    desk.log.perform(jobs)
    assert [type(job.error) for job in jobs] == [LeaseLost, type(None), StoreError, SessionBusy]
    assert Desk(tmp_path / "s.json").seqs() == [1]


def test_a_lock_held_too_long_is_a_retryable_error(written: Path) -> None:
    desk = Desk(written)
    with Path(f"{written}.lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for ask in (desk.seqs, desk.acquire):
            with pytest.raises(StoreError, match="locked") as caught:
                ask()
            assert caught.value.retryable
        fcntl.flock(other, fcntl.LOCK_UN)
    assert len(desk.seqs()) == 5


def test_a_removed_lock_file_is_made_anew(written: Path) -> None:
    one, two = Desk(written), Desk(written)
    lease = one.acquire()
    Path(f"{written}.lock").unlink()
    one.append(lease, said("a"))
    assert two.seqs() == one.seqs()


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(StoreError):
            Desk(tmp_path / name).acquire()


async def test_reading_makes_nothing_and_folders_are_made_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "s.json"
    store = FileSessionStore(path, create_dirs=False)
    assert store.load_session("s") is None
    assert await store.read("s") == []
    with pytest.raises(StoreError, match="not saved"):
        store.save_session(SessionRecord("s"))
    await store.aclose()
    assert list(tmp_path.iterdir()) == []
    store = FileSessionStore(path)
    assert await store.head("s") == 0
    assert list(tmp_path.iterdir()) == []
    store.save_session(SessionRecord("s"))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await store.aclose()


def test_expiry_is_read_from_the_clock_given(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "s.json", now=1000.0)
    lease = desk.acquire(ttl=10.0)
    desk.now = 1009.9
    with pytest.raises(SessionBusy):
        desk.acquire(owner="b")
    desk.append(lease, started())
    desk.now = 1010.0
    with pytest.raises(LeaseLost, match="expired"):
        desk.append(lease, said("late"))
    assert desk.acquire(owner="b").token > lease.token


async def test_compaction_keeps_what_counts_and_others_notice(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    store, other = FileSessionStore(path), FileSessionStore(path)
    kept, gone = RuntimeSignal.create("kept"), RuntimeSignal.create("gone", dedupe_key="k")
    for name in ("b", "a", "deleted"):
        store.save_session(SessionRecord(name))
        for number in range(5):
            store.save_run(RunRecord(f"old_{name}", name, f"state {number}"))
        lease = await store.acquire(name, owner="o", ttl=60)
        await store.offer(name, kept)
        await store.offer(name, gone)
        run = placed([started(), opened(f"r_{name}")], run_id=f"run_{name}", session_id=name)
        await store.append(lease, run, taken=[gone.id])
    await store.append(
        await store.acquire("b", owner="o", ttl=60), placed([finished()], head=2, run_id="run_b")
    )
    last = await store.acquire("a", owner="o", ttl=60)
    assert await other.head("deleted") == 2
    store.delete_session("deleted")

    async def everything(one: FileSessionStore) -> list[Any]:
        return [
            one.list_sessions(),
            one.list_runs(),
            [await one.read(name) for name in ("a", "b", "deleted")],
            [await one.inbox(name) for name in ("a", "b")],
            [await one.open_requests(name) for name in ("a", "b")],
            [await one.unfinished_runs(name) for name in ("a", "b")],
        ]

    before, size = await everything(store), path.stat().st_size
    Path(f"{path}.new").write_text("left by a compaction that was killed")
    await store.compact()
    assert path.stat().st_size < size
    assert b"deleted" not in path.read_bytes()
    assert not Path(f"{path}.new").exists()
    assert await everything(store) == before
    assert await everything(other) == before
    assert not await other.offer("a", RuntimeSignal.create("again", dedupe_key="k"))
    with pytest.raises(SessionBusy):
        await other.acquire("a", owner="somebody else", ttl=60)
    await other.append(last, placed([said("x")], head=2, session_id="a"))
    assert (await other.acquire("a", owner="o", ttl=60)).token > last.token
    assert await store.head("a") == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.aclose()
    await other.aclose()


# --- what is gone -----------------------------------------------------------------------------------------


def test_review_e4_last_lines_that_are_gone_are_missed(written: Path) -> None:
    """Cut anywhere, between lines or in one: what was acknowledged must be there, whoever looks."""
    whole = written.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for size in [0, *ends[:-1], *(end - 7 for end in ends)]:
        written.write_bytes(whole[:size])
        desk = Desk(written)
        for ask in (desk.seqs, desk.acquire):
            with pytest.raises(StoreCorrupted, match=r"sessions\.json was written up to byte"):
                ask()
        assert written.read_bytes() == whole[:size]
        desk.log.close()
    written.write_bytes(whole)
    assert len(Desk(written).seqs()) == 5


def test_review_e4_a_replaced_last_line_is_noticed(written: Path) -> None:
    """A line of the same length that fits the one before it, in place of the one that was acknowledged."""
    whole = written.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    before = int(whole[whole.rindex(b"\n", 0, start - 1) + 1 :][8:16], 16)
    record = unseal(whole[start:], before)[0].replace(b"three", b"seven")
    written.write_bytes(whole[:start] + seal(record, before)[0])
    with pytest.raises(StoreCorrupted):
        Desk(written).seqs()


def test_review_e4_what_was_not_made_durable_may_be_gone(written: Path) -> None:
    """A lease is not synced, so a power cut may take it; nothing that was acknowledged goes with it."""
    desk, size = Desk(written), written.stat().st_size
    desk.acquire()
    desk.log.close()
    for left in (size, size + 9):
        with written.open("r+b") as stream:
            stream.truncate(left)
        assert Desk(written).seqs() == [1, 2, 3, 4, 5]


def test_review_e4_a_mark_that_cannot_be_read_is_damage_and_none_is_none(written: Path) -> None:
    lock = Path(f"{written}.lock")
    mark = lock.read_bytes()
    for bit in range(0, len(mark) * 8, 3):
        changed = bytearray(mark)
        changed[bit // 8] ^= 1 << (bit % 8)
        lock.write_bytes(changed)
        with pytest.raises(StoreCorrupted, match=r"\.lock"):
            Desk(written).seqs()
    for none in (b"", b"\0" * len(mark)):
        lock.write_bytes(none)
        desk = Desk(written)
        desk.append(desk.acquire(), said("more"))
        assert lock.read_bytes() != none
        written.write_bytes(written.read_bytes()[:-5])
        with pytest.raises(StoreCorrupted):
            Desk(written).seqs()
        desk.log.close()
        written.write_bytes(written.read_bytes())
        lock.write_bytes(b"")


async def test_review_e4_a_compaction_moves_the_mark_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    store = FileSessionStore(path)
    for _ in range(20):
        store.save_session(SessionRecord("s", {"text": "x" * 100}))
    await store.compact()
    await store.aclose()
    assert [row.id for row in FileSessionStore(path).list_sessions()] == ["s"]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreCorrupted):
        FileSessionStore(path).list_sessions()
    path.unlink()
    Path(f"{path}.lock").unlink()
    fresh = FileSessionStore(path)
    fresh.save_session(SessionRecord("new"))
    assert [row.id for row in fresh.list_sessions()] == ["new"]


def test_review_e4_a_file_that_is_gone_is_not_a_new_store(written: Path) -> None:
    """Whoever looks, whether it had the file open or not; without the mark it is a new one."""
    whole, lock = written.read_bytes(), Path(f"{written}.lock")
    before, mark = Desk(written), lock.read_bytes()
    assert len(before.seqs()) == 5
    written.unlink()
    for desk in (before, Desk(written)):
        for ask in (desk.seqs, desk.acquire):
            with pytest.raises(StoreCorrupted, match=r"is gone.*remove .*sessions\.json\.lock"):
                ask()
        assert not written.exists()
    lock.write_bytes(mark[:-1] + b"x")
    with pytest.raises(StoreCorrupted, match="mark that cannot be read"):
        Desk(written).acquire()
    lock.write_bytes(mark)
    written.write_bytes(whole)
    assert len(before.seqs()) == 5
    written.unlink()
    lock.unlink()
    fresh = Desk(written)
    assert fresh.seqs() == []
    fresh.append(fresh.acquire(), said("anew"))
    assert fresh.seqs() == [1]


# --- what cannot be read ----------------------------------------------------------------------------------

SPOILT: list[Any] = [
    None,
    -1,
    1 << 70,
    1e300,
    "",
    "\x00",
    [],
    {},
    [[]],
    {"id": 1},
    [{"type": "run.started", "seq": {}}],
]


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything inside a record."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for key, one in inside for way in places_in(one, (*path, key)))]


def spoil(record: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    changed = dict(record) if isinstance(record, dict) else list(record)
    changed[way[0]] = spoil(record[way[0]], way[1:], value)
    return changed


def test_review_e6_whatever_a_line_says_is_an_answer_or_damage(tmp_path: Path) -> None:
    """Lines whose checksums fit, with nonsense in any place of any kind of record; and outputs cut short."""
    path = tmp_path / "s.json"
    desk = Desk(path)
    desk.do(lambda log: log.save(SessionRecord("s", {"a": 1})), writes=True)
    desk.do(lambda log: log.save(RunRecord("old", "s", "completed")), writes=True)
    desk.do(lambda log: log.save(TranscriptRecord("old", "s", "hi")), writes=True)
    desk.do(lambda log: log.offer("s", RuntimeSignal.create("x", dedupe_key="k"), 60.0), writes=True)
    desk.append(desk.acquire(), started(), opened("r"))
    desk.log.close()
    records = [json.loads(line)["record"] for line in path.read_bytes().splitlines()]
    records.append({"kind": "carried", "token": 3, "seen": {"s": [["k", 1.0, 2.0]]}})
    luck, wrong = random.Random(7), []
    for number, record in enumerate(records[1:], start=1):
        for way in places_in(record):
            value = luck.choice(SPOILT)
            changed = [*records[:number], spoil(record, way, value), *records[number + 1 :]]
            content, crc = b"", 0
            for one in changed:
                line, crc = seal(json.dumps(one, separators=(",", ":")).encode(), crc)
                content += line
            path.write_bytes(content)
            Path(f"{path}.lock").unlink()
            wrong += [f"line {number}, {way} = {value!r}: {said}" for said in raised_otherwise(path)]
    assert wrong == []


def raised_otherwise(path: Path) -> list[str]:
    asks: list[Callable[[FileLog], Any]] = [
        lambda log: log.read("s", 0, None, None),
        lambda log: log.read("s", 0, "run_1", None),
        lambda log: log.open_requests("s"),
        lambda log: log.inbox("s"),
        lambda log: log.list_runs(None, None, None),
        lambda log: log.list_sessions(None, True, None, None),
        lambda log: log.list_transcripts(None),
        lambda log: log.acquire("s", "b", 1.0),
    ]
    desk, wrong = Desk(path, sync=lambda fd: None), []
    for ask in asks:
        try:
            desk.do(ask, writes=ask is asks[-1])
        except StoreError:
            continue
        except Exception as error:
            wrong.append(repr(error))
    desk.log.close()
    return wrong


# --- guards -----------------------------------------------------------------------------------------------


def test_review_l_an_append_is_synced_in_whatever_group_it_is(tmp_path: Path) -> None:
    """Before or after a renewal, a release or a lease of another session; these alone are not synced."""
    synced: list[int] = []
    desk = Desk(tmp_path / "s.json", sync=synced.append)
    lease = desk.acquire()
    assert len(synced) == 1, "the header of a new file"
    calm: list[Callable[[FileLog], Any]] = [
        lambda log: log.renew(lease, 60.0),
        lambda log: log.acquire("other", "b", 1.0),
    ]

    def perform(*work: Callable[[FileLog], Any]) -> int:
        before, jobs = len(synced), [Job(one, writes=True) for one in work]
        desk.log.perform(jobs)
        assert [job.error for job in jobs] == [None] * len(jobs)
        return len(synced) - before

    def append(log: FileLog) -> None:
        batch = placed([said("x")], head=log.head("s"))
        log.append(lease, batch, [encode_event(event) for event in batch], ())

    assert perform(*calm) == 0
    for group in ([append, *calm], [*calm, append], [calm[0], append, calm[1]], [append]):
        assert perform(*group) == 1
    assert perform(*calm) == 0
    assert perform(lambda log: log.offer("s", RuntimeSignal.create("x"), 1.0), *calm) == 1
    assert perform(*calm, lambda log: log.save(SessionRecord("s"))) == 1
