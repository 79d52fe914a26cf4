"""Messages as the OpenAI chat completions wire wants them, in the dialect of each service.

A message is encoded once per dialect. Reasoning of earlier replies goes back only to services that ask for it,
in the place they ask for; all others refuse a field for it or do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Raw

from ..errors import ConfigError
from ..types import (
    AudioPart,
    ChatMessage,
    FilePart,
    ImagePart,
    OpaquePart,
    Part,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolSpec,
)
from .encoding import arguments_object, encode, nine_letter_id, parameters, short_id, wire_name
from .media import Media, MediaPart, Misfit, is_address, load_media, refuse_misfits
from .openai_reasoning import DETAILS, ORIGIN

ReasoningAs = Literal["reasoning_content", "reasoning", "reasoning_details", "parts"]
DocumentsAs = Literal["file", "document_url"]
# What OpenAI says of longer ones: "string too long. Expected a string with maximum length 40".
_LONGEST_CALL_ID = 40
_ACCEPTED = (ImagePart, AudioPart, FilePart)
_AUDIO_FORMATS = {"mpeg": "mp3", "wave": "wav"}


class Dialect(NamedTuple):
    """What a service wants of earlier replies besides their texts and calls.

    ``reasoning`` is where their reasoning goes: a text field, OpenRouter's ``reasoning_details``, or thinking
    ``parts`` of the content; None leaves it out. ``reasoning_required`` puts the field into every reply, empty
    if need be. ``thought_signatures`` sends back what Gemini signed its calls with. ``documents`` is the part that
    holds a document, and ``short_call_ids`` says that ids of calls are nine letters and digits.
    """

    reasoning: ReasoningAs | None = None
    reasoning_required: bool = False
    thought_signatures: bool = False
    documents: DocumentsAs = "file"
    short_call_ids: bool = False

    def call_id(self, given: str) -> str:
        """The id of a call as the service takes it; those of other services may be too long for it."""
        return nine_letter_id(given) if self.short_call_ids else short_id(given, _LONGEST_CALL_ID)

    def fitting(self, part: MediaPart, role: Role) -> Misfit | None:
        """Why the service has no place for ``part``; None when it has."""
        if not isinstance(part, _ACCEPTED):
            return Misfit()
        fetched = isinstance(part, ImagePart) or (
            isinstance(part, FilePart) and self.documents == "document_url"
        )
        return Misfit(" from an address", "send its content") if is_address(part) and not fetched else None

    @property
    def key(self) -> str:
        """Where a message keeps its encoding: bytes, or a pair when media must follow as the user's."""
        return "openai_chat" if self == _PLAIN else f"openai_chat {tuple(self)}"


_PLAIN = Dialect()


async def fragments(messages: Sequence[ChatMessage], dialect: Dialect, key: str) -> bytes:
    """The messages as JSON, joined; those that were sent before are not encoded again."""
    refuse_misfits(messages, dialect.fitting, "this wire")
    for message in reversed(messages):  # what is new is at the end
        if key in message.__dict__:
            break
        vars(message)[key] = await _encode(message, dialect)
    try:
        return b",".join([message.__dict__[key] for message in messages])
    except (KeyError, TypeError):  # there is more that is new, or one has media to follow
        pass
    for message in messages:
        if key not in message.__dict__:
            vars(message)[key] = await _encode(message, dialect)
    joined: list[bytes] = []
    waiting: list[bytes] = []
    for message in messages:
        if message.role is not Role.TOOL:
            # All results of one reply must follow it directly; their media wait until the last is told.
            joined += waiting
            waiting = []
        fragment: bytes | tuple[bytes, bytes] = message.__dict__[key]
        if isinstance(fragment, tuple):
            fragment, media = fragment
            waiting.append(media)
        joined.append(fragment)
    return b",".join(joined + waiting)


def tool_object(tool: ToolSpec) -> dict[str, Any]:
    """A tool as the wire describes it."""
    function = {"name": tool.name, "description": tool.description, "parameters": parameters(tool)}
    return {"type": "function", "function": function}


# --- one message --------------------------------------------------------------------------------------


async def _encode(message: ChatMessage, dialect: Dialect) -> bytes | tuple[bytes, bytes]:
    if message.role is Role.ASSISTANT:
        # Nothing a model drew goes back on this wire; but a path among it is a forgery, and is refused.
        await load_media(message, dialect.fitting)
        return encode(_reply(message, dialect))
    message, media = await load_media(message, dialect.fitting)
    if message.role is Role.TOOL:
        return _tool_result(message, media, dialect)
    body: dict[str, Any] = {"role": message.role, "content": _content(message, media, dialect)}
    if message.name and wire_name(message.name) == message.name:
        body["name"] = message.name
    return encode(body)


