"""Foreign text made safe to repeat: control characters out, length bounded, Markdown inert, source named.

Every word of a file, a file name or a tool result that reaches an answer goes through here.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\^_])")
_FENCE_RUNS = re.compile(r"`+")
_REPLACED = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str, limit: int = 200) -> str:
    """One line of at most ``limit`` characters without escapes, control or invisible characters."""
    # Terminal escapes end within the first characters looked at; the rest of a huge line is never scanned.
    visible = "".join(_visible(char) for char in _ESCAPES.sub("", text[: 4 * limit + 400]))
    line = visible.strip()
    if len(line) <= limit:
        return line
    cut = line[: limit - 1]
    head, space, _ = cut.rpartition(" ")
    return (head if space and len(head) > limit // 2 else cut).rstrip() + "…"


def _visible(char: str) -> str:
    if char in "\t\n\r":
        return " "
    if char < "\x7f" and char >= " ":
        return char
    category = unicodedata.category(char)
    if category == "Cf":  # zero-width and direction marks, which can hide or reorder text
        return ""
    return "\ufffd" if category in _REPLACED else char


def code(text: str, limit: int = 200) -> str:
    """``text`` as an inert Markdown code span."""
    line = plain(text, limit) or " "
    fence = "`" * (max((len(run) for run in _FENCE_RUNS.findall(line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def block(text: str, limit: int) -> str:
    """``text`` as a fenced block of at most ``limit`` characters, lines kept, control characters out."""
    cut = text[:limit]
    lines = [plain_line(line) for line in cut.split("\n")]
    longest = max((len(run) for line in lines for run in _FENCE_RUNS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    note = f"\n(cut: the result has {len(text):,} characters)" if len(text) > limit else ""
    return "\n".join([f"{fence}text", *lines, fence]) + note


def plain_line(text: str) -> str:
    """``text`` with its spaces kept and its control characters out."""
    return "".join(_visible(char) for char in _ESCAPES.sub("", text)).rstrip()


@dataclass(frozen=True, slots=True)
class Quote:
    """Words of one file: ``text`` stands on line ``line`` of ``path`` (from 1), or on to line ``last``."""

    text: str
    path: str
    line: int
    last: int = 0

    def cited(self, limit: int = 200) -> str:
        """The words and where they stand, as Markdown."""
        where = f"{self.line}-{self.last}" if self.last > self.line else str(self.line)
        return f"{code(self.text, limit)} ({code(f'{plain(self.path, 120)}:{where}', 140)})"
