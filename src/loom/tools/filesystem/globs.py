"""Glob patterns for paths, matched in bounded time. Pure: text against names.

``*`` and ``?`` and ``[abc]`` stay within one name, ``**`` stands for any number of directories, ``{a,b}`` for
either. Names are compared case-sensitively; a leading dot is nothing special.
"""

from __future__ import annotations

import fnmatch
import re

from ...errors import ToolArgumentsError

MAX_PATTERN_CHARS = 1000
_MAX_ALTERNATIVES = 64
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


class Glob:
    """A compiled pattern. Raises ToolArgumentsError for one that is empty, too long or climbs with ``..``.

    With ``anywhere`` a pattern without a slash matches the last name at any depth, as ``grep --include``
    does.
    """

    def __init__(self, pattern: str, *, anywhere: bool = False) -> None:
        if not pattern.strip("/") or len(pattern) > MAX_PATTERN_CHARS:
            raise ToolArgumentsError(
                f"a glob pattern needs 1 to {MAX_PATTERN_CHARS} characters, such as '**/*.py'."
            )
        if anywhere and "/" not in pattern:
            pattern = f"**/{pattern}"
        self._alternatives = [_compiled(text) for text in _expanded(pattern)]

    def matches(self, names: tuple[str, ...]) -> bool:
        """Whether the path made of ``names`` fits the whole pattern."""
        return any(_fits(steps, names) for steps in self._alternatives)

    def may_match_below(self, names: tuple[str, ...]) -> bool:
        """Whether something inside the directory ``names`` could fit, so that it is worth entering."""
        return any(_fits(steps, names, prefix=True) for steps in self._alternatives)


_Steps = list["re.Pattern[str] | None"]


def _compiled(pattern: str) -> _Steps:
    """One regex a name; None is ``**``. fnmatch writes atomic groups, so one name costs no backtracking."""
    steps: _Steps = []
    for name in pattern.split("/"):
        if name == "..":
            raise ToolArgumentsError("a glob pattern cannot climb with '..'; give the directory as `path`.")
        if name == "**":
            if not steps or steps[-1] is not None:
                steps.append(None)
        elif name not in ("", "."):
            steps.append(re.compile(fnmatch.translate(name)))
    return steps


def _fits(steps: _Steps, names: tuple[str, ...], *, prefix: bool = False) -> bool:
    """Run all ways of matching at once: ``alive`` holds the steps that may come next."""
    alive = _opened(steps, {0})
    for name in names:
        reached: set[int] = set()
        for at in alive:
            if at == len(steps):
                continue
            step = steps[at]
            if step is None:
                reached.add(at)
            elif step.match(name):
                reached.add(at + 1)
        alive = _opened(steps, reached)
        if not alive:
            return False
    return any(at < len(steps) for at in alive) if prefix else len(steps) in alive


def _opened(steps: _Steps, alive: set[int]) -> set[int]:
    """``**`` may stand for no directory at all: its successor is alive with it."""
    return alive | {at + 1 for at in alive if at < len(steps) and steps[at] is None}


def _expanded(pattern: str) -> list[str]:
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        text = waiting.pop()
        match = _BRACES.search(text)
        if match is None:
            done.append(text)
        else:
            waiting += [
                text[: match.start()] + choice + text[match.end() :] for choice in match[1].split(",")
            ]
        if len(done) + len(waiting) > _MAX_ALTERNATIVES:
            raise ToolArgumentsError(
                f"a glob pattern may stand for at most {_MAX_ALTERNATIVES} alternatives."
            )
    return done
