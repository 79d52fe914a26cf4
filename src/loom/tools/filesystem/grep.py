"""The tool Grep: lines that fit a pattern, in one file or a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...errors import ToolError
from ...safety.paths import PathRequest
from ...types import ToolResult
from . import call_arguments as arguments
from .file_tool import FileTool, read_only_spec, with_notes
from .globs import Glob
from .line_search import MAX_PATTERN_CHARS, LineSearch, line_search
from .rooted import DirectoryExpectedError, open_regular
from .text_files import BinaryFileError, TextFile
from .walk import Budget, Tree

DEFAULT_MATCHES = 200
MAX_MATCHES = 1000
MAX_CONTEXT = 20
MAX_SEARCHED_BYTES = 4 * 1024 * 1024
MAX_SHOWN_CHARS = 300
# All output together; a page of context around a thousand matches would be more than anybody reads.
MAX_OUTPUT_CHARS = 100_000


class GrepTool(FileTool):
    """Grep: matching lines as ``path:line: text``."""

    spec = read_only_spec(
        "Grep",
        "Search the text of files for a regular expression (Python syntax), line by line. Each match is "
        "'path:line: text'; with `context`, neighbours are 'path-line- text' and '--' separates groups. "
        "Files named by .gitignore, version control directories and binary files are left out.",
        {
            "pattern": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_PATTERN_CHARS,
                "description": "Regular expression; plain text without special characters is fastest.",
            },
            "path": {
                "type": "string",
                "default": ".",
                "description": "Directory or file to search, relative to the root.",
            },
            "glob_pattern": {
                "type": "string",
                "default": "*",
                "description": "Only files that fit, such as '*.py' (in all directories) or 'src/**/*.py'.",
            },
            "ignore_case": {"type": "boolean", "default": False},
            "context": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_CONTEXT,
                "default": 0,
                "description": "Lines to show before and after each match.",
            },
            "max_matches": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_MATCHES,
                "default": DEFAULT_MATCHES,
            },
        },
        ["pattern"],
    )

    def work(self, args: dict[str, Any], budget: Budget) -> ToolResult:
        """Walk, open, search."""
        names = ("pattern", "path", "glob_pattern", "ignore_case", "context", "max_matches")
        arguments.only(args, names)
        pattern = arguments.text(args, "pattern")
        search = line_search(pattern, ignore_case=arguments.flag(args, "ignore_case"))
        request = self._access.root.parse(arguments.text(args, "path", "."))
        glob = Glob(arguments.text(args, "glob_pattern", "*"), anywhere=True)
        hits = _Hits(
            limit=arguments.whole(args, "max_matches", DEFAULT_MATCHES, 1, MAX_MATCHES),
            context=arguments.whole(args, "context", 0, 0, MAX_CONTEXT),
        )
        budget.on_stop(search.stop)
        tree = Tree(self._access.root, budget, respect_gitignore=self._access.respect_gitignore)
        with search:
            for path, file in self._files(tree, request, glob, hits, budget):
                with file:
                    hits.search(path, file, search)
                if hits.full or not budget.spend(0):
                    break
        return hits.result(tree, budget)

    def _files(
        self, tree: Tree, request: PathRequest, glob: Glob, hits: _Hits, budget: Budget
    ) -> Iterator[tuple[str, TextFile]]:
        """The files to search, each opened where the walk found it."""
        try:
            with self._access.root.directory(request) as directory:
                base = len(directory.parts)
                for entry in tree.entries(directory, enter=glob.may_match_below):
                    if entry.kind != "file" or not glob.matches(entry.parts[base:]):
                        continue
                    try:
                        fd = open_regular(entry.parts[-1], entry.directory, entry.path)
                        yield entry.path, TextFile(fd, entry.path)
                    except BinaryFileError:
                        hits.binary += 1
                    except ToolError as error:
                        tree.skipped.append(str(error))
            return
        except DirectoryExpectedError:
            pass  # one file was named: no walk, and whatever is wrong with it is the answer
        with self._access.root.file(request) as fd:
            yield request.shown, TextFile(fd, request.shown, close_fd=False)


@dataclass(slots=True)
class _Hits:
    """What was found so far, as lines for the model and as values for programs."""

    limit: int
    context: int
    lines: list[str] = field(default_factory=list[str])
    matches: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    chars: int = 0
    searched: int = 0
    binary: int = 0
    partly: int = 0

    @property
    def full(self) -> bool:
        """Whether nothing more may be added."""
        return len(self.matches) >= self.limit or self.chars > MAX_OUTPUT_CHARS

    def search(self, path: str, file: TextFile, search: LineSearch) -> None:
        """Add the matches of one file."""
        text, more = file.text(MAX_SEARCHED_BYTES)
        self.searched += 1
        self.partly += more
        text = text.removesuffix("\n")
        columns = dict(search.find(text, self.limit - len(self.matches)))
        lines = text.split("\n") if columns else []
        previous = -2
        for number in self._around(columns, len(lines)):
            if self.context and self.lines and number != previous + 1:
                self._add("--")
            previous, column = number, columns.get(number)
            mark = "-" if column is None else ":"
            shown = _window(lines[number], column or 0)
            self._add(f"{path}{mark}{number + 1}{mark} {shown}")
            if column is not None:
                self.matches.append({"path": path, "line": number + 1, "text": shown})
            if self.chars > MAX_OUTPUT_CHARS:
                return

    def _around(self, numbers: Iterable[int], end: int) -> list[int]:
        """The matching lines and their neighbours, in order."""
        near = range(-self.context, self.context + 1)
        return sorted({number + step for number in numbers for step in near if 0 <= number + step < end})

    def _add(self, line: str) -> None:
        self.lines.append(line)
        self.chars += len(line) + 1

    def result(self, tree: Tree, budget: Budget) -> ToolResult:
        """The matches, with notes on what was not searched."""
        notes = [*tree.notes, *tree.skipped[:5]]
        truncated = self.full or bool(budget.exhausted)
        if not self.matches:
            notes.append(f"no match in {self.searched} file(s)")
        if self.full:
            notes.append(
                f"stopped at {len(self.matches)} matches; narrow `pattern`, `path` or `glob_pattern`"
            )
        if budget.exhausted:
            notes.append(f"incomplete: stopped after {budget.exhausted}; narrow `path` or `glob_pattern`")
        if self.binary:
            notes.append(f"{self.binary} binary file(s) not searched")
        if self.partly:
            notes.append(
                f"of {self.partly} large file(s) only the first {MAX_SEARCHED_BYTES} bytes were searched"
            )
        facts = {"count": len(self.matches), "files": self.searched, "truncated": truncated}
        return ToolResult(
            with_notes(self.lines, notes), metadata=facts, data={"matches": self.matches, **facts}
        )


def _window(line: str, column: int) -> str:
    """The part of a long line around its match."""
    if len(line) <= MAX_SHOWN_CHARS:
        return line
    first = max(0, min(column - MAX_SHOWN_CHARS // 3, len(line) - MAX_SHOWN_CHARS))
    end = first + MAX_SHOWN_CHARS
    return f"{'…' if first else ''}{line[first:end]}{'…' if end < len(line) else ''}"
