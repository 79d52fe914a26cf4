"""Opening files below one directory, proved by descriptors. What the file tools stand on; no tool is here.

Every open walks from the root's descriptor one name at a time with ``O_NOFOLLOW``, so the open itself is the
check: no name is looked at first and used later. Links are read and walked by hand, at most 40 of them, and
``..`` goes back along the descriptors already held, never through the disk. Whatever another process renames
or replaces meanwhile, each step happens inside a directory that was reached from the root.

Works without ``openat2``; needs descriptor-relative opens (every Unix, not Windows).
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ConfigError, ToolError, ToolExecutionError, ToolPermissionError
from ...safety.paths import MAX_LINK_HOPS, PathRequest, follow_link, leaves_root, parse_path, visible

if sys.platform != "win32":
    # O_PATH reaches through directories that may be entered but not listed; where it is missing, reading
    # does.
    _STEP = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
    _LISTABLE = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDONLY
    # O_NONBLOCK: opening a pipe that took a file's place must not wait for its writer.
    _FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class DirectoryExpectedError(ToolExecutionError):
    """A name that had to be a directory is something else."""


class FileExpectedError(ToolExecutionError):
    """A name that had to be a regular file is something else."""


@dataclass(slots=True)
class _Walk:
    """Descriptors from the root to where the walk stands, with the names that led there."""

    fds: list[int]
    names: list[str] = field(default_factory=list[str])

    def enter(self, name: str, fd: int) -> None:
        self.fds.append(fd)
        self.names.append(name)

    def back(self) -> bool:
        if not self.names:
            return False
        os.close(self.fds.pop())
        self.names.pop()
        return True

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@dataclass(frozen=True, slots=True)
class OpenDirectory:
    """A listable directory: its descriptor and its names below the root, links resolved."""

    fd: int
    parts: tuple[str, ...]


class Root:
    """A directory that nothing opened through it can leave.

    ``path`` None is the directory that is current now. The directory is opened anew for each use, so a root
    holds no descriptor. Raises ConfigError when it is no directory or the platform cannot confine.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if sys.platform == "win32" or os.open not in os.supports_dir_fd:
            raise ConfigError(
                "the file tools need descriptor-relative opens, which this platform does not have"
            )
        self.path = os.path.abspath(os.path.expanduser(path if path is not None else os.getcwd()))
        if not os.path.isdir(self.path):
            raise ConfigError(f"the root of the file tools is no directory: {self.path}")
        real = os.path.realpath(self.path)
        self._spellings = (self.path,) if real == self.path else (self.path, real)

    def parse(self, text: str) -> PathRequest:
        """Read a path of the model. Raises ToolArgumentsError and ToolPermissionError."""
        return parse_path(text, self._spellings)

    @contextmanager
    def directory(self, request: PathRequest) -> Generator[OpenDirectory]:
        """Open a directory for listing. Raises ToolPermissionError, or ToolExecutionError and its kinds."""
        walk = self._start()
        try:
            self._descend(walk, request.parts, request.shown)
            with _explained(request.shown):
                fd = os.open(".", _LISTABLE, dir_fd=walk.fds[-1])
            try:
                yield OpenDirectory(fd, tuple(walk.names))
            finally:
                os.close(fd)
        finally:
            walk.close()

    @contextmanager
    def file(self, request: PathRequest) -> Generator[int]:
        """Open a regular file for reading. Raises ToolPermissionError or ToolExecutionError and its kinds."""
        walk = self._start()
        try:
            fd = self._final(walk, request)
            try:
                yield fd
            finally:
                os.close(fd)
        finally:
            walk.close()

    def _start(self) -> _Walk:
        with _explained(self.path):
            return _Walk([os.open(self.path, os.O_DIRECTORY | os.O_CLOEXEC | os.O_RDONLY)])

    def _final(self, walk: _Walk, request: PathRequest) -> int:
        """Walk to the last name and open it as a file; the last name may be a chain of links."""
        parts, hops = request.parts, 0
        while True:
            if not parts or parts[-1] == ".." or request.directory_only:
                self._descend(walk, parts, request.shown, hops)
                raise FileExpectedError(f"{request.shown} is a directory; list it with List.")
            hops = self._descend(walk, parts[:-1], request.shown, hops)
            target = _link_target(parts[-1], walk.fds[-1], request.shown)
            if target is None:
                return open_regular(parts[-1], walk.fds[-1], request.shown)
            hops = _hop(hops, request.shown)
            parts = self._turn(walk, target, request.shown)

    def _descend(self, walk: _Walk, parts: tuple[str, ...], shown: str, hops: int = 0) -> int:
        """Walk through directories. Returns how many links were followed so far."""
        pending = deque(parts)
        while pending:
            name = pending.popleft()
            if name == "..":
                if not walk.back():
                    raise leaves_root(shown)
                continue
            try:
                walk.enter(name, os.open(name, _STEP, dir_fd=walk.fds[-1]))
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                    raise _explain(error, shown) from error
                target = _link_target(name, walk.fds[-1], shown)
                if target is None:
                    raise DirectoryExpectedError(f"{visible(name)} in {shown} is not a directory.") from error
                hops = _hop(hops, shown)
                pending.extendleft(reversed(self._turn(walk, target, shown)))
        return hops

    def _turn(self, walk: _Walk, target: str, shown: str) -> tuple[str, ...]:
        """The names a link stands for; for an absolute one the walk goes back to the root."""
        from_root, names = follow_link(target, self._spellings, shown)
        while from_root and walk.back():
            pass
        return names


