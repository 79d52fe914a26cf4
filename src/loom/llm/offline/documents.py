"""Files as the ``Read`` tool returned them, and what a README or a source file says of itself.

Extraction only: each finding is a ``Fact`` with the words of the file and the line they stand on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .quoting import Quote, plain
from .tree import says_cut

Kind = Literal["name", "purpose", "needs", "dependency", "entry", "run", "test", "licence"]

_NUMBERED = re.compile(r"\s*(\d{1,9})\t(.*)\Z", re.DOTALL)
# The rest of a longer line (minified code, embedded data) is not looked at.
_MOST_LINE = 2_000
_MOST_PARAGRAPH = 320
_MOST_COMMANDS = 6


@dataclass(frozen=True, slots=True)
class Fact:
    """One finding. ``target`` is the file or module an entry names."""

    kind: Kind
    quote: Quote
    target: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's lines by number, as far as they were read. ``partial`` when the tool cut it."""

    path: str
    lines: tuple[tuple[int, str], ...]
    partial: bool

    def fact(self, kind: Kind, text: str, line: int, *, last: int = 0, target: str = "") -> Fact:
        """A finding in this file."""
        return Fact(kind, Quote(text, self.path, line, last), target)


def read_document(path: str, text: str) -> Document:
    """Read numbered lines. Only ``\\n`` ends a line and numbers must rise by one, so content forges none."""
    lines: list[tuple[int, str]] = []
    partial = False
    for raw in text.split("\n"):
        match = _NUMBERED.match(raw[:_MOST_LINE])
        if match and (not lines or int(match[1]) == lines[-1][0] + 1):
            lines.append((int(match[1]), match[2].rstrip("\r")))
        elif says_cut(raw[:_MOST_LINE]):
            partial = True
    return Document(path, tuple(lines), partial)


# --- README -------------------------------------------------------------------------------------------

_FENCE = re.compile(r"\A\s{0,3}(`{3,}|~{3,})\s*([\w+-]*)")
_RULE = re.compile(r"\A\s*([=\-~^*_#\"'+])\1{2,}\s*\Z")
_NOT_PROSE = re.compile(r"\A\s*(?:#|[-*+]\s|\d+[.)]\s|\||<|!?\[!|\[!\[|\.\.(?:\s|\Z)|:\w+:|\[[^\]]*\]:|!\[)")
_SHELLS = frozenset({"bash", "sh", "shell", "console", "zsh", "shell-session", "powershell"})


def readme_facts(document: Document) -> Iterator[Fact]:
    """The title, the first paragraph of prose and the shell commands in fenced blocks."""
    title = _title(document)
    if title is not None:
        yield title
    prose = _first_paragraph(document)
    if prose is not None:
        yield prose
    yield from _commands(document)


def _title(document: Document) -> Fact | None:
    before = (0, "")
    for number, line in document.lines[:40]:
        heading = re.match(r"\A\s{0,3}#\s+(\S.*)", line)
        if heading:
            return document.fact("name", heading[1].rstrip("# "), number)
        if _RULE.match(line) and re.match(r"\w", before[1].strip()):
            return document.fact("name", before[1].strip(), before[0])
        before = (number, line)
    return None


def _first_paragraph(document: Document) -> Fact | None:
    paragraph: list[tuple[int, str]] = []
    for number, line in _prose_lines(document):
        if not line and paragraph:
            if _says_something(paragraph):
                break
            paragraph = []
        elif line:
            paragraph.append((number, line))
    if not paragraph or not _says_something(paragraph):
        return None
    kept: list[str] = []
    while len(kept) < len(paragraph) and sum(map(len, kept)) < _MOST_PARAGRAPH:
        kept.append(paragraph[len(kept)][1])
    first, last = paragraph[0][0], paragraph[len(kept) - 1][0]
    return document.fact("purpose", " ".join(kept), first, last=last)


def _says_something(paragraph: list[tuple[int, str]]) -> bool:
    return sum(len(plain(line)) for _, line in paragraph) >= 15


def _prose_lines(document: Document) -> Iterator[tuple[int, str]]:
    """Each line of prose stripped; anything else comes as an empty line, which ends a paragraph."""
    fence = ""
    comment = front_matter = False
    lines = document.lines
    for index, (number, raw) in enumerate(lines):
        line = raw.strip()
        opening = _FENCE.match(raw)
        if index == 0 and line == "---":
            front_matter = True
        elif front_matter:
            front_matter = line != "---"
        elif comment or line.startswith("<!--"):
            comment = "-->" not in line
        elif fence or opening:
            if opening and (not fence or line.startswith(fence)):
                fence = "" if fence else opening[1][:3]
        elif line and not _NOT_PROSE.match(raw) and not _RULE.match(raw) and not _underlined(lines, index):
            yield number, line.removeprefix(">").strip()
            continue
        yield number, ""


def _underlined(lines: tuple[tuple[int, str], ...], index: int) -> bool:
    return index + 1 < len(lines) and _RULE.match(lines[index + 1][1]) is not None


def _commands(document: Document) -> Iterator[Fact]:
    fence = shell = ""
    found = 0
    for number, raw in document.lines:
        opening = _FENCE.match(raw)
        if opening and not fence:
            fence, shell = opening[1][:3], opening[2].lower()
        elif fence and raw.strip().startswith(fence):
            fence = ""
        elif fence and found < _MOST_COMMANDS:
            line = raw.strip()
            prompt = line.startswith("$ ")
            if prompt or (shell in _SHELLS and line and not line.startswith("#")):
                found += 1
                command = line.removeprefix("$ ")
                yield document.fact(
                    "test" if re.search(r"\btests?\b|pytest", command) else "run", command, number
                )


# --- sources ------------------------------------------------------------------------------------------

_STARTS = re.compile(
    r"\A(?:async )?(?:def main\b|if __name__ ==|func main\(|(?:pub )?(?:async )?fn main\(|int main\b"
    r"|void main\("
    r"|public static void main\b|static void Main\b|fun main\(|app\.listen\(|server\.listen\("
    r"|(?:async )?function main\()"
)
_REMARK = re.compile(r'\A(?:[rR]?"""|[rR]?\'\'\'|//[!/]?|/\*\*?|#)\s*(?=\S)')
_OPENINGS = frozenset({'"""', "'''", "/*", "/**"})
_BOILERPLATE = re.compile(
    r"\A#!|copyright|licen[sc]e|spdx|-\*-|coding[:=]|eslint|@ts-|noqa|pylint|you may|warrant|all rights",
    re.IGNORECASE,
)


def source_quotes(document: Document) -> list[Quote]:
    """What a source file says of itself: its first remark, and the line where a program starts."""
    remark = _first_remark(document)
    quotes = [remark] if remark is not None else []
    start = next(((n, line.strip()) for n, line in document.lines if _STARTS.match(line.strip())), None)
    if start is not None:
        quotes.append(Quote(start[1], document.path, start[0]))
    return quotes


def _first_remark(document: Document) -> Quote | None:
    opened = False
    for number, line in document.lines[:15]:
        text = line.strip()
        remark = opened or _REMARK.match(text) is not None
        if remark and len(text) > 8 and not _BOILERPLATE.search(text):
            return Quote(text, document.path, number)
        opened = opened or text in _OPENINGS
        if text and not remark and not opened and not _BOILERPLATE.search(text):
            return None
    return None


def licence_fact(document: Document) -> Fact | None:
    """The first line of a licence text that says something."""
    for number, line in document.lines[:12]:
        if len(plain(line)) > 3 and not _RULE.match(line):
            return document.fact("licence", line.strip(), number)
    return None
