"""Messages as input items of OpenAI's Responses API, each encoded once and joined."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..types import AudioPart, ChatMessage, FilePart, ImagePart, Part, Role, TextPart
from .encoding import encode
from .media import Media, MediaPart, Misfit, data_type, is_address, load_media, refuse_misfits
from .openai_items import ORIGIN, call_id_of
from .openai_replay import Form, items_of

# Where a message keeps its encoding: its items, joined. The forms differ only in what a model said.
_KEYS = {form: ORIGIN if form is Form.FULL else f"{ORIGIN}_{form.name.lower()}" for form in Form}
_AUDIO_FORMATS = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
}


async def fragments_of(messages: Sequence[ChatMessage], form: Form) -> list[bytes]:
    """The items of each message; empty for one that has nothing to say. Raises ConfigError for bad media."""
    refuse_misfits(messages, _fitting, "this wire")
    key = _KEYS[form]
    for message in messages:
        if key not in message.__dict__:
            vars(message)[key] = fragment_of(*await load_media(message, _fitting), form)
    return [message.__dict__[key] for message in messages]


def joined(fragments: Iterable[bytes]) -> bytes:
    """Fragments as the inside of a JSON array."""
    return b",".join(filter(None, fragments))


def fragment_of(message: ChatMessage, media: Mapping[str, Media], form: Form) -> bytes:
    """The items of one message, given its media."""
    if message.role is Role.ASSISTANT:
        return encode(items_of(message, form))[1:-1]
    if message.role is Role.TOOL:
        return encode(_tool_result(message, media))
    if message.role is Role.SYSTEM:
        # Each in its place, and not joined into the field ``instructions``: a late one would change the start
        # of the request, and with it everything the service has cached; that field is also forgotten between
        # the turns of a stored conversation, and xAI refuses it there.
        text = _text(message)
        return encode({"role": "system", "content": text}) if text else b""
    several = not isinstance(message.content, str) and len(message.content or ()) > 1
    return encode(
        {"role": "user", "content": _content(message, media) if media or several else _text(message)}
    )


def _fitting(part: MediaPart, role: Role) -> Misfit | None:
    if role is Role.ASSISTANT:
        return Misfit()  # what it showed goes back among its items, if at all
    if isinstance(part, ImagePart | FilePart):
        return None
    if not isinstance(part, AudioPart) or role is Role.TOOL:
        return Misfit()
    if is_address(part):
        return Misfit(" from an address", "send MP3 or WAV data")
    kind = data_type(part)
    if kind and kind not in _AUDIO_FORMATS:
        return Misfit(f" of type {kind}", "send MP3 or WAV data")
    return None


def _tool_result(message: ChatMessage, media: Mapping[str, Media]) -> dict[str, Any]:
    text = _text(message)
    if message.is_error and not text.lower().startswith("error"):
        text = f"Error: {text}"  # the wire has no field for it
    output: str | list[dict[str, Any]] = text
    if media:
        shown = [_part(part, media) for part in message.content or () if not isinstance(part, str | TextPart)]
        output = [{"type": "input_text", "text": text}] if text else []
        output += [part for part in shown if part is not None]
    called = call_id_of(message.tool_call_id or "")
    return {"type": "function_call_output", "call_id": called, "output": output}


def _content(message: ChatMessage, media: Mapping[str, Media]) -> list[dict[str, Any]]:
    parts = [_part(part, media) for part in message.content or () if not isinstance(part, str)]
    return [part for part in parts if part is not None]


def _part(part: Part, media: Mapping[str, Media]) -> dict[str, Any] | None:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, ImagePart):
        return {"type": "input_image", "detail": "auto", "image_url": media[part.source].data_url}
    if isinstance(part, FilePart):
        return _file(part.source, media[part.source])
    if isinstance(part, AudioPart):
        return _audio(media[part.source])
    return None


def _file(source: str, media: Media) -> dict[str, Any]:
    if media.url:
        return {"type": "input_file", "file_url": media.url}
    name = "document.pdf" if source.startswith("data:") else os.path.basename(source)
    return {"type": "input_file", "filename": name, "file_data": media.data_url}


def _audio(media: Media) -> dict[str, Any]:
    sound = {"data": media.base64, "format": _AUDIO_FORMATS[media.media_type]}
    return {"type": "input_audio", "input_audio": sound}


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n\n".join(part.text for part in message.content or () if isinstance(part, TextPart))