def open_regular(name: str, directory: int, shown: str) -> int:
    """Open ``name`` in the directory descriptor, only if it is a regular file and no link.

    What it is gets asked before, so that pipes and devices are not even touched, and after, so that one
    slipped in between is not read. Raises FileExpectedError, ToolPermissionError or ToolExecutionError.
    """
    with _explained(shown):
        _require_regular(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode, shown)
        fd = os.open(name, _FILE, dir_fd=directory)
        try:
            _require_regular(os.fstat(fd).st_mode, shown)
        except BaseException:
            os.close(fd)
            raise
    return fd


def open_child(name: str, directory: int, shown: str) -> int:
    """Open the directory ``name`` of a directory descriptor for listing; a link is refused."""
    with _explained(shown):
        return os.open(name, _LISTABLE, dir_fd=directory)


def _require_regular(mode: int, shown: str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise FileExpectedError(f"{shown} is a directory; list it with List.")
    if stat.S_ISLNK(mode):
        raise FileExpectedError(f"{shown} became a link while it was opened; it is not read.")
    raise FileExpectedError(
        f"{shown} is {_KINDS.get(stat.S_IFMT(mode), 'a special file')}; only regular files are read."
    )


def _link_target(name: str, directory: int, shown: str) -> str | None:
    """The text of a link, or None for anything that is no link."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise _explain(error, shown) from error


def _hop(hops: int, shown: str) -> int:
    if hops >= MAX_LINK_HOPS:
        raise ToolPermissionError(f"{shown} goes through more than {MAX_LINK_HOPS} links, or in a circle.")
    return hops + 1


@contextmanager
def _explained(shown: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise _explain(error, shown) from error


def _explain(error: OSError, shown: str) -> ToolError:
    if error.errno == errno.ENOENT:
        return ToolExecutionError(
            f"{shown} does not exist. Look for it with List or Glob; '~' is not expanded."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ToolPermissionError(f"the operating system does not let us read {shown}.")
    if error.errno == errno.ELOOP:
        return FileExpectedError(f"{shown} became a link while it was opened; it is not read.")
    if error.errno == errno.ENOTDIR:
        return DirectoryExpectedError(f"{shown} is not a directory.")
    if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):
        return FileExpectedError(f"{shown} is a special file; only regular files are read.")
    return ToolExecutionError(f"{shown} cannot be read: {os.strerror(error.errno or errno.EIO)}.")
