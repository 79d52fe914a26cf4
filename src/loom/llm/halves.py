"""Halves of characters that a service cut in two: one half of a surrogate pair ends a delta, the other begins the next.

JSON may say a character as two escapes, and what cuts text between them sends halves, which are no text yet. They
are decoded as they are here (a lone surrogate, as Python has it), joined where two of them meet, and shown only when
whole. A half that stays alone becomes U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from ..safety.display import HALF_ESCAPE, encodable, whole_escapes
from ..types import ChatResponse, TextPart, ThinkingPart
from .base import ContentDeltaEvent, ProviderEvent, ThinkingDeltaEvent, ToolCallDeltaEvent
from .untyped import is_dict, is_list

T = TypeVar("T")

_ESCAPE = re.compile(HALF_ESCAPE.encode(), re.DOTALL)
# How a half travels through a decoder that takes none: behind a code point that Unicode promises never to use.
_MARK = "\ufdd0"
_MARKED = re.compile(_MARK + "([0-9a-f]{4})")
_MARKED_RAW = re.compile(rb"\\ufdd0([0-9a-f]{4})")


def reader(decode: Callable[[Any], T]) -> Callable[[Any], T]:
    """``decode``, a decoder of msgspec, such that halves of characters do not fail it."""

    def read(data: Any) -> T:
        try:
            return decode(data)
        except ValueError:
            raw = bytes(data)
            marked = _ESCAPE.sub(_mark, raw) if b"\\ud" in raw or b"\\uD" in raw else raw
            if marked == raw:
                raise
            found = decode(marked)
        whole: T = _restored(found)
        return whole

    return read


def compact(raw: bytes) -> str:
    """JSON text as it came, without the white space between its words; a lone half in it is U+FFFD."""
    try:
        return msgspec.json.format(raw, indent=-1).decode()
    except ValueError:
        return msgspec.json.format(whole_escapes(raw.decode()).encode(), indent=-1).decode()


def _mark(found: re.Match[bytes]) -> bytes:
    half = found[1]
    return b"\\ufdd0" + half.lower() if half is not None else found[0]


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return _MARKED.sub(lambda found: chr(int(found[1], 16)), value) if _MARK in value else value
    if isinstance(value, Raw):
        return Raw(_MARKED_RAW.sub(rb"\\u\1", bytes(value)))
    if is_dict(value):
        return {_restored(key): _restored(item) for key, item in value.items()}
    if is_list(value):
        return [_restored(item) for item in value]
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            setattr(value, name, _restored(getattr(value, name)))
    return value


def with_whole_text(reply: ChatResponse) -> ChatResponse:
    """``reply`` with the halves in its text, reasoning and arguments joined, or U+FFFD."""
    message = reply.message
    content, calls = message.content, message.tool_calls or ()
    if isinstance(content, str):
        content = encodable(content)
    elif content is not None:
        content = tuple(
            replace(part, text=encodable(part.text)) if isinstance(part, TextPart | ThinkingPart) else part
            for part in content
        )
    whole = tuple(replace(call, arguments=whole_escapes(encodable(call.arguments))) for call in calls)
    return replace(reply, message=replace(message, content=content, tool_calls=whole or None))


class Halves:
    """What a stream shows, with the half of a character held back until the other half has come."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[str | int, str] = {}

    def joined(self, events: Sequence[ProviderEvent]) -> Sequence[ProviderEvent]:
        """``events`` as they may be shown."""
        if not self._held and all(map(_is_whole, events)):
            return events
        return [shown for event in events for shown in self._join(event)]

    def rest(self) -> list[ProviderEvent]:
        """What is still held when nothing more comes."""
        held, self._held = self._held, {}
        return [_delta(key) for key in held]

    def _join(self, event: ProviderEvent) -> list[ProviderEvent]:
        key, text = _said(event)
        # What follows something else begins anew; calls grow side by side.
        shown = [
            _delta(other) for other in ("text", "thinking") if other != key and self._held.pop(other, "")
        ]
        if key is None or not text:
            return [*shown, event]
        text = self._held.pop(key, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self._held[key] = text[-1]
            text = text[:-1]
        whole = _with(event, encodable(text))
        return [*shown, whole] if _shows(whole) else shown


def _is_whole(event: ProviderEvent) -> bool:
    _, text = _said(event)
    if not text or text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _said(event: ProviderEvent) -> tuple[str | int | None, str]:
    """What an event belongs to, and the text in it."""
    if isinstance(event, ContentDeltaEvent):
        return "text", event.delta
    if isinstance(event, ToolCallDeltaEvent):
        return event.index, event.arguments_delta or ""
    if isinstance(event, ThinkingDeltaEvent):
        return "thinking", event.delta
    return None, ""


def _with(event: ProviderEvent, text: str) -> ProviderEvent:
    if isinstance(event, ToolCallDeltaEvent):
        return replace(event, arguments_delta=text or None)
    return replace(event, delta=text) if isinstance(event, ContentDeltaEvent | ThinkingDeltaEvent) else event


def _shows(event: ProviderEvent) -> bool:
    """Whether there is anything in an event besides the text that was taken out of it."""
    if isinstance(event, ToolCallDeltaEvent):
        return bool(event.arguments_delta or event.id or event.name)
    if isinstance(event, ThinkingDeltaEvent):
        return bool(event.delta or event.signature or event.data)
    return not isinstance(event, ContentDeltaEvent) or bool(event.delta)


def _delta(key: str | int) -> ProviderEvent:
    """The half that stayed alone, as an event of what it belongs to."""
    if isinstance(key, int):
        return ToolCallDeltaEvent(key, None, None, "\ufffd")
    return ContentDeltaEvent("\ufffd") if key == "text" else ThinkingDeltaEvent("\ufffd")
