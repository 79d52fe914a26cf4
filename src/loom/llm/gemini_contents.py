"""Writing conversations for the Gemini wire: messages as contents, each encoded once.

A content is a list of parts of one role, ``user`` or ``model``. Results of tools are parts of the user, and
all those of one reply stand in one content. What a model signed goes back in the part it was signed in.
Source: https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import Raw
from msgspec.structs import replace

from ..errors import ConfigError
from ..types import (
    AudioPart,
    CallPart,
    ChatMessage,
    FilePart,
    ImagePart,
    OpaquePart,
    Part,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    VideoPart,
)
from .encoding import arguments_object, encode, is_object, wire_name
from .gemini_parts import can_go_back
from .media import Media, MediaPart, Misfit, load_media, media_parts

ORIGIN = "gemini"
"""What parts of a reply say that only this wire understands them. It names the kept encodings, too."""

_KEY = ORIGIN
_FILES_HOME = "https://generativelanguage.googleapis.com/v1beta/"
_NAME = re.compile(r"[a-zA-Z0-9_.:-]{1,128}")
_FILE_NAME = re.compile(r"files/[a-z0-9-]{1,40}")
# Gemini 3 refuses a reply whose first call is not signed. For calls of other models, which nobody signed, its
# documentation names this word: base64 of "skip_thought_signature_validator". Older models ignore it.
_UNSIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
# The service does not look at what an address gives before it believes what it is said to be.
_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "heic": "image/heic",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "mov": "video/mov",
    "webm": "video/webm",
    "pdf": "application/pdf",
}
_NOTHING = b'{"text":""}'


async def encode_contents(messages: Sequence[ChatMessage]) -> bytes:
    """The conversation as a JSON array, neighbours of one role joined; the system text is not in it."""
    contents = _Contents()
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        parts: bytes | tuple[bytes, bytes] | None = message.__dict__.get(_KEY)
        if parts is None:
            parts = vars(message)[_KEY] = await _encode(message, messages)
        if message.role is not Role.TOOL:
            contents.release()
        if isinstance(parts, tuple):
            parts, media = parts
            contents.waiting.append(media)
        contents.add(b"model" if message.role is Role.ASSISTANT else b"user", parts)
    return contents.joined()


class _Contents:
    """The contents as they grow. ``waiting`` are media of results, told after the last result of a reply."""

    __slots__ = ("_pieces", "_speaker", "waiting")

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self._pieces: list[bytes] = []
        self._speaker: bytes | None = None

    def add(self, role: bytes, parts: bytes) -> None:
        if role is self._speaker:
            self._pieces.append(b",")
        else:
            self._pieces.append((b"]}," if self._speaker else b"[") + b'{"role":"' + role + b'","parts":[')
            self._speaker = role
        self._pieces.append(parts)

    def release(self) -> None:
        for media in self.waiting:
            self.add(b"user", media)
        self.waiting = []

    def joined(self) -> bytes:
        self.release()
        if self._speaker is None:
            self.add(b"user", _NOTHING)  # the service wants a content, and takes an empty one
        return b"".join([*self._pieces, b"]}]"])


async def _encode(message: ChatMessage, messages: Sequence[ChatMessage]) -> bytes | tuple[bytes, bytes]:
    """The parts of ``message``, joined; a pair when media must follow the results of a reply."""
    media = await _load(message)
    if message.role is Role.TOOL:
        return _tool_result(message, messages, media)
    parts = _model_parts(message, media) if message.role is Role.ASSISTANT else _user_parts(message, media)
    return encode(parts)[1:-1] if parts else _NOTHING


async def _load(message: ChatMessage) -> dict[str, Media]:
    """The media of ``message`` by source: files that Google keeps as their address, the rest read."""
    kept = {
        part.source: Media(part.media_type, url=address)
        for part in media_parts(message)
        if (address := _google_address(part.source)) is not None
    }
    if kept and message.content is not None:
        rest = tuple(part for part in message.content if getattr(part, "source", None) not in kept)
        message = replace(message, content=rest)
    _, read = await load_media(message, _fitting)
    return kept | read


def _fitting(part: MediaPart, role: Role) -> Misfit | None:
    return None


def _google_address(source: str) -> str | None:
    """The address of a file kept by Google: in its cloud storage, or uploaded as ``files/<id>``."""
    if source.startswith("gs://"):
        return source
    return _FILES_HOME + source if _FILE_NAME.fullmatch(source) else None


# --- parts ------------------------------------------------------------------------------------------


def _user_parts(message: ChatMessage, media: Mapping[str, Media]) -> list[dict[str, Any]]:
    return [
        encoded
        for part in _content(message)
        if isinstance(part, TextPart | ImagePart | AudioPart | VideoPart | FilePart)
        and (encoded := _plain(part, media))
    ]


def _model_parts(message: ChatMessage, media: Mapping[str, Media]) -> list[dict[str, Any] | Raw]:
    calls = [_call(call) for call in message.tool_calls or ()]
    content = _content(message)
    parts: list[dict[str, Any] | Raw] = []
    placed: set[int] = set()
    for part in content:
        if isinstance(part, CallPart):
            if part.index < len(calls) and part.index not in placed:
                placed.add(part.index)
                parts.append(calls[part.index])
        elif isinstance(part, ThinkingPart):
            if _signs(part):
                _sign(parts, part)
        elif isinstance(part, OpaquePart):
            if part.origin == ORIGIN and (opaque := _opaque(part)) is not None:
                parts.append(opaque)
        elif encoded := _plain(part, media):
            parts.append(encoded)
    parts += [call for index, call in enumerate(calls) if index not in placed]
    if calls and not any("thoughtSignature" in part for part in parts if isinstance(part, dict)):
        first = next(part for part in parts if isinstance(part, dict) and "functionCall" in part)
        first["thoughtSignature"] = _UNSIGNED
    return parts


def _signs(part: ThinkingPart) -> bool:
    """Whether ``part`` brings a signature that this service can read."""
    return part.signature is not None and part.origin in (None, ORIGIN)


def _sign(parts: list[dict[str, Any] | Raw], thought: ThinkingPart) -> None:
    """Put a signature back: on its own thought, or on the text or media part that it came with."""
    if thought.text:
        parts.append({"text": thought.text, "thought": True, "thoughtSignature": thought.signature})
        return
    last = parts[-1] if parts else None
    if isinstance(last, dict) and "functionCall" not in last and "thoughtSignature" not in last:
        last["thoughtSignature"] = thought.signature
    else:
        parts.append({"text": "", "thoughtSignature": thought.signature})


def _call(call: ToolCall) -> dict[str, Any]:
    function: dict[str, Any] = {"id": call.id} if call.id else {}
    function["name"] = _name(call.name)
    function["args"] = Raw(arguments_object(call.arguments).encode("utf-8", "replace"))
    part: dict[str, Any] = {"functionCall": function}
    if call.signature is not None and not call.signature.startswith("{"):  # which is Anthropic's
        part["thoughtSignature"] = call.signature
    return part


def _name(called: str) -> str:
    """The name of a call as the service takes it; a model may make one up that it refuses to hear again."""
    return called if _NAME.fullmatch(called) else wire_name(called)


def _opaque(part: OpaquePart) -> Raw | None:
    """What only the service understands; None for what it would refuse, which older logs may hold."""
    if not is_object(part.data):
        raise ConfigError(f"an OpaquePart of {ORIGIN} must hold a JSON object, not {part.data[:60]!r}")
    return Raw(part.data.encode()) if can_go_back(part.data) else None


def _plain(part: Part, media: Mapping[str, Media]) -> dict[str, Any] | None:
    """Text or media; None for text that says nothing."""
    if isinstance(part, TextPart):
        return {"text": part.text} if part.text else None
    if not isinstance(part, ImagePart | AudioPart | VideoPart | FilePart):
        return None
    item = media[part.source]
    if not item.url:
        return {"inlineData": {"mimeType": item.media_type, "data": item.base64}}
    kind = item.media_type or _MEDIA_TYPES.get(urlsplit(item.url).path.rpartition(".")[2].lower())
    return {"fileData": {**({"mimeType": kind} if kind else {}), "fileUri": item.url}}


def _tool_result(
    message: ChatMessage, messages: Sequence[ChatMessage], media: Mapping[str, Media]
) -> bytes | tuple[bytes, bytes]:
    function: dict[str, Any] = {"id": message.tool_call_id} if message.tool_call_id else {}
    function["name"] = _name(message.name or _called(message.tool_call_id, messages))
    function["response"] = {"error" if message.is_error else "result": text_of(message)}
    result = encode({"functionResponse": function})
    if not media:
        return result
    shown: list[dict[str, Any]] = [{"text": f"Media returned by the tool call {message.tool_call_id}:"}]
    shown += [part for part in _user_parts(message, media) if "text" not in part]
    return result, encode(shown)[1:-1]


def _called(call_id: str | None, messages: Sequence[ChatMessage]) -> str:
    """The name of the call ``call_id``; the service wants one with every result."""
    calls = (call for message in messages for call in message.tool_calls or ())
    return next((call.name for call in calls if call.id == call_id), "tool")


def _content(message: ChatMessage) -> Sequence[Part]:
    if isinstance(message.content, str):
        return (TextPart(message.content),)
    return message.content or ()


def text_of(message: ChatMessage) -> str:
    """The text of a message, its parts a paragraph each."""
    return "\n\n".join(part.text for part in _content(message) if isinstance(part, TextPart))
