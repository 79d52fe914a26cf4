"""Images, sounds and documents of a message, read and checked before they go to a model service.

What a part names may come from outside, so only what *is* an image, a sound or a PDF by its first bytes is ever
read into a request, from regular files only and up to a size. Addresses are passed on, never fetched here.
"""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ConfigError
from ..types import AudioPart, ChatMessage, FilePart, ImagePart, VideoPart

# OpenAI takes images up to 20 MB; Anthropic less, and says so itself.
MAX_MEDIA_BYTES = 20 * 1024 * 1024
MediaPart = ImagePart | AudioPart | VideoPart | FilePart


class Media(NamedTuple):
    """A part ready for a wire: either ``url``, or ``base64`` text of ``media_type``."""

    media_type: str
    base64: str = ""
    url: str = ""

    @property
    def data_url(self) -> str:
        """One address for either case."""
        return self.url or f"data:{self.media_type};base64,{self.base64}"


async def load_media(message: ChatMessage, accepts: tuple[type, ...], wire: str) -> dict[str, Media]:
    """The media of ``message`` by source. Files are read in a thread.

    Raises ConfigError for a kind of part not in ``accepts``, naming ``wire``, and for what cannot be read.
    """
    parts = media_parts(message)
    for part in parts:
        if not isinstance(part, accepts):
            kind = type(part).__name__.removesuffix("Part").lower()
            raise ConfigError(
                f"{wire} cannot be sent {kind} parts; turn the {kind} into text or an image first"
            )
    if not parts:
        return {}
    if all(part.source.startswith(("https:", "http:", "data:")) for part in parts):
        return {part.source: read_media(part) for part in parts}
    return await asyncio.to_thread(lambda: {part.source: read_media(part) for part in parts})


def media_parts(message: ChatMessage) -> Sequence[MediaPart]:
    """The parts of ``message`` that are neither text nor thinking."""
    if message.content is None or isinstance(message.content, str):
        return ()
    return [p for p in message.content if isinstance(p, ImagePart | AudioPart | VideoPart | FilePart)]


def read_media(part: MediaPart) -> Media:
    """One part, blocking. Raises ConfigError when it is missing, too large or not what it says."""
    source = part.source
    if source.startswith(("https:", "http:")):
        return Media(part.media_type, url=source)
    if source.startswith("data:"):
        return _data_url(source)
    content = _regular_file(source)
    media_type = _sniff(content)
    if media_type is None:
        raise ConfigError(
            f"{source!r} is not a PNG, JPEG, GIF or WebP image, a WAV, MP3, FLAC or Ogg sound, nor a PDF; "
            "it was not sent"
        )
    return Media(media_type, base64.b64encode(content).decode())


def _data_url(source: str) -> Media:
    head, comma, payload = source.partition(",")
    media_type, _, encoding = head.removeprefix("data:").partition(";")
    if not comma or encoding != "base64":
        raise ConfigError("a data: URL of a message part must be base64: data:<type>;base64,<text>")
    if len(payload) * 3 // 4 > MAX_MEDIA_BYTES:
        raise ConfigError(f"a data: URL of a message part is larger than {MAX_MEDIA_BYTES} bytes")
    return Media(media_type, payload)


def _regular_file(path: str) -> bytes:
    # O_NONBLOCK: opening a pipe must not wait for a writer. It means nothing to regular files.
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the media file {path!r}: {error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path!r} is not a regular file; it was not sent")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_MEDIA_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the media file {path!r}: {error}") from error
    finally:
        os.close(descriptor)
    if len(content) > MAX_MEDIA_BYTES:
        raise ConfigError(f"{path!r} is larger than {MAX_MEDIA_BYTES} bytes; it was not sent")
    return content


def _sniff(content: bytes) -> str | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content.startswith(b"%PDF-"):
        return "application/pdf"
    return _sniff_sound(content)


def _sniff_sound(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return "audio/wav"
    # An MP3 begins with its tags, or with a frame: eleven bits set, then the number of its layer.
    frame = content[:1] == b"\xff" and content[1:2] and content[1] & 0xE6 == 0xE2
    if content.startswith(b"ID3") or frame:
        return "audio/mpeg"
    if content.startswith(b"fLaC"):
        return "audio/flac"
    return "audio/ogg" if content.startswith(b"OggS") else None
