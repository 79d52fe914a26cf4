"""Damage to a database: what is gone is missed, what cannot be read is said so, whatever part it is."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loom.errors import StoreCorrupted, StoreError
from loom.events import ChildStarted, Event, encode_event
from loom.signals import RuntimeSignal
from loom.store import schema, sqlite, sqlitemerge
from loom.store.base import RunRecord, SessionRecord, TranscriptRecord
from loom.store.records import encode_row
from loom.store.schema import APPLICATION_ID, MIGRATIONS
from loom.store.sqlite import SqliteLog
from loom.store.sqlitemerge import has_log
from loom.store.sqlitetally import DIGEST_SIZE
from loom.store.writer import Job
from loom.testing.store_contract.samples import answered, finished, opened, placed, said, started

Ask = Callable[[SqliteLog], Any]


class Desk:
    """A ``SqliteLog`` used directly, without its thread."""

    def __init__(self, path: Path) -> None:
        self.log = SqliteLog(str(path), lambda: 1000.0, 0.1)

    def do(self, work: Ask, *, writes: bool = False) -> Any:
        job = Job(work, writes=writes)
        self.log.perform([job])
        if job.error is not None:
            raise job.error
        return job.result


def fill(path: Path, sessions: int = 2, events: int = 80) -> None:
    desk = Desk(path)
    for number in range(sessions):
        name, run = f"s{number}", f"run_{number}"
        desk.do(lambda log, name=name: log.save(SessionRecord(name, {"n": 1})), writes=True)
        lease = desk.do(lambda log, name=name: log.acquire(name, "a", 60.0), writes=True)
        batch: list[Event] = [
            started(),
            *(said("x" * 120) for _ in range(events - 3)),
            opened("r"),
            opened("q"),
        ]
        for at in range(0, len(batch), 5):
            ready = placed(batch[at : at + 5], head=at, run_id=run, session_id=name)
            bodies = [encode_event(event) for event in ready]
            desk.do(lambda log, held=lease, r=ready, b=bodies: log.append(held, r, b, ()), writes=True)
        for n in range(3):
            signal = RuntimeSignal(
                id=f"sig{n}", source="x", summary="hi", dedupe_key=f"k{n}", observed_at=1.0
            )
            desk.do(lambda log, name=name, s=signal: log.offer(name, s, 60.0), writes=True)
            desk.do(
                lambda log, name=name, n=n: log.keep_output(name, f"out_{n}", b"text %d" % n, 1000),
                writes=True,
            )
        desk.do(lambda log, name=name: log.save(TranscriptRecord(f"t{name}", name, "hi")), writes=True)
        desk.do(lambda log, name=name: log.save(RunRecord(f"old{name}", name, "completed")), writes=True)
    desk.log.close()


def _whole(log: SqliteLog) -> Any:
    return [encode_event(event) for event in log.read("s1", 0, None, None)]


ASKS: dict[str, Ask] = {
    "read": _whole,
    "read on": lambda log: [encode_event(e) for e in log.read("s1", 40, None, None)],
    "read run": lambda log: [encode_event(e) for e in log.read("s1", 0, "run_1", None)],
    "read some": lambda log: [encode_event(e) for e in log.read("s1", 70, None, 5)],
    "head": lambda log: log.head("s1"),
    "unfinished": lambda log: log.unfinished_runs("s1"),
    "find": lambda log: log.find_run("run_1"),
    "requests": lambda log: log.open_requests("s1"),
    "inbox": lambda log: log.inbox("s1"),
    "outputs": lambda log: [log.read_output("s1", f"out_{n}") for n in range(3)],
    "session": lambda log: log.load_session("s1"),
    "sessions": lambda log: log.list_sessions(None, False, None, None),
    "run": lambda log: log.load_run("run_1"),
    "runs": lambda log: log.list_runs(None, None, None),
    "its runs": lambda log: log.list_runs("s1", None, None),
    "transcript": lambda log: log.load_transcript("ts1"),
    "transcripts": lambda log: log.list_transcripts("s1"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "s.db"
    fill(path)
    return path


@pytest.fixture(scope="module")
def answers(sound: Path) -> dict[str, Any]:
    desk = Desk(sound)
    found = {name: desk.do(ask) for name, ask in ASKS.items()}
    desk.log.close()
    return found


def wrong_answers(path: Path, answers: dict[str, Any]) -> list[str]:
    """What a damaged database answers otherwise than it did before, without saying that it is damaged."""
    wrong: list[str] = []
    try:
        desk = Desk(path)
    except StoreError:
        return []
    for name, ask in ASKS.items():
        try:
            if desk.do(ask) != answers[name]:
                wrong.append(name)
        except StoreCorrupted as error:
            wrong += [] if str(path) in str(error) else [f"{name} does not name the file"]
    desk.log.close()
    return wrong


def pages(path: Path) -> dict[str, list[int]]:
    """The pages of every tree, its root first, by name."""
    with sqlite3.connect(path) as plain:
        roots = dict(plain.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
    plain.close()
    content, found = path.read_bytes(), {}
    for name, root in roots.items():
        found[name], todo = [], [root]
        while todo:
            page = todo.pop()
            found[name].append(page)
            at = (page - 1) * 4096 + (100 if page == 1 else 0)
            if content[at] in (2, 5):
                count = int.from_bytes(content[at + 3 : at + 5], "big")
                cells = [int.from_bytes(content[at + 12 + 2 * n :][:2], "big") for n in range(count)]
                todo += [int.from_bytes(content[(page - 1) * 4096 + cell :][:4], "big") for cell in cells]
                todo.append(int.from_bytes(content[at + 8 : at + 12], "big"))
    return found


def flip(whole: bytes, page: int, bit: int) -> bytes:
    """One bit of a page's head, which says what kind of page it is, how many rows it has, and where."""
    damaged = bytearray(whole)
    damaged[(page - 1) * 4096 + (100 if page == 1 else 0) + bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


COUNT = range(32, 40)
"""The bits of a page's head that say how many rows there are, modulo 256."""


def test_review_e4_flipped_bit_in_the_count_of_rows_of_any_root(
    sound: Path, answers: dict[str, Any], tmp_path: Path
) -> None:
    whole, trees = sound.read_bytes(), pages(sound)
    assert len(trees["events"]) > 3
    path, wrong = tmp_path / "s.db", []
    for name, (root, *_) in trees.items():
        for bit in COUNT:
            path.write_bytes(flip(whole, root, bit))
            wrong += [f"{name}, bit {bit}: {said}" for said in wrong_answers(path, answers)]
    assert wrong == []


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_review_e4_flipped_bit_in_the_head_of_any_page(
    sound: Path, answers: dict[str, Any], tmp_path: Path
) -> None:
    whole, trees = sound.read_bytes(), pages(sound)
    path, wrong = tmp_path / "s.db", []
    for name, numbers in trees.items():
        for page in numbers:
            for bit in range(12 * 8):
                path.write_bytes(flip(whole, page, bit))
                wrong += [f"{name}, page {page}, bit {bit}: {said}" for said in wrong_answers(path, answers)]
    assert wrong == []


ORDER = {
    "events": "seq",
    "sessions": "ordinal",
    "runs": "ordinal",
    "transcripts": "run_id",
    "requests": "seq",
    "inbox": "ordinal",
    "outputs": "ordinal",
}


@pytest.mark.parametrize("which", ["min", "max"])
@pytest.mark.parametrize("table", ORDER)
def test_review_e4_removed_rows_are_missed(
    sound: Path, answers: dict[str, Any], tmp_path: Path, table: str, which: str
) -> None:
    path = tmp_path / "s.db"
    shutil.copy(sound, path)
    of_it = "1" if table == "sessions" else "session_id = 's1'"
    rows = f"{table} WHERE {of_it}"
    with sqlite3.connect(path) as plain:
        gone = plain.execute(
            f"DELETE FROM {rows} AND {ORDER[table]} = (SELECT {which}({ORDER[table]}) FROM {rows})"
        )
        assert gone.rowcount == 1
    plain.close()
    desk = Desk(path)
    noticed = set()
    for name, ask in ASKS.items():
        try:
            desk.do(ask)
        except StoreCorrupted:
            noticed.add(name)
    desk.log.close()
    assert noticed & MISSED[table], f"nobody missed the {which} row of {table}: {noticed}"
    assert wrong_answers(path, answers) == []


def test_review_e4_a_run_whose_row_is_gone_is_not_read_as_one_that_began_elsewhere(
    sound: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s.db"
    shutil.copy(sound, path)
    with closing(sqlite3.connect(path)) as plain, plain:
        plain.execute("DELETE FROM runs WHERE id = 'run_1'")
    desk = Desk(path)
    with pytest.raises(StoreCorrupted, match="the row of run 'run_1'"):
        desk.do(ASKS["read run"])
    with pytest.raises(StoreCorrupted, match="the list of runs"):
        desk.do(ASKS["find"])
    desk.log.close()


def former(path: Path, batch: list[Event]) -> None:
    """A database as 0.9.0 left it: without tallies, the parent's log naming its child."""
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute("PRAGMA journal_mode = WAL")
    for statement in ";".join(MIGRATIONS[:2]).split(";"):
        plain.execute(statement)
    plain.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    plain.execute("PRAGMA user_version = 2")
    for event in batch:
        body = encode_event(event)
        row = (event.session_id, event.seq, event.run_id, body)
        crc = zlib.crc32(body, zlib.crc32(f"{row[0]}\0{row[1]}\0{row[2]}".encode()))
        plain.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", (*row, crc))
    for name in ("s", CHILD, f"t/{'0' * 24}"):
        body = encode_row(SessionRecord(name))
        plain.execute("INSERT INTO sessions (id, body, crc) VALUES (?, ?, ?)", (name, body, zlib.crc32(body)))
    body = encode_row(RunRecord("run_1", "s", "running"))
    plain.execute(
        "INSERT INTO runs (id, session_id, started, unfinished, body, crc) VALUES ('run_1', 's', 1, 1, ?, ?)",
        (body, zlib.crc32(body)),
    )
    plain.close()


CHILD = "s/" + "a" * 24


def test_review_e4_a_database_without_tallies_is_counted_from_here_on(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    child = ChildStarted(call_id="c", child_run_id="x", child_session_id=CHILD, agent="helper")
    old = placed([started(), said("1"), child, said("2")])
    former(path, old)
    desk = Desk(path)
    assert [encode_event(e) for e in desk.do(lambda log: log.read("s", 0, None, None))] == [
        *map(encode_event, old)
    ]
    assert [e.seq for e in desk.do(lambda log: log.read("s", 0, "run_1", None))] == [1, 2, 3, 4]
    assert desk.do(lambda log: log.unfinished_runs("s")) == ["run_1"]
    listed = desk.do(lambda log: log.list_sessions(None, False, None, None))
    assert [row.id for row in listed] == ["s", f"t/{'0' * 24}"]
    assert [row.id for row in desk.do(lambda log: log.list_sessions("s", False, None, None))] == [CHILD]
    lease = desk.do(lambda log: log.acquire("s", "a", 60.0), writes=True)
    more = placed([said("3"), finished()], head=4)
    desk.do(lambda log: log.append(lease, more, [encode_event(e) for e in more], ()), writes=True)
    for ask in (lambda log: log.read("s", 0, None, None), lambda log: log.read("s", 0, "run_1", None)):
        assert [e.seq for e in desk.do(ask)] == [1, 2, 3, 4, 5, 6]
    desk.log.close()
    with sqlite3.connect(path) as plain:
        plain.execute("DELETE FROM events WHERE seq = 6")
    plain.close()
    with pytest.raises(StoreCorrupted, match="5 found, 6 were written"):
        Desk(path).do(lambda log: log.read("s", 0, None, None))


def test_review_e5_an_upgrade_that_a_reader_holds_up_is_told_afterwards(tmp_path: Path) -> None:
    """Until then the main file has no witness, and the store works."""
    path, alone = tmp_path / "s.db", tmp_path / "alone.db"
    former(path, placed([started(), said("1")]))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    desk = Desk(path)
    desk.do(lambda log: log.save(SessionRecord("during")), writes=True)
    shutil.copy(path, alone)
    with (
        closing(sqlite3.connect(alone)) as plain,
        pytest.raises(sqlite3.OperationalError, match="no such table"),
    ):
        plain.execute("SELECT * FROM witness")
    reader.execute("COMMIT")
    desk.do(lambda log: log.save(SessionRecord("after")), writes=True)
    assert desk.log._rows.known.armed
    shutil.copy(path, alone)
    with pytest.raises(StoreCorrupted, match="-wal is gone"):
        Desk(alone)
    reader.close()
    desk.log.close()


def test_review_e4_an_event_of_another_time_in_its_place_is_noticed(tmp_path: Path) -> None:
    """A whole row that was written once and is not the one that was acknowledged last."""
    path = tmp_path / "s.db"
    fill(path, sessions=1, events=10)
    event = placed([said("another")], head=4, run_id="run_0", session_id="s0")[0]
    body = encode_event(event)
    crc = zlib.crc32(body, zlib.crc32(b"s0\0005\0run_0"))
    with sqlite3.connect(path) as plain:
        plain.execute("UPDATE events SET body = ?, crc = ? WHERE seq = 5", (body, crc))
    plain.close()
    desk = Desk(path)
    assert len(desk.do(lambda log: log.read("s0", 4, None, 1))) == 1, "the row itself must be sound"
    with pytest.raises(StoreCorrupted):
        desk.do(lambda log: log.read("s0", 0, None, None))


@pytest.mark.parametrize("column", ["head", "digest", "runs", "unfinished", "requests", "signals", "outputs"])
def test_review_e4_a_changed_tally_is_damage(sound: Path, tmp_path: Path, column: str) -> None:
    path = tmp_path / "s.db"
    shutil.copy(sound, path)
    with sqlite3.connect(path) as plain:
        value = f"zeroblob({DIGEST_SIZE})" if column == "digest" else "9"
        plain.execute(f"UPDATE tallies SET {column} = {value} WHERE session_id = 's1'")
    plain.close()
    for name in ("read", "head", "inbox", "session"):
        with pytest.raises(StoreCorrupted, match="tally"):
            Desk(path).do(ASKS[name])


def test_review_e4_a_token_is_never_given_twice(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    for change in (
        "UPDATE tokens SET newest = 1",
        "DELETE FROM tokens",
        "INSERT INTO tokens SELECT * FROM tokens",
    ):
        shutil.copy(sound, path)
        with sqlite3.connect(path) as plain:
            plain.execute(change)
        plain.close()
        with pytest.raises(StoreCorrupted, match="token"):
            Desk(path).do(lambda log: log.acquire("new", "b", 1.0), writes=True)


MISSED = {
    "events": {"read", "read on"},
    "sessions": {"sessions"},
    "runs": {"runs"},
    "transcripts": {"transcripts"},
    "requests": {"requests"},
    "inbox": {"inbox"},
    "outputs": {"outputs"},
}


# --- what cannot be read ----------------------------------------------------------------------------------

SPOILT: list[Any] = [
    None,
    -1,
    1 << 62,
    0.5,
    "",
    "text",
    b"",
    b"\xff\xfe",
    b"{",
    b"[]",
    b"{}",
    b"null",
    b'"\xff"',
    b"[" * 5000,
    b'{"id":1,"type":"run.started"}',
    b'{"type":"run.started","run_id":"run_1","session_id":"s1","seq":1,"at":1e300,"task":{"goal":"x"}}',
    b'{"type":"tool.finished","seq":{},"result":"\\ud800"}',
]


def put(path: Path, table: str, column: str, value: Any, *, sealed: bool) -> bool:
    """Put a value into every row of a column, under a checksum that fits if ``sealed``. False when it may not be."""
    with closing(sqlite3.connect(path)) as plain, plain:
        try:
            plain.execute(f"UPDATE {table} SET {column} = ?", (value,))
        except sqlite3.IntegrityError:
            return False
        if sealed:
            rows = plain.execute(f"SELECT session_id, seq, run_id FROM {table}") if table == "events" else ()
            for row in list(rows):
                crc = zlib.crc32(value, zlib.crc32("\0".join(map(str, row)).encode()))
                plain.execute("UPDATE events SET crc = ? WHERE session_id = ? AND seq = ?", (crc, *row[:2]))
            if table != "events":
                plain.execute(f"UPDATE {table} SET crc = ?", (zlib.crc32(value),))
    return True


def columns(path: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(path) as plain:
        tables = [name for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = [(table, row[1]) for table in tables for row in plain.execute(f"PRAGMA table_info({table})")]
    plain.close()
    return found


def raised_otherwise(path: Path) -> list[str]:
    """What asking and writing raise that is no error of a store."""
    try:
        desk = Desk(path)
    except StoreError:
        return []
    wrong = []
    for name, ask in {**ASKS, **CHANGES}.items():
        try:
            desk.do(ask, writes=name in CHANGES)
        except StoreError:
            continue
        except Exception as error:
            wrong.append(f"{name}: {error!r}")
    desk.log.close()
    return wrong


def _append(log: SqliteLog) -> None:
    lease = log.acquire("s1", "a", 60.0)
    ready = placed([answered("r"), finished()], head=lease.head, run_id="run_1", session_id="s1")
    log.append(lease, ready, [encode_event(event) for event in ready], ("sig1",))


CHANGES: dict[str, Ask] = {
    "append": _append,
    "offer": lambda log: log.offer("s1", RuntimeSignal.create("x", dedupe_key="k1"), 60.0),
    "keep": lambda log: log.keep_output("s1", "out_9", b"new", 10),
    "save": lambda log: log.save(SessionRecord("s1")),
    "save run": lambda log: log.save(RunRecord("run_1", "s1", "failed")),
    "save transcript": lambda log: log.save(TranscriptRecord("ts1", "s1", "hi")),
    "delete": lambda log: log.delete_session("s1"),
}


@pytest.mark.parametrize("most", [1, pytest.param(99, marks=[pytest.mark.chaos, pytest.mark.timeout(600)])])
def test_review_e6_whatever_cannot_be_read_is_an_error_of_the_store(tmp_path: Path, most: int) -> None:
    """Every column of every table, with kinds of nonsense; bodies also under a checksum that fits."""
    sound, path, luck = tmp_path / "sound.db", tmp_path / "s.db", random.Random(7)
    wrong, tried = [], 0
    fill(sound, events=8)
    for table, column in columns(sound):
        for value in luck.sample(SPOILT, min(most * (4 if column == "body" else 1), len(SPOILT))):
            for sealed in (False, True) if column == "body" and isinstance(value, bytes) else (False,):
                shutil.copy(sound, path)
                if put(path, table, column, value, sealed=sealed):
                    tried += 1
                    where = f"{table}.{column} = {value!r:.40}"
                    wrong += [f"{where}: {raised}" for raised in raised_otherwise(path)]
    assert wrong == []
    assert tried > 40 * most**0.5


def test_review_e6_an_undecodable_text_and_a_missing_table_are_damage(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    for change, ask in (
        ("UPDATE runs SET id = CAST(x'ff' AS TEXT) WHERE id = 'run_1'", ASKS["its runs"]),
        ("DROP TABLE inbox", ASKS["inbox"]),
        ("ALTER TABLE runs RENAME COLUMN first TO other", ASKS["runs"]),
    ):
        shutil.copy(sound, path)
        with sqlite3.connect(path) as plain:
            plain.execute(change)
        plain.close()
        with pytest.raises(StoreCorrupted):
            Desk(path).do(ask)


# --- a new file -------------------------------------------------------------------------------------------

OPENER = """
import sys
from loom.store.base import SessionRecord
from loom.store.sqlite import SqliteSessionStore
for line in sys.stdin:
    path, name = line.split()
    try:
        store = SqliteSessionStore(path)
        store.save_session(SessionRecord(name))
        print("made", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def test_review_e7_several_openers_of_a_new_file_all_get_it(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    said = []
    for number in range(12):
        for at, process in enumerate(processes):
            assert process.stdin is not None
            process.stdin.write(f"{tmp_path / str(number)} s{at}\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout is not None
            said.append(process.stdout.readline().strip())
    for process in processes:
        process.communicate()
    assert said == ["made"] * 48
    desk = Desk(tmp_path / "11")
    assert len(desk.do(lambda log: log.list_sessions(None, False, None, None))) == 4
    assert [entry.name for entry in tmp_path.iterdir() if "." in entry.name] == []


def test_review_e7_an_opener_does_not_empty_the_log_of_a_faster_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has seen a new file, a faster one has made the schema and says in the main file that it lacks something."""
    path, faster = tmp_path / "s.db", []
    switch = schema._switch_to_log

    def overtaken(connection: sqlite3.Connection, busy_timeout: float) -> None:
        monkeypatch.undo()
        faster.append(Desk(path))
        faster[0].log._execute("UPDATE witness SET ahead = 1, armed = 1")
        switch(connection, busy_timeout)

    monkeypatch.setattr(schema, "_switch_to_log", overtaken)
    slower = Desk(path)
    third = Desk(path)
    for number, desk in enumerate((*faster, slower, third)):
        desk.do(lambda log, n=number: log.save(SessionRecord(f"s{n}")), writes=True)
    assert len(third.do(lambda log: log.list_sessions(None, False, None, None))) == 3


def test_review_e7_the_witness_and_the_log_are_looked_at_in_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A faster opener begins the log after it was looked for; a backup tool would empty it before the second look."""
    path = tmp_path / "s.db"
    Desk(path).log.close()
    faster, looked = [], []

    def before(name: str) -> bool:
        found = has_log(name)
        monkeypatch.setattr(sqlite, "has_log", has_log)
        faster.append(Desk(path))
        faster[0].log._execute("UPDATE witness SET ahead = 1, armed = 1")
        return found

    def between(name: str) -> bool:
        looked.append(name)
        faster[0].do(lambda log: log.save(SessionRecord("s")), writes=True)
        with closing(sqlite3.connect(path, timeout=0)) as tool:
            tool.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return has_log(name)

    monkeypatch.setattr(sqlite, "has_log", before)
    monkeypatch.setattr(sqlitemerge, "has_log", between)
    desk = Desk(path)
    assert len(looked) == 1
    assert desk.do(lambda log: log.load_session("s")) is not None


def test_review_e7_opening_a_file_again_keeps_the_locks_of_this_process(tmp_path: Path) -> None:
    """A process that closes a file drops all its locks on it, so nobody may just look into one that is open."""
    path = tmp_path / "s.db"
    first = Desk(path)
    first.do(lambda log: log.save(SessionRecord("s")), writes=True)
    second = Desk(path)
    second.do(
        lambda log: log.save(SessionRecord("t")), writes=True
    )  # which looks into the main file alone, too
    second.log.close()
    take = f"import sqlite3; sqlite3.connect({str(path)!r}).execute('PRAGMA journal_mode = DELETE')"
    other = subprocess.run([sys.executable, "-c", take], capture_output=True, text=True, check=False)
    assert "database is locked" in other.stderr
