"""The tools List and Glob: what is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ...safety.paths import visible
from ...types import ToolResult
from . import call_arguments as arguments
from .file_tool import FileTool, read_only_spec, with_notes
from .globs import MAX_PATTERN_CHARS, Glob
from .rooted import OpenDirectory
from .walk import MAX_DEPTH, Budget, Entry, Tree

MAX_SHOWN = 1000

_PATH = {
    "type": "string",
    "description": "Directory to look in, relative to the root. Default: the root.",
    "default": ".",
}


class ListTool(FileTool):
    """List: the entries of a directory, one a line."""

    spec = read_only_spec(
        "List",
        "List a directory, one entry a line: directories end with '/', files are followed by their size in "
        "bytes, links by '-> target'. Paths are relative to the root and can be given to the other tools. "
        "Files named by .gitignore and version control directories are left out.",
        {
            "path": _PATH,
            "depth": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_DEPTH,
                "default": 1,
                "description": "How many levels to show. 1 is the directory alone.",
            },
        },
    )

    def work(self, args: dict[str, Any], budget: Budget) -> ToolResult:
        """Walk and print."""
        arguments.only(args, ("path", "depth"))
        request = self._access.root.parse(arguments.text(args, "path", "."))
        depth = arguments.whole(args, "depth", 1, 1, MAX_DEPTH)
        tree = Tree(self._access.root, budget, respect_gitignore=self._access.respect_gitignore)
        with self._access.root.directory(request) as start:
            shown = list(_described(tree.entries(start, depth=depth)))
        notes = [*tree.notes, *tree.skipped[:5]]
        if not shown:
            notes.append("nothing to list here")
        lines = [line for line, _ in shown]
        return _listing(
            lines, [entry for _, entry in shown], notes, budget, "list a directory below it instead"
        )


class GlobTool(FileTool):
    """Glob: the files whose path fits a pattern, one a line."""

    spec = read_only_spec(
        "Glob",
        "Find files by name pattern, one path a line, sorted. '*' and '?' stay within a name, '**' is any "
        "number of directories, '{a,b}' either: '*.toml' is the directory itself, '**/*.py' everything below "
        "it. Files named by .gitignore and version control directories are left out.",
        {
            "pattern": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_PATTERN_CHARS,
                "description": "Pattern for the path relative to `path`, such as 'src/**/*.{ts,tsx}'.",
            },
            "path": _PATH,
        },
        ["pattern"],
    )

    def work(self, args: dict[str, Any], budget: Budget) -> ToolResult:
        """Walk and match."""
        arguments.only(args, ("pattern", "path"))
        glob = Glob(arguments.text(args, "pattern"))
        request = self._access.root.parse(arguments.text(args, "path", "."))
        tree = Tree(self._access.root, budget, respect_gitignore=self._access.respect_gitignore)
        with self._access.root.directory(request) as start:
            lines = list(_matching(tree, start, glob))
        notes = [*tree.notes, *tree.skipped[:5]]
        if not lines:
            deeper = (
                ""
                if "**" in arguments.text(args, "pattern")
                else "; '**/' before a name looks in all directories"
            )
            notes.append(f"no file fits the pattern{deeper}")
        found = [{"path": line, "kind": "file"} for line in lines]
        return _listing(lines, found, notes, budget, "use a narrower pattern or path")


def _described(entries: Iterator[Entry]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, entry in enumerate(entries):
        if number > MAX_SHOWN:
            return
        described: dict[str, Any] = {"path": entry.path, "kind": entry.kind}
        if entry.kind == "directory":
            line = f"{entry.path}/"
        elif entry.kind == "link":
            line = f"{entry.path} -> {_target(entry)}"
        elif entry.kind == "file":
            described["size"] = entry.size()
            line = f"{entry.path}  {described['size']}"
        else:
            line = f"{entry.path}  (special file)"
        yield line, described


def _target(entry: Entry) -> str:
    try:
        return visible(os.readlink(entry.parts[-1], dir_fd=entry.directory))
    except OSError:  # it has gone or changed since it was listed
        return "?"


def _matching(tree: Tree, start: OpenDirectory, glob: Glob) -> Iterator[str]:
    base, found = len(start.parts), 0
    for entry in tree.entries(start, enter=glob.may_match_below):
        if entry.kind == "file" and glob.matches(entry.parts[base:]):
            yield entry.path
            found += 1
            if found > MAX_SHOWN:
                return


def _listing(
    lines: list[str], entries: list[dict[str, Any]], notes: list[str], budget: Budget, advice: str
) -> ToolResult:
    """The result, cut to what may be shown; a cut is said."""
    truncated = len(lines) > MAX_SHOWN or bool(budget.exhausted)
    if len(lines) > MAX_SHOWN:
        notes.append(f"cut: the first {MAX_SHOWN} are shown; {advice}")
    if budget.exhausted:
        notes.append(f"incomplete: stopped after {budget.exhausted}; {advice}")
    kept = entries[:MAX_SHOWN]
    return ToolResult(
        with_notes(lines[:MAX_SHOWN], notes),
        metadata={"count": len(kept), "truncated": truncated},
        data={"entries": kept, "truncated": truncated},
    )
