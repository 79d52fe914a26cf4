"""The tools of the ``Files`` grant: List, Glob, Grep and Read, confined to one root, reading only.

Each tool lives in its own file; here is what they print, for those who read results with a program. One fact
a line, paths relative to the root and fit to be given back; lines in ``[...]`` at the end are notes, never
content.

* List: ``src/`` a directory, ``README.md  1204`` a file and its bytes (two spaces), ``now -> old`` a link.
* Glob: one path a line.
* Grep: ``path:line: text``; neighbours ``path-line- text``; groups separated by ``--``.
* Read: the line number right-aligned to six places, a tab, the text.

Names are printed as they are, except control and direction characters, which become backslash escapes. The
same facts are in ``ToolResult.data`` (``entries``, ``matches``) and ``ToolResult.metadata`` (counts,
``truncated``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .base import ToolHandler
from .filesystem.file_tool import Access
from .filesystem.grep import GrepTool
from .filesystem.listing import GlobTool, ListTool
from .filesystem.reading import ReadTool
from .filesystem.rooted import Root
from .filesystem.walk import MAX_ENTRIES, MAX_SECONDS

__all__ = ["file_tools"]


def file_tools(
    *,
    root: str | Path | None = None,
    max_read_bytes: int = 128 * 1024,
    respect_gitignore: bool = True,
    max_entries: int = MAX_ENTRIES,
    max_seconds: float = MAX_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> list[ToolHandler]:
    """The handlers of a ``Files`` declaration.

    ``root`` None is the directory that is current now. ``max_entries`` and ``max_seconds`` bound one call's
    walk. Raises ConfigError when the root is no directory.
    """
    access = Access(Root(root), max_read_bytes, respect_gitignore, max_entries, max_seconds, clock)
    return [ListTool(access), GlobTool(access), GrepTool(access), ReadTool(access)]
