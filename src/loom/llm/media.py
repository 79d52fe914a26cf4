"""Images, sound and documents of a message, checked before they go to a model service.

A wire opens no files: what a part names may come from a model, a service or an edited log. ``data:`` URLs are
validated, web addresses passed on, and paths refused; reading files is ``loom.media``, for application code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ConfigError
from ..safety.media import (
    MAX_MEDIA_BYTES,
    MEDIA_PARTS,
    MediaPart,
    decode_base64,
    fault_of,
    kind_of,
    split_data_url,
)
from ..types import ChatMessage, Role

__all__ = ["MAX_MEDIA_BYTES", "Media", "MediaPart", "load_media", "media_parts", "read_media"]

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


async def load_media(message: ChatMessage, accepts: tuple[type, ...], wire: str) -> dict[str, Media]:
    """The media of ``message`` by source, those of a kind in ``accepts``.

    Raises ConfigError for a part of another kind, naming ``wire``, for a path, and for a ``data:`` URL that is
    none. What the assistant itself showed and this wire has no place for is left out instead.
    """
    parts = media_parts(message)
    if not parts:
        return {}
    if message.role is Role.ASSISTANT:
        parts = [part for part in parts if isinstance(part, accepts)]
    for part in parts:
        if not isinstance(part, accepts):
            kind = kind_of(part)
            raise ConfigError(
                f"{wire} cannot be sent {kind} parts; turn the {kind} into text or an image first"
            )
    if sum(len(part.source) for part in parts) <= _AT_ONCE:
        return {part.source: read_media(part) for part in parts}
    return await asyncio.to_thread(lambda: {part.source: read_media(part) for part in parts})


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
