"""Small promises of the store in one file: directories that are synced, descriptors, marks, what is no file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from loom.errors import StoreCorrupted, StoreError
from loom.events import encode_event
from loom.store.base import SessionRecord
from loom.store.file import FileLog
from loom.store.linefile import LineFile
from loom.store.lines import HEADER, seal, unseal, write_events
from loom.store.writer import Job
from loom.testing.store_contract.samples import placed, said


def opened_log(path: Path) -> FileLog:
    return FileLog(LineFile(path), lambda: 1000.0)


def done(log: FileLog, work: Any, *, writes: bool = True) -> Any:
    job = Job(work, writes=writes)
    log.perform([job])
    if job.error is not None:
        raise job.error
    return job.result


def save(log: FileLog, name: str) -> None:
    done(log, lambda desk: desk.save(SessionRecord(name)))


def names(log: FileLog) -> list[str]:
    rows = done(log, lambda desk: desk.list_sessions(None, False, None, None), writes=False)
    return [row.id for row in rows]


def test_a_new_name_in_a_folder_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the file when it is made, and of the one that a compaction puts in its place."""
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    log = opened_log(tmp_path / "s.jsonl")
    save(log, "s")
    assert synced == [str(tmp_path)]
    done(log, FileLog.compact)
    assert synced == [str(tmp_path)] * 2
    log.close()


def test_closing_lets_go_of_both_files(tmp_path: Path) -> None:
    log = opened_log(tmp_path / "s.jsonl")
    save(log, "s")
    assert held(tmp_path) == {"s.jsonl", "s.jsonl.lock"}
    log.close()
    assert held(tmp_path) == set()


def held(folder: Path) -> set[str]:
    """The files below a folder that this process has open."""
    found: set[str] = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {Path(name).name for name in found if name.startswith(f"{folder}/")}


def test_a_compaction_that_was_killed_before_its_mark_leaves_a_readable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real = opened_log(tmp_path / "s.jsonl"), os.replace
    for _ in range(20):
        save(log, "s")

    def replace_and_die(source: Path, target: Path) -> None:
        real(source, target)
        raise OSError("killed")

    monkeypatch.setattr(os, "replace", replace_and_die)
    with pytest.raises(StoreError, match="killed"):
        done(log, FileLog.compact)
    monkeypatch.undo()
    log.close()
    again = opened_log(tmp_path / "s.jsonl")
    assert names(again) == ["s"]
    save(again, "t")
    assert names(again) == ["s", "t"]
    again.close()


@pytest.mark.parametrize("writes", [False, True])
def test_a_device_is_no_store(tmp_path: Path, writes: bool) -> None:
    """Nothing is read from it and nothing written to it, and no descriptor stays."""
    (tmp_path / "s.jsonl").symlink_to("/dev/null")
    log = FileLog(LineFile(tmp_path / "s.jsonl"), lambda: 1000.0)
    work: Any = (lambda desk: desk.save(SessionRecord("s"))) if writes else (lambda desk: desk.head("s"))
    for _ in range(2):
        with pytest.raises(StoreError, match="not a regular file"):
            done(log, work, writes=writes)
    log.close()


@pytest.mark.parametrize("writes", [False, True])
def test_only_what_may_not_be_written_to_is_opened_to_be_read_alone(tmp_path: Path, writes: bool) -> None:
    log = opened_log(tmp_path)
    with pytest.raises(StoreError, match="Is a directory"):
        done(log, lambda desk: desk.head("s"), writes=writes)
    log.close()


def test_a_compaction_is_on_disk_before_it_takes_the_place_of_what_was(tmp_path: Path) -> None:
    synced: list[tuple[str, int]] = []

    def sync(fd: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{fd}")).name, os.fstat(fd).st_size))

    log = FileLog(LineFile(tmp_path / "s.jsonl", sync=sync), lambda: 1000.0)
    save(log, "s")
    synced.clear()
    done(log, FileLog.compact)
    assert synced == [("s.jsonl.new", (tmp_path / "s.jsonl").stat().st_size)]
    log.close()


@pytest.mark.parametrize("seqs", [(2,), (1, 3), (0,), (1, 1)])
def test_sealed_events_that_do_not_follow_each_other_are_damage(
    tmp_path: Path, seqs: tuple[int, ...]
) -> None:
    path = tmp_path / "s.jsonl"
    bodies = [encode_event(replace(placed([said("x")])[0], seq=seq)) for seq in seqs]
    line, _ = seal(write_events("s", bodies, ()), unseal(HEADER, 0)[1])
    path.write_bytes(HEADER + line)
    log = opened_log(path)
    with pytest.raises(StoreCorrupted, match=f"line 2 holds event {seqs[-1]} where"):
        done(log, lambda desk: desk.head("s"), writes=False)
    log.close()


@pytest.mark.parametrize(
    "first",
    [
        b'{"kind":"header","format":"others-sessions","version":1}',
        b'{"kind":"release","session":"s"}',
        b'{"kind":"header","format":"loom-sessions"}',
        b"[]",
    ],
)
def test_a_sealed_first_line_that_is_no_header_of_ours_is_refused(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "s.jsonl"
    whole = seal(first, 0)[0]
    path.write_bytes(whole)
    log = opened_log(path)
    with pytest.raises(StoreCorrupted, match="line 1: this is not a Loom session file"):
        names(log)
    with pytest.raises(StoreCorrupted, match="line 1: this is not a Loom session file"):
        save(log, "s")
    log.close()
    assert path.read_bytes() == whole
