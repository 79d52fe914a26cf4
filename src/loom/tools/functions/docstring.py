"""What a docstring says about a function: its summary and its parameters, in Google, numpy and reST style.

Reads text only; it knows nothing of functions or schemas. A style is recognised by its own marks, so one
docstring may even mix them; what is not recognised is ignored.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

__all__ = ["read_docstring"]

_GOOGLE_HEADER = re.compile(r"(Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments):\s*$")
_ANY_GOOGLE_HEADER = re.compile(
    r"(Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments|Returns?|Yields?|Raises|Examples?|"
    r"Notes?|Warnings?|Attributes|See Also|Todo):\s*$"
)
_GOOGLE_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:(?:\s+(.*)|$)")
_NUMPY_HEADER = re.compile(r"(Other )?Parameters\s*$")
_RULE = re.compile(r"-{3,}\s*$")
_REST_FIELD = re.compile(r":\w[^:]*:")
_REST_PARAM = re.compile(
    r":(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)$"
)


def read_docstring(docstring: str | None) -> tuple[str, dict[str, str]]:
    """Return the first paragraph as one line, and the text of each parameter by name."""
    if not docstring:
        return "", {}
    lines = inspect.cleandoc(docstring).splitlines()
    texts: dict[str, str] = {}
    for name, text in (*_google(lines), *_numpy(lines), *_rest(lines)):
        if text:
            texts.setdefault(name, text)
    return _summary(lines), texts


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_rule(lines: list[str], index: int) -> bool:
    return index < len(lines) and _RULE.match(lines[index]) is not None


def _summary(lines: list[str]) -> str:
    kept: list[str] = []
    for index, line in enumerate(lines):
        starts_section = (
            _ANY_GOOGLE_HEADER.match(line) or _REST_FIELD.match(line) or _is_rule(lines, index + 1)
        )
        if not line.strip() or starts_section:
            break
        kept.append(line.strip())
    return " ".join(kept)


def _google(lines: list[str]) -> Iterator[tuple[str, str]]:
    for start, line in enumerate(lines):
        if not _GOOGLE_HEADER.match(line):
            continue
        block: list[str] = []
        for following in lines[start + 1 :]:
            if following.strip() and _indent(following) == 0:
                break
            block.append(following)
        yield from _entries(block)


def _entries(block: list[str]) -> Iterator[tuple[str, str]]:
    """The entries of one Google section: a name and a colon at the section's indent, deeper lines go on."""
    depth = next((_indent(line) for line in block if line.strip()), 0)
    name, words = "", list[str]()
    for line in block:
        entry = _GOOGLE_ENTRY.match(line.strip()) if _indent(line) <= depth and line.strip() else None
        if entry:
            if name:
                yield name, " ".join(words)
            name, words = entry[1], [entry[2]] if entry[2] else []
        elif line.strip():
            words.append(line.strip())
    if name:
        yield name, " ".join(words)


def _numpy(lines: list[str]) -> Iterator[tuple[str, str]]:
    for start, line in enumerate(lines):
        if not (_NUMPY_HEADER.match(line) and _is_rule(lines, start + 1)):
            continue
        names, words = list[str](), list[str]()
        for index in range(start + 2, len(lines)):
            here = lines[index]
            if here.strip() and _indent(here) == 0:
                yield from ((name, " ".join(words)) for name in names)
                if _is_rule(lines, index + 1):
                    names = []
                    break
                names, words = re.findall(r"\w+", here.partition(":")[0]), []
            elif here.strip():
                words.append(here.strip())
        yield from ((name, " ".join(words)) for name in names)


def _rest(lines: list[str]) -> Iterator[tuple[str, str]]:
    name, words = "", list[str]()
    for line in (*lines, ":end:"):
        text = line.strip()
        if name and (not text or _REST_FIELD.match(text)):
            yield name, " ".join(words)
            name = ""
        param = _REST_PARAM.match(text)
        if param:
            name, words = param[1], [param[2]] if param[2] else []
        elif name:
            words.append(text)
