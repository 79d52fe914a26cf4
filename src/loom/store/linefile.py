"""One append-only file of sealed lines, shared by processes: opening, locking, reading on, committing.

What the lines mean is not known here. Every look at the file happens under a lock on a sidecar
(``<path>.lock``), because the file itself may be replaced by a compaction. Needs ``flock`` (not on Windows).

The sidecar also bears a mark: how far the file went when a line was last made durable. A file cannot say itself that
its last lines are gone; the mark says it. It is written after the lines and not synced: it may be behind, never ahead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ..errors import StoreCorrupted, StoreError
from .lines import (
    HEADER,
    MARK_SIZE,
    AnyLine,
    Place,
    check_header,
    read_line,
    read_mark,
    seal,
    unseal,
    write_mark,
)

Accept = Callable[[AnyLine, Place], None]


class LineFile:
    """The file at ``path``. Used by one thread; processes and other instances are kept out by the lock.

    ``lock_timeout`` is how many seconds to wait for the lock, ``sync`` makes a descriptor's content durable.
    """

    def __init__(
        self,
        path: Path,
        *,
        create_dirs: bool = True,
        lock_timeout: float = 10.0,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.path = path
        self._name, self._lock_name = str(path), f"{path}.lock"
        self._create_dirs = create_dirs
        self._lock_timeout = lock_timeout
        self._sync = sync
        self._fd = -1
        self._lock_fd = -1
        self._identity: tuple[int, int] | None = None
        self._lock_identity: tuple[int, int] | None = None
        self._seen_mark = b""
        self._size = -1
        self._end = self._seed = self._line = 0

    def forget(self) -> None:
        """Begin with the file anew, from its start."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._end = self._seed = self._line = 0
        self._seen_mark = b""

    def close(self) -> None:
        """Let go of the file and its lock."""
        self.forget()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd = -1

    # --- locking --------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, *, writes: bool) -> Generator[None]:
        """Hold the lock, shared or (``writes``) alone. Raises StoreError when it cannot be had in time."""
        if not self._lock(writes):
            yield  # to read: nobody has written here yet, or nobody can
            return
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _lock(self, writes: bool) -> bool:
        while True:
            if self._lock_fd < 0:
                self._lock_fd = self._open_lock(self._lock_name, writes)
                if self._lock_fd < 0:
                    return False
                self._lock_identity = _identity(self._lock_fd)
            self._wait(fcntl.LOCK_EX if writes else fcntl.LOCK_SH)
            # Somebody may have removed the sidecar: then a newer one is the lock that others take.
            if _identity(self._lock_name) == self._lock_identity:
                return True
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _open_lock(self, name: str, writes: bool) -> int:
        if writes:
            if self._create_dirs:
                os.makedirs(self.path.parent, mode=0o700, exist_ok=True)
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for flags in (os.O_RDWR, os.O_RDONLY):
            try:
                return os.open(name, flags | os.O_CLOEXEC)
            except OSError:
                continue
        return -1

    def _wait(self, mode: int) -> None:
        deadline, pause = time.monotonic() + self._lock_timeout, 0.0005
        while True:
            try:
                fcntl.flock(self._lock_fd, mode | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _busy(self.path, self._lock_timeout) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    # --- reading --------------------------------------------------------------------------------------

    def replaced(self) -> bool:
        """True when the path names another file than the one read so far. Call under the lock."""
        self._size = -1
        if self._fd < 0:
            return False
        try:
            status = os.stat(self._name)
        except FileNotFoundError:
            return True
        if (status.st_dev, status.st_ino) != self._identity:
            return True
        self._size = status.st_size
        return False

    def read_on(self, accept: Accept, *, writes: bool) -> None:
        """Give every line that is new since the last time to ``accept``. Call under the lock.

        An unfinished line at the end is left alone, or removed when the lock is held to write. Raises
        StoreCorrupted for any other damage; the file is then not touched.
        """
        if self._fd < 0 and not self._open(writes):
            return
        size, self._size = self._size, -1
        if size < 0:
            size = os.fstat(self._fd).st_size
        if size < self._end:
            raise StoreCorrupted(f"{self.path} became shorter than what had been read from it")
        if size > self._end:
            self._scan(size, accept)
        self._reach_mark()
        if writes and size > self._end:
            os.ftruncate(self._fd, self._end)
        if writes and self._end == 0:
            self._begin()

    def _reach_mark(self) -> None:
        if self._lock_fd < 0:
            return
        mark = os.pread(self._lock_fd, MARK_SIZE, 0)
        if mark == self._seen_mark:
            return  # the file reached it, and has only grown since
        end, seed = self._reading_mark(mark)
        if self._end < end or (self._end == end and end and self._seed != seed):
            raise StoreCorrupted(
                f"{self.path} was written up to byte {end} and is intact up to byte {self._end}: the rest is gone; "
                f"restore it, or remove {self.path}.lock if this file is itself what was restored"
            )
        self._seen_mark = mark

    def _reading_mark(self, mark: bytes) -> tuple[int, int]:
        try:
            return read_mark(mark)
        except ValueError as error:
            raise StoreCorrupted(f"{self.path}.lock {error}; it was left as it is") from error

    def _expect_none(self) -> None:
        if self._lock_fd >= 0 and self._reading_mark(os.pread(self._lock_fd, MARK_SIZE, 0))[0]:
            raise StoreCorrupted(
                f"{self.path} is gone, and was written to: restore it from a backup, "
                f"or remove {self.path}.lock, too, to begin anew"
            )

    def _mark(self, end: int, seed: int) -> None:
        if self._lock_fd < 0:
            return
        with suppress(OSError):  # then the mark stays behind, which says less and nothing wrong
            mark = write_mark(end, seed)
            os.pwrite(self._lock_fd, mark, 0)
            self._seen_mark = mark

    def read(self, place: Place) -> bytes:
        """The record at ``place``. Raises StoreCorrupted when it is not what was there before."""
        line = os.pread(self._fd, place.length, place.offset)
        while len(line) < place.length and (
            more := os.pread(self._fd, place.length - len(line), place.offset + len(line))
        ):
            line += more
        try:
            return unseal(line, place.seed)[0]
        except ValueError as error:
            number = os.pread(self._fd, place.offset, 0).count(b"\n") + 1
            raise self.damaged(number, error) from error

    def damaged(self, line: int, error: Exception) -> StoreCorrupted:
        """The error that says which line is damaged, and how."""
        return StoreCorrupted(
            f"{self.path}, line {line} {error}; the file was left as it is: restore it from a backup"
        )

    def _open(self, writes: bool) -> bool:
        flags = os.O_CLOEXEC | os.O_NONBLOCK  # not to hang on a pipe that somebody put there
        try:
            self._fd = os.open(self.path, os.O_RDWR | flags)
        except FileNotFoundError:
            self._expect_none()
            if not writes:
                return False
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o600)
            _sync_directory(self.path)
        except OSError as error:
            if writes or error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            self._fd = os.open(self.path, os.O_RDONLY | flags)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            self._fd = -1
            raise StoreError(f"{self.path} is not a regular file")
        self._identity = _identity(self._fd)
        return True

    def _begin(self) -> None:
        # On disk before the first record: a torn first record can then never look like a foreign file.
        _write(self._fd, HEADER, 0)
        self._sync(self._fd)
        self._passed(HEADER, unseal(HEADER, 0)[1])

    def _passed(self, line: bytes, crc: int) -> None:
        self._end += len(line)
        self._seed = crc
        self._line += 1

    def _scan(self, size: int, accept: Accept) -> None:
        with os.fdopen(os.dup(self._fd), "rb", buffering=1 << 18) as stream:
            stream.seek(self._end)
            if self._end == 0 and _torn_header(stream.read(len(HEADER))):
                return
            stream.seek(self._end)
            for line in stream:
                last = self._end + len(line) >= size
                if self._line == 0:
                    check_header(line, str(self.path))
                    self._passed(line, unseal(line, 0)[1])
                elif last and _torn(line, self._seed):
                    return
                else:
                    self._take(line, accept)

    def _take(self, line: bytes, accept: Accept) -> None:
        try:
            record, crc = unseal(line, self._seed)
            accept(read_line(record), Place(self._end, len(line), self._seed))
        except (ValueError, RecursionError, msgspec.DecodeError) as error:
            raise self.damaged(self._line + 1, error) from error
        self._passed(line, crc)

    # --- writing --------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """An empty plan of lines to follow the last one."""
        return Plan(self._end, self._seed)

    def commit(self, plan: Plan, *, sync: bool) -> None:
        """Write what was planned, durably if ``sync``. Raises OSError; the file is then as before."""
        try:
            _write(self._fd, b"".join(plan.lines), self._end)
            # guard: tests/store/test_file_store.py
            if sync:
                self._sync(self._fd)
        except OSError:
            # What is reported as not saved must not show up later. If even this fails, the next writer
            # removes an unfinished line.
            os.ftruncate(self._fd, self._end)
            raise
        for line, crc in zip(plan.lines, plan.crcs, strict=True):
            self._passed(line, crc)
        if sync:
            self._mark(self._end, self._seed)

    def replace(self, records: Iterable[bytes]) -> None:
        """Put a file of these records in place of this one, in one step. Call under the lock, alone."""
        new = self.path.with_name(f"{self.path.name}.new")
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as stream:
                stream.write(HEADER)
                seed = unseal(HEADER, 0)[1]
                for record in records:
                    line, seed = seal(record, seed)
                    stream.write(line)
                stream.flush()
                self._sync(stream.fileno())
                end = stream.tell()
            self._mark(0, 0)  # it may be that only one of the next two steps is taken
            os.replace(new, self.path)
            _sync_directory(self.path)
            self._mark(end, seed)
        finally:
            new.unlink(missing_ok=True)


