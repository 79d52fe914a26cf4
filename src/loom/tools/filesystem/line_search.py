"""Finding a pattern in the lines of a text: plain text here, regular expressions in a process of their own.

Why not ripgrep, whose engine never backtracks: it opens files by name, and a name is not confined. Text has
to pass through us anyway, and ``re`` in a process that can be ended needs nothing installed.
"""

from __future__ import annotations

import os
import pkgutil
import re
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from typing import Any, BinaryIO, cast

from ...errors import ToolArgumentsError, ToolExecutionError, ToolTimeoutError
from .grep_worker import MAX_LINE_CHARS, read_frame, write_frame

# Long enough for any honest pattern over one file of the size limit, short enough to be ended while one
# waits.
SECONDS_PER_FILE = 2.0
MAX_PATTERN_CHARS = 1000
_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]|()]")
# What a Python outside the standard places needs to start at all; nothing else of our environment is passed
# on.
_NEEDED_TO_START = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


class LineSearch(ABC):
    """Finds lines. Used as a context manager, from one thread; ``stop`` may come from another."""

    @abstractmethod
    def find(self, text: str, limit: int) -> list[tuple[int, int]]:
        """The first ``limit`` matching lines as (line, column), both counted from 0."""

    @abstractmethod
    def stop(self) -> None:
        """Give up at once; a ``find`` that is under way raises."""

    @abstractmethod
    def close(self) -> None:
        """Free what the search holds."""

    def __enter__(self) -> LineSearch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def line_search(pattern: str, *, ignore_case: bool) -> LineSearch:
    """The search for ``pattern``. Raises ToolArgumentsError for one empty, too long or of several lines."""
    if not 0 < len(pattern) <= MAX_PATTERN_CHARS:
        raise ToolArgumentsError(f"`pattern` needs 1 to {MAX_PATTERN_CHARS} characters.")
    if "\n" in pattern:
        raise ToolArgumentsError("`pattern` is searched line by line and cannot hold a line break.")
    if _SPECIAL.search(pattern):
        return _RegexSearch(pattern, ignore_case)
    return _PlainSearch(pattern, ignore_case)


class _PlainSearch(LineSearch):
    """Text without special characters: no engine, no process."""

    def __init__(self, pattern: str, ignore_case: bool) -> None:
        # Literal text cannot backtrack; re folds case without changing columns, as lower() would.
        self._find = re.compile(re.escape(pattern), re.IGNORECASE if ignore_case else 0).search

    def find(self, text: str, limit: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        if self._find(text) is None:
            return found
        for number, line in enumerate(text.split("\n")):
            match = self._find(line[:MAX_LINE_CHARS])
            if match is not None:
                found.append((number, match.start()))
                if len(found) >= limit:
                    break
        return found

    def stop(self) -> None:
        """Nothing to end: the time of one file is bounded by its size."""

    def close(self) -> None:
        """Nothing to free."""


class _RegexSearch(LineSearch):
    """A regular expression in a child process, started at the first text."""

    def __init__(self, pattern: str, ignore_case: bool) -> None:
        self._pattern = pattern
        self._ignore_case = ignore_case
        self._worker: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def find(self, text: str, limit: int) -> list[tuple[int, int]]:
        if self._worker is None:
            self._start()
        answer = self._ask({"text": text, "limit": limit})
        return [(line, column) for line, column in answer]

    def stop(self) -> None:
        self._stopped = True
        if self._worker is not None:
            self._worker.kill()

    def close(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            with self._worker:  # closes the pipes and reaps the process
                pass

    def _start(self) -> None:
        source = pkgutil.get_data(__name__, "grep_worker.py")
        if source is None or not sys.executable:
            raise ToolExecutionError("regular expressions cannot be run here; search for plain text instead.")
        environment = {name: os.environ[name] for name in _NEEDED_TO_START if name in os.environ}
        self._worker = subprocess.Popen(
            [sys.executable, "-I", "-S", "-W", "ignore", "-c", source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        opening = {"pattern": self._pattern, "ignore_case": self._ignore_case, "seconds": SECONDS_PER_FILE}
        error = self._ask(opening)["error"]
        if error is not None:
            raise ToolArgumentsError(f"`pattern` is not a valid regular expression: {error}")

    def _ask(self, request: dict[str, Any]) -> Any:
        """One question, one answer: the child never has two, so neither side can fill a pipe and wait."""
        worker = self._worker
        if self._stopped or worker is None or worker.stdin is None or worker.stdout is None:
            raise ToolExecutionError("the search was stopped.")
        try:
            write_frame(cast(BinaryIO, worker.stdin), request)
            answer = read_frame(cast(BinaryIO, worker.stdout))
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise self._lost(worker)
        return answer

    def _lost(self, worker: subprocess.Popen[bytes]) -> ToolTimeoutError | ToolExecutionError:
        if self._stopped:
            return ToolExecutionError("the search was stopped.")
        worker.kill()  # it has closed its output, so it is ending; a kill does not change how it ended first
        status = worker.wait()
        if status != -signal.SIGALRM:
            return ToolExecutionError(
                f"the search process ended with status {status}; search for plain text instead."
            )
        return ToolTimeoutError(
            f"the pattern took more than {SECONDS_PER_FILE:g} seconds on one file. Repeats inside repeats, "
            "such as (a+)+, take forever on some lines: write a simpler pattern or plain text."
        )
