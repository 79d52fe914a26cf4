"""Results too large for the conversation: the beginning stays, the rest is kept aside to be read on demand.

``OutputCap`` cuts, ``ReadOutput`` is the tool that reads on; where the whole text is kept is neither's business. The
head is shown, not the tail, because most outputs say first what they are; the filter of ``ReadOutput`` finds the rest.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from ..errors import ToolError
from ..safety.schema import validate_arguments
from ..store.log import OUTPUT_ROOM
from ..types import Part, TextPart, ToolResult, ToolSpec, to_json
from .base import ToolContext, ToolHandler
from .functions.returned import clean_text

__all__ = ["OutputCap", "ReadOutput", "cut_position", "read_page"]

DEFAULT_LIMIT = 20_000
"""Characters of one result: about 5,000 tokens of English."""
MIN_LIMIT = 500
PAGE = 10_000
MAX_PAGE = 16_000
_NOTICE_ROOM = 300
_LOSS_ROOM = 100
_LINE_SHOWN = 400
_REFERENCE = re.compile(r"out_[0-9a-f]{16}")

Keep = Callable[[str, str], Awaitable[bool]]
"""Keeps a text under a reference (reference, text). False when it could not."""


class OutputCap:
    """Shortens results to ``limit_chars`` characters of text, and hands on what is cut to be kept whole.

    ``room`` is how many bytes of one text can be kept. Raises ValueError for a limit below 500.
    """

    def __init__(self, limit_chars: int = DEFAULT_LIMIT, *, room: int = OUTPUT_ROOM) -> None:
        if limit_chars < MIN_LIMIT:
            raise ValueError(f"limit_chars must be at least {MIN_LIMIT}")
        self._limit = limit_chars
        self._room = room

    def fits(self, result: ToolResult) -> bool:
        """Whether a look is enough to see that nothing is to be done."""
        return len(result.text) <= self._limit and result.data is None and not result.content_parts

    async def cut(self, result: ToolResult, call_id: str, keep: Keep) -> ToolResult:
        """The result within the limit, notices included. What is cut is given to ``keep`` first, whole.

        Text parts beside media share the limit. Data larger than the limit is dropped, since the text has it.
        A result that fits is returned as it is.
        """
        text = await self._cut(clean_text(result.text), self._limit, call_id, keep)
        parts = await self._cut_parts(result.content_parts, self._limit - len(text), call_id, keep)
        data, dropped = _fitting(result.data, self._limit)
        if dropped:
            text = f"{text}\n[{dropped}]" if text else f"[{dropped}]"
        if text == result.text and parts is result.content_parts and data is result.data:
            return result
        return msgspec.structs.replace(result, text=text, content_parts=parts, data=data)

    async def _cut_parts(self, parts: Any, room: int, call_id: str, keep: Keep) -> Any:
        if not parts or not any(isinstance(part, TextPart) for part in parts):
            return parts
        out: list[Part] = []
        for part in parts:
            if isinstance(part, TextPart):
                text = await self._cut(clean_text(part.text), max(room, MIN_LIMIT), call_id, keep)
                room -= len(text)
                part = part if text == part.text else TextPart(text)
            out.append(part)
        return parts if all(new is old for new, old in zip(out, parts, strict=True)) else out

    async def _cut(self, text: str, limit: int, call_id: str, keep: Keep) -> str:
        if len(text) <= limit:
            return text
        reference = _name(call_id, text)
        kept, stored = self._within_room(text)
        end = cut_position(text, 0, limit - _NOTICE_ROOM)
        left = len(text) - end
        notice = f"Cut: the first {end} of {len(text)} characters are shown, {left} are left"
        if not await keep(reference, kept):
            return f"{text[:end].rstrip()}\n[{notice} and could not be kept.]"
        lost = f" Only the first {stored} were kept." if stored < len(text) else ""
        more = f'Read on with read_output(reference="{reference}", offset={end}).'
        return f"{text[:end].rstrip()}\n[{notice}.{lost} {more}]"

    def _within_room(self, text: str) -> tuple[str, int]:
        """As much of a text as can be kept, saying at its end what cannot, and how many characters of it that is."""
        if len(text) * 4 <= self._room or len(body := text.encode()) <= self._room:
            return text, len(text)
        start = body[: max(self._room - _LOSS_ROOM, 0)].decode(errors="ignore")
        return f"{start}\n[The last {len(text) - len(start)} characters were not kept.]", len(start)


def _name(call_id: str, text: str) -> str:
    """A name made of call and content, so that a call that is repeated after a crash finds the same one."""
    digest = hashlib.sha256(f"{call_id}\0{text}".encode("utf-8", "replace")).hexdigest()
    return f"out_{digest[:16]}"


def read_page(text: str, *, offset: int = 0, limit: int = PAGE, pattern: str | None = None) -> str:
    """A page of a text from ``offset`` (characters), or the lines that contain ``pattern``.

    The filter is plain text and ignores case. Raises ToolError for an offset past the end.
    """
    if offset >= len(text):
        raise ToolError(f"offset {offset} is past the end: {len(text)} characters can be read")
    if pattern:
        return _matches(text, pattern, offset, limit)
    end = cut_position(text, offset, limit)
    more = f"Read on with offset={end}." if end < len(text) else "This is the end."
    return f"{text[offset:end]}\n[Characters {offset} to {end} of {len(text)}. {more}]"


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
    """Lets the model read on in outputs that were cut: those of its own session.

    Its results have at most ``limit_chars`` characters, whatever the model asks for, so that none is cut itself.
    """

    def __init__(self, limit_chars: int = DEFAULT_LIMIT) -> None:
        self._most = max(limit_chars, MIN_LIMIT) - _NOTICE_ROOM

    @property
    def tool(self) -> ToolSpec:
        """See ToolHandler."""
        return _READ_OUTPUT

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        """Not without a session, which is where outputs are kept."""
        raise ToolError("read_output runs inside a session only")

    async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> ToolResult:
        """Read what the session of the call keeps."""
        validate_arguments(_READ_OUTPUT, args)
        reference: str = args["reference"]
        text = await context.read_output(reference) if _REFERENCE.fullmatch(reference) else None
        if text is None:
            raise ToolError(
                f"there is no output {clean_text(reference[:40])!r} any more: a session keeps its newest outputs. "
                "Call the tool again that produced it, with narrower arguments if it has any"
            )
        offset, limit = int(args.get("offset", 0)), min(int(args.get("limit", PAGE)), self._most)
        return ToolResult(read_page(text, offset=offset, limit=limit, pattern=args.get("pattern")))


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