class Plan:
    """Sealed lines that are not written yet."""

    def __init__(self, end: int, seed: int) -> None:
        self.lines: list[bytes] = []
        self.crcs: list[int] = []
        self._end = end
        self._seed = seed

    def add(self, record: bytes, accept: Accept) -> None:
        """One more record, given to ``accept`` with the place it will have."""
        line, crc = seal(record, self._seed)
        accept(read_line(record), Place(self._end, len(line), self._seed))
        self.lines.append(line)
        self.crcs.append(crc)
        self._end += len(line)
        self._seed = crc


def _identity(file: Path | str | int) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _torn_header(start: bytes) -> bool:
    return len(start) < len(HEADER) and (HEADER.startswith(start) or not start.strip(b"\0"))


def _torn(line: bytes, seed: int) -> bool:
    """True when the file's last line was never finished: cut short, or with holes that the disk never filled.

    A line that ends as it should and has no holes was written whole. If it is wrong, it was damaged later,
    and what it held may have been acknowledged: that is corruption. So is a good line with another newline.
    """
    if line.startswith(b"\0") or line.endswith(b"\0") or b"\0\0" in line:
        return True
    if line.endswith(b"\n"):
        return False
    try:
        unseal(line[:-1] + b"\n", seed)
    except ValueError:
        return True
    return False


def _write(fd: int, content: bytes, offset: int) -> None:
    while content:  # as a rule once
        written = os.pwrite(fd, content, offset)
        content, offset = content[written:], offset + written


def _sync_directory(path: Path) -> None:
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _busy(path: Path, seconds: float) -> StoreError:
    error = StoreError(f"{path} has been locked by another process for {seconds:g} seconds: try again")
    error.retryable = True
    return error
