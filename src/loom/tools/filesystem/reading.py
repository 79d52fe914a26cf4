"""The tool Read: the lines of one text file."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

from ...errors import ToolArgumentsError
from ...types import ToolResult
from . import call_arguments as arguments
from .file_tool import FileTool, read_only_spec, with_notes
from .text_files import TextFile
from .walk import Budget

DEFAULT_LINES = 2000
MAX_LINES = 10_000
MAX_LINE_CHARS = 2000
# How far into a file one call looks, for a late offset and for counting the lines.
MAX_SCAN_CHARS = 64 * 1024 * 1024
_MAX_OFFSET = 1_000_000_000


class ReadTool(FileTool):
    """Read: numbered lines of a text file.

    A file that ``.gitignore`` names is read all the same when it is named: ignore files say what is noise,
    they come with the repository, and taking them for a lock would promise what they do not hold. The lock is
    the root.
    """

    spec = read_only_spec(
        "Read",
        "Read a text file. Each line is its number, a tab and its text. Long files come in pieces: a note in "
        "brackets at the end says which `offset` goes on.",
        {
            "file_path": {
                "type": "string",
                "minLength": 1,
                "description": "File to read, relative to the root.",
            },
            "offset": {
                "type": "integer",
                "minimum": 1,
                "maximum": _MAX_OFFSET,
                "default": 1,
                "description": "First line to show, counted from 1.",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LINES,
                "default": DEFAULT_LINES,
                "description": "How many lines to show.",
            },
        },
        ["file_path"],
    )

    def work(self, args: dict[str, Any], budget: Budget) -> ToolResult:
        """Open beneath the root, skip to the offset, take lines while they fit."""
        arguments.only(args, ("file_path", "offset", "limit"))
        request = self._access.root.parse(arguments.text(args, "file_path"))
        offset = arguments.whole(args, "offset", 1, 1, _MAX_OFFSET)
        limit = arguments.whole(args, "limit", DEFAULT_LINES, 1, MAX_LINES)
        with self._access.root.file(request) as fd, TextFile(fd, request.shown, close_fd=False) as file:
            page = _Page(file, offset, limit, self._access.max_read_bytes)
            page.fill(budget)
            if offset > page.counted and not (offset == 1 and page.complete):
                raise ToolArgumentsError(page.nothing_at(request.shown, budget))
            return page.result(request.shown, budget)


@dataclass(slots=True)
class _Page:
    """Lines ``offset`` and on, until ``limit`` lines or ``max_chars`` characters are taken."""

    file: TextFile
    offset: int
    limit: int
    max_bytes: int
    shown: list[str] = field(default_factory=list[str])
    counted: int = 0
    scanned: int = 0
    cut_lines: int = 0
    size: int = 0
    complete: bool = False

    def fill(self, budget: Budget) -> None:
        """Read the file from its beginning, keeping what is asked for and counting the rest."""
        lines = self.file.lines()
        try:
            while self.scanned < MAX_SCAN_CHARS and (self.counted % 4096 or budget.spend(0)):
                if not self._next(lines):
                    self.complete = True
                    return
        finally:
            lines.detach()

    def _next(self, lines: io.TextIOWrapper) -> bool:
        """Take one line, of which at most so much is held in memory as is shown."""
        head = lines.readline(MAX_LINE_CHARS + 1)
        if not head:
            return False
        self.counted += 1
        length, piece = len(head), head  # with its line end
        while not piece.endswith("\n") and self.scanned + length < MAX_SCAN_CHARS:
            piece = lines.readline(65536)
            if not piece:
                break
            length += len(piece)
        self.scanned += length
        wanted = self.offset <= self.counted < self.offset + self.limit
        if wanted and self.counted == self.offset + len(self.shown):
            self._keep(head, length - piece.endswith("\n"))
        return True

    def _keep(self, head: str, length: int) -> None:
        text = self.file.clean(head.removesuffix("\n"))
        if length > MAX_LINE_CHARS:
            text = f"{text[:MAX_LINE_CHARS]} …[line cut: {MAX_LINE_CHARS} of {length} characters shown]"
        line = f"{self.counted:>6}\t{text}"
        size = len(line.encode()) + 1
        if self.shown and self.size + size > self.max_bytes:
            self.limit = len(self.shown)  # full: the rest is only counted
            return
        self.cut_lines += length > MAX_LINE_CHARS
        self.size += size
        self.shown.append(line)

    def nothing_at(self, shown: str, budget: Budget) -> str:
        """Why there is no line ``offset``."""
        if self.complete:
            return f"{shown} has {self.counted} lines; there is no line {self.offset}."
        why = budget.exhausted or f"{self.scanned} characters were passed"
        return f"line {self.offset} of {shown} was not reached: {why}. Use Grep in files this large."

    def result(self, shown: str, budget: Budget) -> ToolResult:
        """What was taken, with notes on what was not."""
        last = self.offset + len(self.shown) - 1
        more = not self.complete or last < self.counted
        notes: list[str] = []
        if more:
            total = str(self.counted) if self.complete else f"more than {self.counted}"
            notes.append(f"lines {self.offset}-{last} of {total}; go on with offset={last + 1}")
        if not self.shown:
            notes.append("the file is empty")
        if self.cut_lines:
            notes.append(f"{self.cut_lines} long line(s) cut; Grep finds text in the rest")
        if self.file.replaced:
            notes.append("bytes that are not UTF-8 are shown as \ufffd")
        facts: dict[str, Any] = {
            "path": shown,
            "size": self.file.size,
            "first_line": self.offset,
            "last_line": last,
            "total_lines": self.counted if self.complete else None,
            "encoding": self.file.encoding,
            "truncated": more,
        }
        return ToolResult(with_notes(self.shown, notes), metadata=facts)
