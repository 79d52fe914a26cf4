"""Results too large for the conversation: the beginning stays, the rest is kept aside to be read on demand.

``OutputStore`` cuts and keeps, ``ReadOutput`` is the tool that reads on. What is kept is in memory, belongs
to one session and is bounded: the least recently used text goes first. The head is shown, not the tail,
because most outputs say first what they are; the filter of ``ReadOutput`` finds the rest.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import ToolError
from ..safety.schema import validate_arguments
from ..types import Part, TextPart, ToolResult, ToolSpec, to_json
from .base import ToolContext, ToolHandler
from .functions.returned import clean_text

__all__ = ["OutputStore", "ReadOutput", "cut_position"]

DEFAULT_LIMIT = 20_000
"""Characters of one result: about 5,000 tokens of English."""
MIN_LIMIT = 500
PAGE = 10_000
MAX_PAGE = 16_000
_NOTICE_ROOM = 300
_LINE_SHOWN = 400


@dataclass(frozen=True, slots=True)
class _Kept:
    text: str
    length: int
    size: int


class OutputStore:
    """Large texts of one session, by reference. ``max_bytes`` bounds their memory."""

    def __init__(self, *, max_bytes: int = 16_000_000) -> None:
        if max_bytes < 1:
            raise ValueError("max_bytes must be positive")
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def cap(self, result: ToolResult, *, limit_chars: int = DEFAULT_LIMIT, call_id: str) -> ToolResult:
        """The result with at most ``limit_chars`` characters of text, notices included where it was cut.

        Text parts beside media share the limit. Data larger than the limit is dropped, since the text has it.
        A result that fits is returned as it is. Raises ValueError for a limit below 500.
        """
        if limit_chars < MIN_LIMIT:
            raise ValueError(f"limit_chars must be at least {MIN_LIMIT}")
        text = self._cut(clean_text(result.text), limit_chars, call_id)
        parts = self._cut_parts(result.content_parts, limit_chars - len(text), call_id)
        data, dropped = _fitting(result.data, limit_chars)
        if dropped:
            text = f"{text}\n[{dropped}]" if text else f"[{dropped}]"
        if text == result.text and parts is result.content_parts and data is result.data:
            return result
        return msgspec.structs.replace(result, text=text, content_parts=parts, data=data)

    def _cut_parts(self, parts: Any, room: int, call_id: str) -> Any:
        if not parts or not any(isinstance(part, TextPart) for part in parts):
            return parts
        out: list[Part] = []
        for part in parts:
            if isinstance(part, TextPart):
                text = self._cut(clean_text(part.text), max(room, MIN_LIMIT), call_id)
                room -= len(text)
                part = part if text == part.text else TextPart(text)
            out.append(part)
        return parts if all(new is old for new, old in zip(out, parts, strict=True)) else out

    def _cut(self, text: str, limit: int, call_id: str) -> str:
        if len(text) <= limit:
            return text
        reference = self._keep(text, call_id)
        end = cut_position(text, 0, limit - _NOTICE_ROOM)
        stored = len(self._kept[reference].text)
        lost = f" Only the first {stored} were kept." if stored < len(text) else ""
        left = len(text) - end
        return (
            f"{text[:end].rstrip()}\n[Cut: the first {end} of {len(text)} characters are shown, "
            f'{left} are left.{lost} Read on with read_output(reference="{reference}", offset={end}).]'
        )

    def _keep(self, text: str, call_id: str) -> str:
        """Keep a text under a name made of call and content, so that a replay finds the same one."""
        digest = hashlib.sha256(f"{call_id}\0{text}".encode("utf-8", "replace")).hexdigest()
        reference = f"out_{digest[:16]}"
        self._forget(reference)
        kept = text
        if (size := sys.getsizeof(text)) > self._max_bytes:
            kept = text[: len(text) * self._max_bytes // size]
            size = min(sys.getsizeof(kept), self._max_bytes)
        while self._kept and self._bytes + size > self._max_bytes:
            self._forget(next(iter(self._kept)))
        self._kept[reference] = _Kept(kept, len(text), size)
        self._bytes += size
        return reference

    def _forget(self, reference: str) -> None:
        gone = self._kept.pop(reference, None)
        if gone is not None:
            self._bytes -= gone.size

    def read(self, reference: str, *, offset: int = 0, limit: int = PAGE, pattern: str | None = None) -> str:
        """A page of a kept text from ``offset`` (characters), or the lines that contain ``pattern``.

        The filter is plain text and ignores case. Raises ToolError for an unknown reference or offset.
        """
        kept = self._kept.get(reference)
        if kept is None:
            raise ToolError(
                f"there is no output {clean_text(reference[:40])!r} any more: outputs are kept in memory for "
                "a while only. Call the tool again that produced it, with narrower arguments if it has any"
            )
        self._kept.move_to_end(reference)
        if offset >= len(kept.text):
            raise ToolError(f"offset {offset} is past the end: {len(kept.text)} characters can be read")
        if pattern:
            return _matches(kept.text, pattern, offset, limit)
        end = cut_position(kept.text, offset, limit)
        shown = kept.text[offset:end]
        return f"{shown}\n[Characters {offset} to {end} of {kept.length}. {_next_step(kept, end)}]"


def _next_step(kept: _Kept, end: int) -> str:
    if end < len(kept.text):
        return f"Read on with offset={end}."
    lost = kept.length - len(kept.text)
    return f"The last {lost} characters were not kept." if lost else "This is the end."


def _matches(text: str, pattern: str, offset: int, limit: int) -> str:
    wanted = pattern.casefold()
    out: list[str] = []
    used = 0
    for start, line in _lines(text, offset):
        if wanted not in line.casefold():
            continue
        shown = f"{start}: {_around(line, wanted)}"
        if out and used + len(shown) > limit:
            return "\n".join([*out, f"[More lines match. Read on with offset={start} and the same pattern.]"])
        out.append(shown)
        used += len(shown) + 1
    if not out:
        return f"[No line from offset {offset} on contains {pattern[:80]!r}.]"
    return "\n".join([*out, "[No more matches. The number before each line is its offset.]"])


def _lines(text: str, offset: int) -> Iterator[tuple[int, str]]:
    while offset < len(text):
        end = text.find("\n", offset)
        end = len(text) if end < 0 else end
        yield offset, text[offset:end].rstrip("\r")
        offset = end + 1


def _around(line: str, wanted: str) -> str:
    """A long line around its first match."""
    if len(line) <= _LINE_SHOWN:
        return line
    start = max(line.casefold().find(wanted) - _LINE_SHOWN // 4, 0)
    end = cut_position(line, start, _LINE_SHOWN)
    return f"{'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"


def _fitting(data: Any, limit: int) -> tuple[Any, str]:
    """Data that may stay, and a note when it was dropped for another reason than its size."""
    if (
        data is None
        or isinstance(data, bool | int | float)
        or (isinstance(data, str) and len(data) < limit // 8)
    ):
        return data, ""
    try:
        return (data if len(to_json(data)) <= limit else None), ""
    except (TypeError, ValueError, RecursionError) as error:
        return None, f"The tool's data was dropped, it is not plain data: {clean_text(str(error))[:200]}"


def cut_position(text: str, start: int, size: int) -> int:
    """Where to end a piece of at most ``size`` characters that begins at ``start``; always after ``start``.

    After the last line end in its second half, else between two characters a reader would call separate.
    """
    end = start + max(size, 1)
    if end >= len(text):
        return len(text)
    line_end = text.rfind("\n", start + max(size, 1) // 2, end)
    if line_end >= 0:
        return line_end + 1
    lowest = max(end - 64, start + 1)
    while end > lowest and not _may_break(text, end):
        end -= 1
    return end


def _may_break(text: str, index: int) -> bool:
    """Whether a grapheme may end before ``index``: the main rules of Unicode's annex 29, not all of them."""
    before, after = text[index - 1], text[index]
    if before.isascii() and after.isascii():
        return not (before == "\r" and after == "\n")
    joined = after in "\u200d\ufe0e\ufe0f" or before == "\u200d" or "\U0001f3fb" <= after <= "\U0001f3ff"
    is_flag = all("\U0001f1e6" <= char <= "\U0001f1ff" for char in (before, after))
    return not (joined or is_flag or unicodedata.category(after).startswith("M"))


