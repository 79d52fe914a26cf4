"""Reading our own Markdown: fenced blocks with the mark above them, headings, links. What the docs use."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w+-]*)[^`]*$")
_MARK = re.compile(r"^\s*<!--\s*(?P<mark>.*?)\s*-->\s*$")
_HEADING = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*\s*$", re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. ``line`` is that of its opening fence; ``mark`` the HTML comment right above."""

    path: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def where(self) -> str:
        """A place an editor can jump to."""
        return f"{self.path.name}:{self.line}"


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a file, in order. Raises ValueError for a fence that is never closed."""
    lines = path.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        start, fence = number, opening["fence"]
        number += 1
        while number < len(lines) and not _closes(lines[number], fence):
            number += 1
        if number == len(lines):
            raise ValueError(f"{path.name}:{start + 1} opens a block that is never closed")
        text = textwrap.dedent("\n".join(lines[start + 1 : number])) + "\n"
        yield Block(path, start + 1, opening["language"].lower(), text, _mark_above(lines, start))
        number += 1


def _closes(line: str, fence: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(fence) and set(bare) == {fence[0]}


def _mark_above(lines: list[str], start: int) -> str:
    above = next((line for line in reversed(lines[:start]) if line.strip()), "")
    found = _MARK.match(above)
    return found["mark"] if found else ""


def prose(path: Path) -> str:
    """The text of a file without its fenced blocks and inline code."""
    kept: list[str] = []
    fence = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        opening = _FENCE.match(line)
        if fence:
            fence = "" if _closes(line, fence) else fence
        elif opening:
            fence = opening["fence"]
        else:
            kept.append(re.sub(r"(`+).+?\1", "", line))
    return "\n".join(kept)


def links(path: Path) -> list[str]:
    """The targets of the links and images of a file."""
    return [found["target"] for found in _LINK.finditer(prose(path))]


def anchors(path: Path) -> set[str]:
    """The names under which a file's headings can be linked, as the usual hosts make them."""
    text = path.read_text(encoding="utf-8")
    names: set[str] = set()
    for heading in _HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        taken, number = slug, 0
        while taken in names:
            number += 1
            taken = f"{slug}-{number}"
        names.add(taken)
    return names
