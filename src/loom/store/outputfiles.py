"""The outputs of a ``FileSessionStore``: a file for each, in a folder for each session, beside the log.

They are no lines of the log, because everybody who opens that reads all of it. The names in a session's folder say
how old an output is, how large and what it is called (``00000007-52133-out_9f2c``), so that nothing must be opened to
make room. A file begins with a line of JSON that says whose it is, with a checksum; the text follows as it is.
A list of the names (``kept``) stands beside them: a file that is listed and not there was removed by somebody else.

Everything here happens under the store's lock.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ..errors import StoreCorrupted

_NAME = re.compile(r"(\d{8,})-(\d+)-([a-z0-9_]+)")
_NEW = "new"
"""What a file is called until it is whole; one that a crash left is written over."""


_KEPT = "kept"
"""The list, under its checksum. It may say less than there is, and never more."""


class _Head(Struct, frozen=True):
    session: str
    reference: str
    crc: str


class _Output(NamedTuple):
    number: int
    size: int
    reference: str
    path: Path


class OutputFiles:
    """What is below ``folder``, which is made when the first output is kept. Everything in it is the owner's only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, session_id: str, reference: str, body: bytes, room: int) -> None:
        """See SessionStore.keep_output. On disk under its name before anything goes for it. Raises OSError."""
        home = self._home(session_id)
        for folder in (self._folder, home):
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
                _sync(folder.parent)
        before = self._outputs(home)
        number = before[-1].number + 1 if before else 1
        path = home / f"{number:08d}-{len(body)}-{reference}"
        _write(home / _NEW, _head(session_id, reference, body) + body)
        os.rename(home / _NEW, path)
        _sync(home)
        gone, left = list[_Output](), room - len(body)
        for output in reversed(before):
            left -= 0 if output.reference == reference else output.size
            if left < 0 or output.reference == reference:
                gone.append(output)
        _say(
            home, [*(output.path.name for output in before if output not in gone), path.name], sync=bool(gone)
        )
        for output in gone:
            output.path.unlink(missing_ok=True)

    def read(self, session_id: str, reference: str) -> str | None:
        """See SessionStore.read_output. Raises StoreCorrupted naming the file, OSError."""
        home = self._home(session_id)
        for output in reversed(self._outputs(home)):
            if output.reference == reference:
                return _read(output, session_id)
        _must_not_be_listed(home, reference)
        return None

    def copy(self, source_id: str, target_id: str) -> None:
        """See SessionStore.copy_outputs. Raises StoreCorrupted naming the file, OSError."""
        home = self._home(source_id)
        found = self._outputs(home)
        for name in _listed(home).difference(output.path.name for output in found):
            raise _damaged(home / name, "it was removed")
        for output in found:
            self.keep(target_id, output.reference, _read(output, source_id).encode(), 1 << 62)

    def drop(self, session_id: str) -> None:
        """Forget what a session kept. Raises OSError."""
        home = self._home(session_id)
        try:
            names = os.listdir(home)
        except FileNotFoundError:
            return
        for name in names:
            (home / name).unlink(missing_ok=True)
        home.rmdir()

    def _home(self, session_id: str) -> Path:
        # The name of a session may be anything, as long as one likes; that of a folder may not.
        digest = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / digest[:40]

    def _outputs(self, home: Path) -> list[_Output]:
        """What is there, oldest first."""
        try:
            names = os.listdir(home)
        except FileNotFoundError:
            return []
        found = [(name, match) for name in names if (match := _NAME.fullmatch(name))]
        return sorted(_Output(int(match[1]), int(match[2]), match[3], home / name) for name, match in found)


def _head(session_id: str, reference: str, body: bytes) -> bytes:
    return msgspec.json.encode(_Head(session_id, reference, f"{zlib.crc32(body):08x}")) + b"\n"


def _read(output: _Output, session_id: str) -> str:
    fd = os.open(output.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as stream:
        start, _, body = stream.read().partition(b"\n")
    try:
        head = msgspec.json.decode(start, type=_Head)
        if head != _Head(session_id, output.reference, f"{zlib.crc32(body):08x}"):
            raise ValueError("does not match its checksum or its place")
        return body.decode()
    except (ValueError, msgspec.DecodeError) as error:
        raise _damaged(output.path, str(error)) from error


def _damaged(path: Path, how: str) -> StoreCorrupted:
    return StoreCorrupted(f"{path} is damaged: {how}; it was left as it is: restore it from a backup")


def _say(home: Path, names: list[str], *, sync: bool) -> None:
    """Write the list anew; on disk if ``sync``, as it must be before what it does not name goes."""
    said = "\n".join(names).encode()
    try:
        _write(home / _NEW, b"%08x\n%s" % (zlib.crc32(said), said), sync=sync)
        os.rename(home / _NEW, home / _KEPT)
        if sync:
            _sync(home)
    except OSError:
        (home / _KEPT).unlink(missing_ok=True)  # without a list nothing is missed, and nothing wrongly


def _listed(home: Path) -> set[str]:
    """The names on the list; none when there is no list, or the power went before it was written."""
    try:
        said = (home / _KEPT).read_bytes()
    except FileNotFoundError:
        return set()
    crc, _, names = said.partition(b"\n")
    if not said.strip(b"\0"):
        return set()
    if crc != b"%08x" % zlib.crc32(names):
        raise _damaged(home / _KEPT, "does not match its checksum")
    return set(names.decode().split("\n"))


def _must_not_be_listed(home: Path, reference: str) -> None:
    for name in _listed(home):
        match = _NAME.fullmatch(name)
        if match and match[3] == reference:
            raise _damaged(home / name, "it was removed")


def _write(path: Path, content: bytes, *, sync: bool = True) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
