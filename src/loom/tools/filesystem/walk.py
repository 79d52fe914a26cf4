"""Walking a tree below a root: in order, bounded, without following links, minding ``.gitignore``.

The walk holds a descriptor for each directory on the way down and opens children relative to it, so it
stays in the tree it started in whatever is renamed meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...errors import ToolError
from ...safety.paths import PathRequest, visible
from .rooted import OpenDirectory, Root, open_child, open_regular

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# Bookkeeping of version control: large, unreadable, and never what a search is for.
VCS_DIRECTORIES = frozenset({".git", ".hg", ".svn", ".bzr", ".jj", "_darcs", "cvs", ".sl"})
MAX_DEPTH = 64
MAX_ENTRIES = 50_000
MAX_SECONDS = 10.0
_MAX_IGNORE_BYTES = 256 * 1024
# pathspec turns each '*' into a backtracking regex: k of them cost n^k/k! on a name of n characters. Ignore
# files come with the repository, so a line that could stall the process is left out (and counted).
_MAX_STARS = 3

Kind = Literal["directory", "file", "link", "other"]


class Budget:
    """How much one call may walk. ``exhausted`` says in words what ran out, or is empty."""

    def __init__(
        self,
        *,
        entries: int = MAX_ENTRIES,
        seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.exhausted = ""
        self._entries = entries
        self._left = entries
        self._seconds = seconds
        self._clock = clock
        self._deadline = clock() + seconds
        self._on_stop: list[Callable[[], None]] = []

    def spend(self, entries: int = 1) -> bool:
        """Take ``entries`` from what is left. False when the walk must stop."""
        self._left -= entries
        if not self.exhausted and self._left < 0:
            self.exhausted = f"{self._entries} entries were looked at"
        if not self.exhausted and self._clock() > self._deadline:
            self.exhausted = f"{self._seconds:g} seconds were spent"
        return not self.exhausted

    def stop(self) -> None:
        """End the walk at its next step: the caller has gone."""
        self.exhausted = "the call was cancelled"
        for callback in self._on_stop:
            callback()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called by ``stop``, from another thread than the walk's."""
        self._on_stop.append(callback)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something found on a walk. ``directory`` is the descriptor it was found in, open until the next."""

    parts: tuple[str, ...]
    kind: Kind
    directory: int

    @property
    def path(self) -> str:
        """The path below the root as shown to the model, and as it can give it back."""
        return visible("/".join(self.parts), limit=8192)

    def size(self) -> int | None:
        """Bytes, or None when it is gone."""
        try:
            return os.stat(self.parts[-1], dir_fd=self.directory, follow_symlinks=False).st_size
        except OSError:
            return None


class Tree:
    """One walk. ``skipped`` collects what it could not enter, ``notes`` what the model should be told."""

    def __init__(self, root: Root, budget: Budget, *, respect_gitignore: bool = True) -> None:
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self._root = root
        self._budget = budget
        self._respect = respect_gitignore

    def entries(
        self,
        start: OpenDirectory,
        *,
        depth: int = MAX_DEPTH,
        enter: Callable[[tuple[str, ...]], bool] = lambda parts: True,
    ) -> Iterator[Entry]:
        """What is below ``start``, sorted by name, each directory before its content.

        ``depth`` 1 is the directory alone; ``enter`` may decline a directory (names relative to ``start``).
        """
        base = len(start.parts)
        rules = self._rules_above(start) if self._respect else None
        open_fds: list[int] = []
        levels = [self._level(start.fd, start.parts, rules)]
        try:
            while levels:
                entry, rules = next(levels[-1], (None, None))
                if entry is None:
                    levels.pop()
                    if open_fds:
                        os.close(open_fds.pop())
                    continue
                yield entry
                deeper = len(levels) < min(depth, MAX_DEPTH) and self._budget.spend(0)
                if entry.kind == "directory" and deeper and enter(entry.parts[base:]):
                    try:
                        fd = open_child(entry.parts[-1], entry.directory, entry.path)
                    except ToolError as error:
                        self.skipped.append(str(error))
                        continue
                    open_fds.append(fd)
                    levels.append(self._level(fd, entry.parts, rules))
        finally:
            for fd in open_fds:
                os.close(fd)

    def _level(
        self, fd: int, parts: tuple[str, ...], above: _Rules | None
    ) -> Iterator[tuple[Entry, _Rules | None]]:
        found: list[tuple[str, Kind]] = []
        with os.scandir(fd) as listing:
            for item in listing:
                if not self._budget.spend():
                    break
                found.append((item.name, _kind(item)))
        rules = self._rules_of(fd, parts, above) if self._respect else None
        for name, kind in sorted(found):
            if kind == "directory" and name.lower() in VCS_DIRECTORIES:
                continue
            entry = Entry((*parts, name), kind, fd)
            if rules is None or not rules.ignore(entry.parts, kind == "directory"):
                yield entry, rules

    def _rules_above(self, start: OpenDirectory) -> _Rules | None:
        """The rules in force at ``start``. An ignored directory was asked for by name: rules are off."""
        rules: _Rules | None = None
        for length in range(len(start.parts)):
            names = start.parts[:length]
            with self._root.directory(PathRequest(names, True, visible("/".join(names)))) as above:
                rules = self._rules_of(above.fd, above.parts, rules)
            if rules is not None and rules.ignore(start.parts[: length + 1], True):
                self.notes.append("this directory is ignored by .gitignore; shown because it was named")
                self._respect = False
                return None
        return rules

    def _rules_of(self, fd: int, parts: tuple[str, ...], above: _Rules | None) -> _Rules | None:
        try:
            ignore = open_regular(".gitignore", fd, ".gitignore")
        except ToolError:  # there is none, or it is no regular file: git does not follow such a link either
            return above
        with open(ignore, "rb") as file:
            lines = file.read(_MAX_IGNORE_BYTES).decode("utf-8", "replace").splitlines()
        spec, dropped = _spec(lines)
        if dropped:
            where = visible("/".join((*parts, ".gitignore")))
            self.notes.append(f"{dropped} pattern(s) of {where} were not applied: malformed or too complex")
        return _Rules(above, len(parts), spec)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The patterns of one .gitignore, and those above it, which it overrules."""

    above: _Rules | None
    base: int
    spec: GitIgnoreSpec

    def ignore(self, parts: tuple[str, ...], is_directory: bool) -> bool:
        rules: _Rules | None = self
        while rules is not None:
            below = "/".join(parts[rules.base :]) + ("/" if is_directory else "")
            verdict = rules.spec.check_file(below).include
            if verdict is not None:
                return verdict
            rules = rules.above
        return False


def _spec(lines: list[str]) -> tuple[GitIgnoreSpec, int]:
    from pathspec import GitIgnoreSpec

    kept = [line for line in lines if not _costly(line)]
    try:
        return GitIgnoreSpec.from_lines(kept), len(lines) - len(kept)
    except ValueError:  # one malformed line: find it, keep the rest
        good: list[str] = []
        for line in kept:
            try:
                GitIgnoreSpec.from_lines([line])
            except ValueError:
                continue
            good.append(line)
        return GitIgnoreSpec.from_lines(good), len(lines) - len(good)


def _costly(line: str) -> bool:
    if line.startswith("#"):
        return False
    names = line.split("/")
    stars = max(len(re.sub(r"\*\*+", "*", name).split("*")) - 1 for name in names)
    return len(line) > 1000 or stars > _MAX_STARS or names.count("**") > _MAX_STARS


def _kind(item: os.DirEntry[str]) -> Kind:
    if item.is_symlink():
        return "link"
    if item.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if item.is_file(follow_symlinks=False) else "other"
