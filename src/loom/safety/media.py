"""What media are, by their first bytes, and what a message part may hold. Decides; reads no file.

A part's ``source`` is a ``data:`` URL, a web address, or the path of a file. A path is only ever opened in
``loom.media``, for application code. Everyone else asks here and refuses it, so that what a model, a service
or a stored log says can name no file of this machine.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Any

from ..types import AudioPart, ContentPart, FilePart, ImagePart, VideoPart

MAX_MEDIA_BYTES = 20 * 1024 * 1024
"""Of one part. OpenAI takes images up to 20 MB; Anthropic less, and says so itself."""

MediaPart = ImagePart | AudioPart | VideoPart | FilePart
MEDIA_PARTS = (ImagePart, AudioPart, VideoPart, FilePart)

_ADDRESS = re.compile(r"(?:https?|data):", re.IGNORECASE)
_DATA_URL = re.compile(r"data:([a-z0-9._+-]+/[a-z0-9._+-]+)(?:;[^;,]*)*;base64,", re.IGNORECASE)
_LONGEST_HEAD = 300
_FAMILIES: dict[type[ContentPart], str] = {ImagePart: "image/", AudioPart: "audio/", VideoPart: "video/"}

# The major brands of ISO base media files that services take; HEIC and AVIF images have others.
# Source: https://mp4ra.org/registered-types/brands
_SOUND_BRANDS = (b"M4A ", b"M4B ")
_FILM_BRANDS = (b"iso", b"mp4", b"avc1", b"M4V", b"dash", b"MSNV", b"f4v ")
_WEBM_DOCTYPE = b"\x42\x82\x84webm"

_MAGIC: tuple[tuple[bytes, tuple[str, ...]], ...] = (
    (b"\x89PNG\r\n\x1a\n", ("image/png",)),
    (b"\xff\xd8\xff", ("image/jpeg",)),
    (b"GIF87a", ("image/gif",)),
    (b"GIF89a", ("image/gif",)),
    (b"%PDF-", ("application/pdf",)),
    (b"fLaC", ("audio/flac",)),
    (b"OggS", ("audio/ogg",)),
)


def kind_of(part: ContentPart | type[ContentPart]) -> str:
    """The word for a kind of part: image, audio, video, file."""
    kind = part if isinstance(part, type) else type(part)
    return kind.__name__.removesuffix("Part").lower()


def names_file(source: str) -> bool:
    """Whether ``source`` is taken for the path of a file: it is no ``http:``, ``https:`` or ``data:`` address."""
    return _ADDRESS.match(source) is None


def name_files(parts: Iterable[object]) -> bool:
    """Whether one of ``parts`` is of a file that is still to be read."""
    return any(
        isinstance(part, MEDIA_PARTS) and isinstance(part.source, str) and names_file(part.source)  # pyright: ignore[reportUnnecessaryIsInstance]  # foreign
        for part in parts
    )


def media_types(content: bytes) -> tuple[str, ...]:
    """What these bytes may be, the likeliest type first; nothing when they are none of what is known.

    Known are PNG, JPEG, GIF, WebP; PDF; WAV, MP3, FLAC, Ogg, AAC, M4A; MP4, QuickTime, WebM (films of which
    may also hold sound alone); and text in UTF-8.
    """
    for magic, types in _MAGIC:
        if content.startswith(magic):
            return types
    if content[:4] == b"RIFF":
        return {b"WEBP": ("image/webp",), b"WAVE": ("audio/wav",)}.get(content[8:12], ())
    if content[4:8] == b"ftyp":
        return _iso_types(content[8:12])
    if content[:4] == b"\x1aE\xdf\xa3":
        return ("video/webm", "audio/webm") if _WEBM_DOCTYPE in content[:4096] else ()
    if content[:1] == b"\xff" and len(content) >= 4:
        return _frame_types(content)
    if content[:3] == b"ID3" and content[3:4] in (b"\2", b"\3", b"\4"):
        return ("audio/mpeg",)
    return ("text/plain",) if _is_text(content) else ()


def _iso_types(brand: bytes) -> tuple[str, ...]:
    if brand in _SOUND_BRANDS:
        return ("audio/mp4",)
    if brand == b"qt  ":
        return ("video/quicktime",)
    return ("video/mp4", "audio/mp4") if brand.startswith(_FILM_BRANDS) else ()


def _frame_types(content: bytes) -> tuple[str, ...]:
    """MPEG audio without a head begins with a frame: 11 set bits, then version, layer, rates that exist."""
    second, third = content[1], content[2]
    if second & 0xF6 == 0xF0:  # ADTS: 12 set bits, layer 0
        return ("audio/aac",) if third >> 2 & 0x0F < 13 else ()
    is_layer_three = second & 0xE6 == 0xE2 and second >> 3 & 3 != 1
    rates_exist = third >> 4 not in (0, 15) and third >> 2 & 3 != 3
    return ("audio/mpeg",) if is_layer_three and rates_exist else ()


def _is_text(content: bytes) -> bool:
    if not content or b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def fits(kind: type[ContentPart], media_type: str) -> bool:
    """Whether a part of ``kind`` may hold ``media_type``. Files are what is neither image, sound nor film."""
    family = _FAMILIES.get(kind)
    if family is not None:
        return media_type.startswith(family)
    return not media_type.startswith(tuple(_FAMILIES.values()))


def split_data_url(source: str) -> tuple[str, str]:
    """Media type (lower case) and base64 text of a ``data:`` URL. Raises ValueError; the text is not decoded."""
    head = _DATA_URL.match(source, 0, _LONGEST_HEAD)
    if head is None:
        raise ValueError("a data: URL must be base64 and name its type: data:<type>;base64,<text>")
    if (len(source) - head.end()) * 3 // 4 > MAX_MEDIA_BYTES:
        raise ValueError(f"a data: URL is larger than {MAX_MEDIA_BYTES} bytes")
    return head[1].lower(), source[head.end() :]


def decode_base64(text: str) -> bytes:
    """The bytes. Raises ValueError for anything but the standard alphabet with its padding, and for none."""
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ValueError(f"a data: URL holds what is not base64: {error}") from error
    if not content:
        raise ValueError("a data: URL holds nothing")
    return content


def fault_of(part: Any) -> str | None:
    """Why a part could not be sent to a model service, whichever it is; None when nothing speaks against it.

    A path is a fault. Parts that are no media have none.
    """
    if not isinstance(part, MEDIA_PARTS):
        return None
    source: Any = part.source
    if not isinstance(source, str) or not isinstance(part.media_type, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # foreign
        return f"the source of {with_article(part)} part is not text"
    if names_file(source):
        shown = repr(source if len(source) <= 80 else f"{source[:80]}…")
        return f"{shown} names a file, and only application code may: loom.media reads it into a data: URL"
    if source[:5].lower() != "data:":
        return None
    try:
        media_type, text = split_data_url(source)
        decode_base64(text)
    except ValueError as error:
        return str(error)
    if not fits(type(part), media_type):
        return f"{with_article(part)} part cannot hold {media_type}"
    return None


def with_article(part: ContentPart) -> str:
    """The word for its kind with its article: an image, a video."""
    word = kind_of(part)
    return f"an {word}" if word[0] in "ai" else f"a {word}"
