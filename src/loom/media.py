"""Images, sound, film and documents for a model: files and bytes as parts of a message.

The only place where a file that a part names is opened. Application code calls it, or hands parts to
``agent.run``, ``run_turn`` or a result of ``@tool``, which do. What a file is, its first bytes decide, never
its name. Web addresses are passed on to the model service and never fetched here.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from .errors import ConfigError
from .safety.media import (
    MAX_MEDIA_BYTES,
    MEDIA_PARTS,
    MediaPart,
    decode_base64,
    fault_of,
    fits,
    kind_of,
    media_types,
    name_files,
    names_file,
    split_data_url,
)
from .types import AudioPart, ChatMessage, ContentPart, FilePart, ImagePart, Part, TextPart, VideoPart

__all__ = [
    "attach",
    "attached",
    "attachment",
    "audio",
    "document",
    "encode_to_base64",
    "encode_to_data_url",
    "image",
    "infer_media_type",
    "load_file_bytes",
    "refuse_files",
    "video",
]

Source = str | os.PathLike[str] | bytes
"""A path, a ``data:`` or web address, or the bytes themselves."""

_GIVEN = "what was given"

MediaT = TypeVar("MediaT", bound=MediaPart)
PartT = TypeVar("PartT", bound=ContentPart)


# --- parts ------------------------------------------------------------------------------------------


def image(source: Source) -> ImagePart:
    """A PNG, JPEG, GIF or WebP image. Reads a path; raises ConfigError for what is none, or over 20 MiB."""
    return _part(ImagePart, source)


def audio(source: Source) -> AudioPart:
    """A sound: WAV, MP3, FLAC, Ogg, AAC, M4A or WebM. Reads a path; raises ConfigError like ``image``."""
    return _part(AudioPart, source)


def video(source: Source) -> VideoPart:
    """A film: MP4, QuickTime or WebM. Reads a path; raises ConfigError like ``image``."""
    return _part(VideoPart, source)


def document(source: Source) -> FilePart:
    """A PDF, or text in UTF-8. Reads a path; raises ConfigError like ``image``."""
    return _part(FilePart, source)


def attachment(source: str | os.PathLike[str] | bytes) -> MediaPart:
    """A file or its bytes as the kind of part that fits what it is. Raises ConfigError like ``image``."""
    if isinstance(source, bytes):
        content, media_type = source, _known(source, _GIVEN)[0]
    else:
        content, media_type = load_file_bytes(source)
    kind = next(kind for kind in MEDIA_PARTS if fits(kind, media_type))
    return kind(_data_url(content, media_type), media_type)


def attach(parts: Iterable[str | Part]) -> list[Part]:
    """``parts`` fit to be sent and kept: files read into ``data:`` URLs, strings made text, the rest checked.

    Blocks while it reads. Raises ConfigError for a file that cannot be read, is over 20 MiB or is not what
    its part says, and for a ``data:`` URL that is none.
    """
    return [_attached(TextPart(part) if isinstance(part, str) else part) for part in parts]


def attached(message: ChatMessage) -> ChatMessage:
    """``message`` with its files read, as ``attach`` does; the very same message when it names none."""
    if message.content is None or isinstance(message.content, str) or not name_files(message.content):
        return message
    return replace(message, content=tuple(attach(message.content)))


def refuse_files(parts: Iterable[object]) -> None:
    """Raise ConfigError when one of ``parts`` names a file.

    For parts that somebody else wrote, such as those in a request to your server: a path in them would be a
    path of *your* machine. Check them before you hand them to an agent.
    """
    if name_files(parts):
        raise ConfigError(
            "a part names a file of this machine; parts that are data hold data: and web URLs only "
            "(loom.media.image and its siblings read a file into one)"
        )


def _part(kind: type[MediaT], source: Source) -> MediaT:
    if isinstance(source, bytes):
        return _of_content(kind, source, _GIVEN, "")
    source = os.fspath(source)
    if names_file(source):
        return _of_content(kind, _regular_file(source), repr(source), "")
    return _checked(kind(source))


def _attached(part: Part) -> Part:
    if isinstance(part, MEDIA_PARTS) and name_files([part]):
        return _of_content(type(part), _regular_file(part.source), repr(part.source), part.media_type)
    return _checked(part)


def _checked(part: PartT) -> PartT:
    if (fault := fault_of(part)) is not None:
        raise ConfigError(fault)
    return part


def _of_content(kind: type[MediaT], content: bytes, name: str, declared: str) -> MediaT:
    known = _known(content, name)
    fitting = [media_type for media_type in known if fits(kind, media_type)]
    if not fitting:
        raise ConfigError(f"{name} is {known[0]}, which is no {kind_of(kind)}; it was not sent")
    if fitting[0] == "text/plain" and declared.startswith("text/"):  # bytes do not tell Markdown from CSV
        return _checked(kind(_data_url(content, declared), declared))
    return kind(_data_url(content, fitting[0]), fitting[0])


# --- bytes and addresses ----------------------------------------------------------------------------


def infer_media_type(source: str | os.PathLike[str]) -> str:
    """The media type of a file by its first bytes, of a ``data:`` URL as it says, of a web address by its name.

    Raises ConfigError for a file that cannot be read or is of no known type. An address whose name says
    nothing is ``application/octet-stream``.
    """
    source = os.fspath(source)
    if names_file(source) or source[:5].lower() == "data:":
        return load_file_bytes(source)[1]
    import mimetypes
    from urllib.parse import urlsplit

    return mimetypes.guess_type(urlsplit(source).path)[0] or "application/octet-stream"


def load_file_bytes(source: str | os.PathLike[str]) -> tuple[bytes, str]:
    """The bytes of a file or of a ``data:`` URL, and their media type.

    Raises ConfigError for a web address, which is not fetched, and for a file that cannot be read, is over
    20 MiB or is of no known type.
    """
    source = os.fspath(source)
    if names_file(source):
        content = _regular_file(source)
        return content, _known(content, repr(source))[0]
    return _address_bytes(source)


def encode_to_data_url(source: Source, media_type: str | None = None) -> str:
    """A file, bytes or ``data:`` URL as a ``data:`` URL. With ``media_type`` it may be of any other type.

    Raises ConfigError like ``load_file_bytes``.
    """
    encoded, media_type = encode_to_base64(source, media_type)
    return f"data:{media_type};base64,{encoded}"


def encode_to_base64(source: Source, media_type: str | None = None) -> tuple[str, str]:
    """A file, bytes or ``data:`` URL as base64 text, and its media type. See ``encode_to_data_url``."""
    if isinstance(source, bytes):
        content, name = source, _GIVEN
    else:
        name = repr(source := os.fspath(source))
        if names_file(source):
            content = _regular_file(source)
        else:
            content, known = _address_bytes(source)
            media_type = media_type or known
    return base64.b64encode(content).decode(), media_type or _known(content, name)[0]


def _address_bytes(source: str) -> tuple[bytes, str]:
    if source[:5].lower() != "data:":
        raise ConfigError(f"{source!r} is not fetched here: download it yourself, or pass the address on")
    try:
        media_type, text = split_data_url(source)
        return decode_base64(text), media_type
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _data_url(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _known(content: bytes, name: str) -> Sequence[str]:
    """What ``content`` may be. Raises ConfigError, naming it ``name``, when that is nothing a model reads."""
    if len(content) > MAX_MEDIA_BYTES:
        raise ConfigError(f"{name} is larger than {MAX_MEDIA_BYTES} bytes; it was not sent")
    if types := media_types(content):
        return types
    raise ConfigError(
        f"{name} is no image, sound, film, PDF or UTF-8 text that is known by its first bytes; it was not sent"
        if content
        else f"{name} is empty; it was not sent"
    )


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