class ReadOutput(ToolHandler):
    """The tool ``read_output``. ``store`` is the session's, or finds it by session id (None: nothing kept).

    Keep ``MAX_PAGE`` below the limit that results are capped with, so that a page is never cut again.
    """

    def __init__(self, store: OutputStore | Callable[[str], OutputStore | None]) -> None:
        self._store = store

    @property
    def tool(self) -> ToolSpec:
        """See ToolHandler."""
        return _READ_OUTPUT

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        """Read without a session: only with a store of its own."""
        return self._read(args, "")

    async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> ToolResult:
        """Read from the store of the session the call belongs to."""
        return self._read(args, context.session_id)

    def _read(self, args: dict[str, Any], session_id: str) -> ToolResult:
        validate_arguments(_READ_OUTPUT, args)
        store = self._store if isinstance(self._store, OutputStore) else self._store(session_id)
        return ToolResult(
            (store or OutputStore()).read(
                args["reference"],
                offset=int(args.get("offset", 0)),
                limit=int(args.get("limit", PAGE)),
                pattern=args.get("pattern"),
            )
        )


_READ_OUTPUT = ToolSpec(
    name="read_output",
    description="Read on in a tool output that was cut, or find the lines in it that contain a text.",
    parameters={
        "type": "object",
        "properties": {
            "reference": {
                "type": "string",
                "description": "The reference in the notice, for example out_1a2b.",
            },
            "offset": {
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "First character to read.",
            },
            "limit": {
                "type": "integer",
                "minimum": 200,
                "maximum": MAX_PAGE,
                "default": PAGE,
                "description": "How many characters to read.",
            },
            "pattern": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "Show only lines that contain this text (plain text, case is ignored).",
            },
        },
        "required": ["reference"],
        "additionalProperties": False,
    },
    read_only=True,
    concurrency_safe=True,
    idempotent=True,
    needs_approval=False,
)
