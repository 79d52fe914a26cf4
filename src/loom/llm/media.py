"""Images, sound and documents of a message, checked before they go to a model service.

A wire opens no files: what a part names may come from a model, a service or an edited log. ``data:`` URLs are
validated, web addresses passed on, and paths refused; reading files is ``loom.media``, for application code.

What a wire has no place for is an error while it is new, so that the application learns of it. Later, and in the
result of a tool, a note stands in its place: it would else fail every further request of the conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from ..errors import ConfigError
from ..safety.media import (
    MAX_MEDIA_BYTES,
    MEDIA_PARTS,
    MediaPart,
    decode_base64,
    fault_of,
    kind_of,
    names_file,
    split_data_url,
    with_article,
)
from ..types import ChatMessage, Part, Role, TextPart

__all__ = [
    "MAX_MEDIA_BYTES", "Media", "MediaPart", "Misfit", "data_type", "is_address", "load_media", "media_parts",
    "read_media", "refuse_misfits",
]  # fmt: skip

# Decoding so much takes about a millisecond; more is checked beside the event loop.
_AT_ONCE = 512 * 1024


class Media(NamedTuple):
    """A part ready for a wire: either ``url``, or ``base64`` text of ``media_type``."""

    media_type: str
    base64: str = ""
    url: str = ""

    @property
    def data_url(self) -> str:
        """One address for either case."""
        return self.url or f"data:{self.media_type};base64,{self.base64}"

    @property
    def text(self) -> str:
        """The content as text. What is not UTF-8 becomes U+FFFD."""
        return decode_base64(self.base64).decode("utf-8-sig", "replace")


class Misfit(NamedTuple):
    """Why a wire has no place for a part: for none of its kind, or for none that is ``such``.

    ``instead`` says what the application can do.
    """

    such: str = ""
    instead: str = ""


Fitting = Callable[[MediaPart, Role], Misfit | None]
"""What a wire says of a part in a message of that role; None when it takes it."""


def refuse_misfits(messages: Sequence[ChatMessage], fitting: Fitting, wire: str) -> None:
    """Raise ConfigError when the user's newest message holds a part that ``wire`` has no place for.

    Newest are those that no reply follows.
    """
    for message in reversed(messages):
        if message.role is Role.ASSISTANT:
            return
        if message.role is not Role.USER:
            continue
        for part in media_parts(message):
            if misfit := fitting(part, Role.USER):
                kind = kind_of(part)
                instead = misfit.instead or f"turn the {kind} into text or an image first"
                raise ConfigError(f"{wire} cannot be sent {kind} parts{misfit.such}; {instead}")


async def load_media(message: ChatMessage, fitting: Fitting) -> tuple[ChatMessage, dict[str, Media]]:
    """``message`` as a wire can carry it, and its media by source.

    A note stands for each part that does not fit. What the assistant itself showed has no note: it is just not
    among the media. Raises ConfigError for a path and for a ``data:`` URL that is none.
    """
    parts = media_parts(message)
    if not parts:
        return message, {}
    fit = [part for part in parts if fitting(part, message.role) is None]
    if len(fit) < len(parts) and message.role is not Role.ASSISTANT:
        message = _with_notes(message, fitting)
    if sum(len(part.source) for part in fit) <= _AT_ONCE:
        return message, {part.source: read_media(part) for part in fit}
    return message, await asyncio.to_thread(lambda: {part.source: read_media(part) for part in fit})


def _with_notes(message: ChatMessage, fitting: Fitting) -> ChatMessage:
    content: list[Part] = []
    for part in message.content or ():
        if isinstance(part, MEDIA_PARTS) and (misfit := fitting(part, message.role)):
            what = f"{with_article(part)} part was left out: this service takes none{misfit.such}"
            content.append(TextPart(f"[{what}]"))
        elif not isinstance(part, str):
            content.append(part)
    return replace(message, content=tuple(content))


def is_address(part: MediaPart) -> bool:
    """Whether ``part`` is to be fetched from the web by the service."""
    return part.source[:5].lower() != "data:" and not names_file(part.source)


def data_type(part: MediaPart) -> str:
    """The media type of the data in ``part``; nothing when it holds none."""
    try:
        return split_data_url(part.source)[0]
    except ValueError:
        return ""


def media_parts(message: ChatMessage) -> Sequence[MediaPart]:
    """The parts of ``message`` that are neither text nor thinking."""
    if message.content is None or isinstance(message.content, str):
        return ()
    return [part for part in message.content if isinstance(part, MEDIA_PARTS)]


def read_media(part: MediaPart) -> Media:
    """One part, checked. Raises ConfigError when it names a file or is not what it says."""
    if (fault := fault_of(part)) is not None:
        raise ConfigError(fault)
    if part.source[:5].lower() != "data:":
        return Media(part.media_type, url=part.source)
    return Media(*split_data_url(part.source))
