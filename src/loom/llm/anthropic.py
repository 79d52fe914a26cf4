"""The Anthropic Messages wire.

Writing requests is here, reading replies is ``anthropic_reply``, asking is ``wire``. On this wire the system
text stands apart, roles alternate, and the results of a reply's tool calls are blocks of one user message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack
from urllib.parse import urlsplit

from msgspec import Raw

from ..errors import ConfigError
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
    ToolSpec,
)
from .anthropic_reply import AnthropicReply
from .base import ModelSettings
from .encoding import (
    ToolFragments,
    arguments_object,
    describes_object,
    encode,
    parameters,
    shape_instruction,
    wire_name,
)
from .media import Media, load_media
from .service import ServiceOptions
from .wire import HTTPProvider, Outgoing

# Where a message keeps its encoding: its blocks, joined; empty when it has nothing to say on this wire.
_KEY = "anthropic"
_VERSION = "2023-06-01"
_RESERVED = frozenset({"messages", "model", "tools"})
_CACHE_MARK = b',"cache_control":{"type":"ephemeral"}}'


class AnthropicProvider(HTTPProvider):
    """Anthropic's Messages API, or a service that speaks it.

    ``timeout`` is the longest silence in seconds. ``max_tokens`` is the output limit when the settings name
    none; the API wants one always. ``prompt_caching`` marks the system text and the end of the conversation
    for the service's cache: earlier steps of a run are then read at a tenth of the price, for a quarter more
    on what is new. ``extensions`` go into every request.
    """

    def __init__(
        self,
        api_key: str | None = None,
        default_model: str = "claude-sonnet-4-20250514",
        timeout: float | None = 120.0,
        *,
        base_url: str = "https://api.anthropic.com",
        max_tokens: int = 8192,
        prompt_caching: bool = False,
        extensions: Mapping[str, Any] | None = None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(base_url, api_key, default_model, timeout, **service)
        versioned = urlsplit(base_url).path.rstrip("/").endswith("/v1")
        self._endpoint = self.endpoint("/messages" if versioned else "/v1/messages")
        self._max_tokens = max_tokens
        self._prompt_caching = prompt_caching
        self._extensions = _checked(extensions or {})
        self._tools = ToolFragments(_tool)

    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        return {"anthropic-version": _VERSION, **({"x-api-key": api_key} if api_key else {})}

    async def _request(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] | None,
        model: str,
        settings: ModelSettings | None,
        stream: bool,
    ) -> Outgoing:
        body: dict[str, Any] = {"model": model, "max_tokens": self._max_tokens, "stream": stream}
        conversation = await _conversation(messages, self._prompt_caching)
        if system := _system(messages):
            body["system"] = system
            if self._prompt_caching:
                body["system"] = [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]
        if tools:
            body["tools"] = self._tools(tools)
        body.update(self._extensions)
        answer_tool = None
        if settings is not None:
            answer_tool = self._apply(settings, tools or (), body)
        body["messages"] = Raw(conversation)
        return Outgoing(
            self._endpoint, encode(body), lambda: AnthropicReply(self._failures, model, answer_tool)
        )

    def _apply(self, settings: ModelSettings, tools: Sequence[ToolSpec], body: dict[str, Any]) -> str | None:
        """Put ``settings`` into ``body``; return the name of the tool whose call is the answer."""
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.max_output_tokens is not None:
            body["max_tokens"] = settings.max_output_tokens
        body.update(_checked(settings.extensions))
        schema = settings.output_schema
        if schema is None:
            return None
        if not describes_object(schema):
            _tell(body, shape_instruction(schema))
            return None
        return _ask_for_shape(settings, schema, tools, body)


def _checked(extensions: Mapping[str, Any]) -> dict[str, Any]:
    if clash := _RESERVED & extensions.keys():
        raise ConfigError(f"extensions must not set {sorted(clash)[0]!r}: the request sets it")
    return {name: value for name, value in extensions.items() if name != "stream"}


def _ask_for_shape(
    settings: ModelSettings, schema: dict[str, Any], tools: Sequence[ToolSpec], body: dict[str, Any]
) -> str:
    """Ask for JSON of a schema by a tool whose arguments are the answer: every model of the API can do it."""
    name = wire_name(settings.output_name)
    while any(tool.name == name for tool in tools):
        name = f"{name}_answer"
    answer = ToolSpec(
        name, "Give the final answer to the user. Call it alone, when the work is done.", schema
    )
    body["tools"] = [*map(_tool, tools), _tool(answer)]
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking != {"type": "disabled"}:
        # A model that thinks may not be forced to a tool, so it has to be told.
        _tell(body, f"Give your final answer only by calling the tool {name}.")
    elif tools:
        body["tool_choice"] = {"type": "any"}
    else:
        body["tool_choice"] = {"type": "tool", "name": name}
    return name


def _tell(body: dict[str, Any], told: str) -> None:
    """Add ``told`` to the end of the system text."""
    system: str | list[dict[str, Any]] = body.get("system", "")
    if isinstance(system, str):
        body["system"] = f"{system}\n\n{told}" if system else told
    else:
        body["system"] = [*system, {"type": "text", "text": told}]


# --- messages ---------------------------------------------------------------------------------------


def _system(messages: Sequence[ChatMessage]) -> str:
    texts = (_text(message) for message in messages if message.role is Role.SYSTEM)
    return "\n\n".join(text for text in texts if text)


async def _conversation(messages: Sequence[ChatMessage], mark: bool) -> bytes:
    """The messages as a JSON array, neighbours of one role joined; ``mark`` ends it with a cache mark."""
    pieces: list[bytes] = []
    speaker: bytes | None = None
    last = b""
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
        pieces.append(blocks)
        last = blocks
    if not pieces:
        return b"[]"
    if mark and speaker == b"user":
        pieces[-1] = last[:-1] + _CACHE_MARK  # a block is an object: its last byte is its closing brace
    return b"".join([*pieces, b"]}]"])


async def _encode(message: ChatMessage) -> bytes:
    # This API takes no media in what the assistant said.
    accepts = () if message.role is Role.ASSISTANT else (ImagePart, FilePart)
    media = await load_media(message, accepts, "Anthropic")
    if message.role is Role.TOOL:
        blocks = [_tool_result(message, media)]
    else:
        blocks = _blocks(message, media)
        for call in message.tool_calls or ():
            arguments = Raw(arguments_object(call.arguments).encode("utf-8", "replace"))
            # Ids of other services have dots and colons, which this API refuses.
            blocks.append(
                {"type": "tool_use", "id": wire_name(call.id), "name": call.name, "input": arguments}
            )
        if not blocks and message.role is Role.USER:
            blocks = [{"type": "text", "text": "(empty message)"}]  # the API refuses a turn without text
    return encode(blocks)[1:-1]


def _tool_result(message: ChatMessage, media: Mapping[str, Media]) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": wire_name(message.tool_call_id or "")}
    content = _blocks(message, media)
    if content:
        block["content"] = _text(message) if all(part["type"] == "text" for part in content) else content
    if message.is_error:
        block["is_error"] = True
    return block


def _blocks(message: ChatMessage, media: Mapping[str, Media]) -> list[dict[str, Any]]:
    if message.content is None or isinstance(message.content, str):
        text = message.content or ""
        return [{"type": "text", "text": text}] if text.strip() else []
    blocks = [_block(part, media) for part in message.content]
    return [block for block in blocks if block is not None]


def _block(part: Part, media: Mapping[str, Media]) -> dict[str, Any] | None:
    """One part as a block; None for what this API would refuse: blank text, another service's thinking."""
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text} if part.text.strip() else None
    if isinstance(part, ThinkingPart):
        if part.data is not None:
            return {"type": "redacted_thinking", "data": part.data}
        if part.signature is None:
            return None
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    if isinstance(part, OpaquePart | CallPart):
        return None
    item = media.get(part.source)
    if item is None:
        return None
    kind = "document" if isinstance(part, FilePart) else "image"
    if item.url:
        return {"type": kind, "source": {"type": "url", "url": item.url}}
    if item.media_type.startswith("text/"):
        return {"type": kind, "source": {"type": "text", "media_type": "text/plain", "data": item.text}}
    return {"type": kind, "source": {"type": "base64", "media_type": item.media_type, "data": item.base64}}


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n\n".join(part.text for part in message.content or () if isinstance(part, TextPart))


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = {"type": "object", **parameters(tool)}
    return {"name": tool.name, "description": tool.description, "input_schema": schema}
