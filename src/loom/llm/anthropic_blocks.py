"""Messages as blocks of the Anthropic Messages wire.

The system text stands apart, roles alternate, and the results of a reply's tool calls are blocks of one user
message. A message is encoded once; what moves from request to request are the marks for the service's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Raw

from ..types import (
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
    ToolSpec,
)
from .anthropic_opaque import ORIGIN, container_id, extras_of, opaque_block, text_blocks
from .encoding import arguments_object, encode, parameters, wire_id, wire_name
from .media import Media, MediaPart, Misfit, load_media, refuse_misfits

# Where a message keeps its encoding: its blocks, joined; empty when it has nothing to say on this wire.
_KEY = "anthropic"
_MARKED = b'"cache_control":'
# The end of the conversation, and its end of last time: what was written then is read now.
_MARKED_TURNS = 2


def system_text(messages: Sequence[ChatMessage]) -> str:
    """The text of all system messages, wherever they stand."""
    texts = (_text(message) for message in messages if message.role is Role.SYSTEM)
    return "\n\n".join(text for text in texts if text)


async def conversation(messages: Sequence[ChatMessage], mark: bytes = b"") -> Raw:
    """The messages as a JSON array, neighbours of one role joined; ``mark`` goes to the last user turns."""
    refuse_misfits(messages, _fitting, "Anthropic")
    pieces: list[bytes] = []
    ends: list[int] = []  # where in the pieces the user's turns end
    speaker: bytes | None = None
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        blocks: bytes | None = message.__dict__.get(_KEY)
        if blocks is None:
            blocks = vars(message)[_KEY] = await _encode(message)
        if not blocks:
            continue
        role = b"assistant" if message.role is Role.ASSISTANT else b"user"
        if role is speaker:
            pieces.append(b",")
        else:
            pieces.append((b']},{"role":"' if speaker else b'[{"role":"') + role + b'","content":[')
            speaker = role
            if role == b"user":
                ends.append(0)
        if role == b"user":
            ends[-1] = len(pieces)
        pieces.append(blocks)
    if not pieces:
        return Raw(b"[]")
    if mark:
        for end in ends[-_MARKED_TURNS:]:
            pieces[end] = marked(pieces[end], mark)
    return Raw(b"".join([*pieces, b"]}]"]))


def marked(objects: bytes, mark: bytes) -> bytes:
    """``objects``, which end in a JSON object, with ``mark`` in the last, unless they are marked already."""
    return objects if not mark or _MARKED in objects else objects[:-1] + mark


def open_container(messages: Sequence[ChatMessage]) -> str | None:
    """The container that the last reply's unfinished work goes on in."""
    for message in reversed(messages):
        if message.role is Role.ASSISTANT:
            parts = message.content if not isinstance(message.content, str) else None
            return next((found for part in parts or () if (found := container_id(part))), None)
        if message.role is not Role.TOOL:
            return None
    return None


def tool_object(tool: ToolSpec) -> dict[str, Any]:
    """A tool as the wire describes it."""
    schema = {"type": "object", **parameters(tool)}
    return {"name": tool.name, "description": tool.description, "input_schema": schema}


# --- one message --------------------------------------------------------------------------------------


async def _encode(message: ChatMessage) -> bytes:
    if message.role is Role.ASSISTANT:
        return encode(_reply(message))[1:-1]
    message, media = await load_media(message, _fitting)
    if message.role is Role.TOOL:
        return encode([_tool_result(message, media)])[1:-1]
    blocks = _blocks(message, media)
    if not blocks:
        blocks = [{"type": "text", "text": "(empty message)"}]  # the API refuses a turn without text
    return encode(blocks)[1:-1]


def _fitting(part: MediaPart, role: Role) -> Misfit | None:
    return None if isinstance(part, ImagePart | FilePart) else Misfit()


def _reply(message: ChatMessage) -> list[Any]:
    """What an assistant said, in the order it came in: thinking between calls has to stand between them."""
    calls = dict(enumerate(map(_call, message.tool_calls or ())))
    content = (TextPart(message.content),) if isinstance(message.content, str) else message.content
    blocks: list[Any] = []
    shown = ""  # the text right before the part at hand
    for part in content or ():
        if isinstance(part, TextPart):
            if part.text.strip():
                blocks.append({"type": "text", "text": part.text})
            shown = part.text
            continue
        if isinstance(part, ThinkingPart):
            blocks += _thinking(part)
        elif isinstance(part, CallPart):
            blocks += [calls.pop(part.index)] if part.index in calls else []
        elif isinstance(part, OpaquePart) and part.origin == ORIGIN:
            if shown.strip() and (run := text_blocks(part, shown)) is not None:
                blocks[-1:] = run
            elif (block := opaque_block(part)) is not None:
                blocks.append(block)
        shown = ""
    return [*blocks, *calls.values()]


def _thinking(part: ThinkingPart) -> list[dict[str, Any]]:
    """Thinking as a block; none for what this API would refuse: another service's, or without signature."""
    if part.origin not in (None, ORIGIN):
        return []
    if part.data is not None:
        return [{"type": "redacted_thinking", "data": part.data}]
    if part.signature is None:
        return []
    return [{"type": "thinking", "thinking": part.text, "signature": part.signature}]


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = Raw(arguments_object(call.arguments).encode("utf-8", "replace"))
    # Ids of other services have dots and colons, which this API refuses, as names that a model made up may.
    named = {"id": wire_id(call.id), "name": wire_name(call.name)}
    block = {"type": "tool_use", **named, "input": arguments}
    return {**extras_of(call), **block}


def _tool_result(message: ChatMessage, media: Mapping[str, Media]) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": wire_id(message.tool_call_id or "")}
    if content := _blocks(message, media):
        plain = all(not isinstance(part, Raw) and part["type"] == "text" for part in content)
        block["content"] = _text(message) if plain else content
    if message.is_error:
        block["is_error"] = True
    return block


def _blocks(message: ChatMessage, media: Mapping[str, Media]) -> list[Any]:
    """What a user said or a tool returned; blank text is left out, which the API would refuse."""
    if message.content is None or isinstance(message.content, str):
        text = message.content or ""
        return [{"type": "text", "text": text}] if text.strip() else []
    return [block for part in message.content if (block := _block(part, media)) is not None]


def _block(part: Part, media: Mapping[str, Media]) -> dict[str, Any] | Raw | None:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text} if part.text.strip() else None
    if isinstance(part, OpaquePart):
        return opaque_block(part)
    if isinstance(part, ThinkingPart | CallPart):
        return None
    kind = "image" if isinstance(part, ImagePart) else "document"
    return {"type": kind, "source": _source(media[part.source])}


def _source(item: Media) -> dict[str, Any]:
    if item.url:
        return {"type": "url", "url": item.url}
    if item.media_type.startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": item.text}
    return {"type": "base64", "media_type": item.media_type, "data": item.base64}


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n\n".join(part.text for part in message.content or () if isinstance(part, TextPart))