def _reply(message: ChatMessage, dialect: Dialect) -> dict[str, Any]:
    body: dict[str, Any] = {
        "role": "assistant",
        "content": _text(message) or ("" if not message.tool_calls else None),
    }
    if dialect.reasoning is not None:
        _think_again(body, message, dialect)
    if message.tool_calls:
        body["tool_calls"] = [_call(call, dialect) for call in message.tool_calls]
    return body


def _think_again(body: dict[str, Any], message: ChatMessage, dialect: Dialect) -> None:
    """Put the reasoning of ``message`` where the service wants it."""
    parts = () if message.content is None or isinstance(message.content, str) else message.content
    if dialect.reasoning == "parts":
        thinking = [_thinking_part(part) for part in parts if _is_ours(part)]
        if thinking and message.content is not None:
            body["content"] = [*thinking, *([_text_part(_text(message))] if _text(message) else [])]
        return
    field: str = dialect.reasoning or ""
    if field == DETAILS:
        for part in parts:
            if isinstance(part, OpaquePart) and part.origin == ORIGIN:
                body[DETAILS] = _details(part)
                return
        field = "reasoning"
    text = "".join(part.text for part in parts if isinstance(part, ThinkingPart) and _is_ours(part))
    if text or dialect.reasoning_required:
        body[field] = text


def _details(part: OpaquePart) -> Raw:
    try:
        return msgspec.json.decode(part.data, type=dict[str, Raw])[DETAILS]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"an opaque part of this wire must be an object with {DETAILS}: {error}") from error


def _is_ours(part: Part) -> bool:
    return isinstance(part, ThinkingPart) and bool(part.text) and part.origin in (None, ORIGIN)


def _thinking_part(part: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [_text_part(part.text)]}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _call(call: ToolCall, dialect: Dialect) -> dict[str, Any]:
    # A model may call what there is not, by a name that the service refuses to hear again.
    function = {"name": wire_name(call.name), "arguments": arguments_object(call.arguments)}
    body: dict[str, Any] = {"id": dialect.call_id(call.id), "type": "function", "function": function}
    if dialect.thought_signatures and call.signature and not call.signature.startswith("{"):
        body["extra_content"] = {"google": {"thought_signature": call.signature}}
    return body


def _tool_result(
    message: ChatMessage, media: Mapping[str, Media], dialect: Dialect
) -> bytes | tuple[bytes, bytes]:
    text = _text(message)
    if message.is_error and not text.lower().startswith("error"):
        text = f"Error: {text}"  # the wire has no field for it
    called = dialect.call_id(message.tool_call_id or "")
    result = encode({"role": "tool", "tool_call_id": called, "content": text})
    if not media:
        return result
    shown = [part for part in message.content or () if isinstance(part, _ACCEPTED)]
    named = "Images" if all(isinstance(part, ImagePart) for part in shown) else "Files"
    heading = _text_part(f"{named} returned by the tool call {called}:")
    told = [heading, *(_medium(part, media, dialect) for part in shown)]
    return result, encode({"role": "user", "content": told})


def _content(
    message: ChatMessage, media: Mapping[str, Media], dialect: Dialect
) -> str | list[dict[str, Any]]:
    if not media or message.content is None or isinstance(message.content, str):
        return _text(message)
    parts: list[dict[str, Any]] = []
    for part in message.content:
        if isinstance(part, TextPart):
            parts.append(_text_part(part.text))
        elif isinstance(part, _ACCEPTED):
            parts.append(_medium(part, media, dialect))
    return parts


def _medium(part: MediaPart, media: Mapping[str, Media], dialect: Dialect) -> dict[str, Any]:
    item = media[part.source]
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": item.data_url}}
    if isinstance(part, AudioPart):
        subtype = item.media_type.partition("/")[2].removeprefix("x-")
        sound = {"data": item.base64, "format": _AUDIO_FORMATS.get(subtype, subtype)}
        return {"type": "input_audio", "input_audio": sound}
    if dialect.documents == "document_url":
        return {"type": "document_url", "document_url": item.data_url}
    name = "document.pdf" if item.media_type == "application/pdf" else "document"
    return {"type": "file", "file": {"filename": name, "file_data": item.data_url}}


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    between = "" if message.role is Role.ASSISTANT else "\n\n"
    return between.join(part.text for part in message.content or () if isinstance(part, TextPart))
