"""The OpenAI chat completions wire: OpenAI itself and every service and local server that speaks it.

Writing requests is here, reading replies is ``openai_reply``, asking is ``wire``. Reasoning of earlier
replies is not sent on this wire: it has no place for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from msgspec import Raw

from ..errors import ConfigError
from ..types import ChatMessage, ImagePart, Role, TextPart, ToolSpec
from .base import ModelSettings
from .encoding import (
    ToolFragments,
    arguments_object,
    describes_object,
    encode,
    parameters,
    shape_instruction,
    strict_schema,
    wire_name,
)
from .media import Media, load_media
from .openai_reply import OpenAIReply
from .service import ServiceOptions
from .wire import HTTPProvider, Outgoing

# Where a message keeps its encoding: the bytes, or a pair when images must follow as a message of the user.
_KEY = "openai_chat"
# These belong to the request itself; an extension of the same name would contradict it.
_RESERVED = frozenset({"messages", "model", "stream", "tools"})


class OpenAICompatibleProvider(HTTPProvider):
    """A service that speaks OpenAI's chat completions.

    ``base_url`` is everything before ``/chat/completions``. ``timeout`` is the longest silence in seconds.
    ``max_tokens_field`` is the body's word for the output limit (newer OpenAI models want
    ``max_completion_tokens``), ``json_schema`` False says that the service knows only JSON mode, and
    ``include_usage`` False that it does not know ``stream_options``. ``extensions`` go into every request.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        default_model: str = "gpt-4o",
        timeout: float | None = 120.0,
        *,
        organization: str | None = None,
        extensions: Mapping[str, Any] | None = None,
        max_tokens_field: str = "max_tokens",
        json_schema: bool = True,
        include_usage: bool = True,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(base_url, api_key, default_model, timeout, **service)
        self._endpoint = self.endpoint("/chat/completions")
        self._organization = organization
        self._extensions = check_extensions(extensions or {})
        self._max_tokens_field = max_tokens_field
        self._json_schema = json_schema
        self._include_usage = include_usage
        self._tools = ToolFragments(_tool)

    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        if self._organization:
            headers["OpenAI-Organization"] = self._organization
        return headers

    async def _request(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] | None,
        model: str,
        settings: ModelSettings | None,
        stream: bool,
    ) -> Outgoing:
        fragments = await _fragments(messages)
        body: dict[str, Any] = {"model": model, "stream": stream}
        if stream and self._include_usage:
            body["stream_options"] = {"include_usage": True}
        if tools:
            body["tools"] = self._tools(tools)
        body.update(self._extensions)
        if settings is not None:
            fragments += self._apply(settings, body)
        # Last, so that all before it is the same in every request of a session.
        body["messages"] = Raw(b"[" + fragments + b"]")
        return Outgoing(self._endpoint, encode(body), lambda: OpenAIReply(self._failures, model, messages))

    def _apply(self, settings: ModelSettings, body: dict[str, Any]) -> bytes:
        """Put ``settings`` into ``body``; return what must follow the messages."""
        after = b""
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.max_output_tokens is not None:
            body[self._max_tokens_field] = settings.max_output_tokens
        wanted = settings.output_schema
        if wanted is not None and self._json_schema and describes_object(wanted):
            schema, strict = strict_schema(wanted)
            form = {"name": wire_name(settings.output_name), "schema": schema, "strict": strict}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif wanted is not None:
            if describes_object(wanted):
                body["response_format"] = {"type": "json_object"}
            after = b"," + encode({"role": "system", "content": shape_instruction(wanted)})
        body.update(check_extensions(settings.extensions))
        return after


def check_extensions(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``extensions`` goes into a body. Raises ConfigError for a field the request itself sets.

    ``stream`` is left out rather than refused: agents use it as their own switch.
    """
    if clash := (_RESERVED - {"stream"}) & extensions.keys():
        raise ConfigError(f"extensions must not set {sorted(clash)[0]!r}: the request sets it")
    return {name: value for name, value in extensions.items() if name != "stream"}


# --- messages ---------------------------------------------------------------------------------------


async def _fragments(messages: Sequence[ChatMessage]) -> bytes:
    """The messages as JSON, joined; those that were sent before are not encoded again."""
    for message in reversed(messages):  # what is new is at the end
        if _KEY in message.__dict__:
            break
        vars(message)[_KEY] = _encode(message, await load_media(message, (ImagePart,), "this wire"))
    try:
        return b",".join([message.__dict__[_KEY] for message in messages])
    except (KeyError, TypeError):  # there is more that is new, or one has images to follow
        pass
    for message in messages:
        if _KEY not in message.__dict__:
            vars(message)[_KEY] = _encode(message, await load_media(message, (ImagePart,), "this wire"))
    joined: list[bytes] = []
    waiting: list[bytes] = []
    for message in messages:
        if message.role is not Role.TOOL:
            # All results of one reply must follow it directly; their images wait until the last is told.
            joined += waiting
            waiting = []
        fragment: bytes | tuple[bytes, bytes] = message.__dict__[_KEY]
        if isinstance(fragment, tuple):
            fragment, images = fragment
            waiting.append(images)
        joined.append(fragment)
    return b",".join(joined + waiting)


def _encode(message: ChatMessage, media: Mapping[str, Media]) -> bytes | tuple[bytes, bytes]:
    if message.role is Role.ASSISTANT:
        return encode(_assistant(message))
    if message.role is Role.TOOL:
        return _tool_result(message, media)
    body: dict[str, Any] = {"role": message.role, "content": _content(message, media)}
    if message.name and wire_name(message.name) == message.name:
        body["name"] = message.name
    return encode(body)


def _assistant(message: ChatMessage) -> dict[str, Any]:
    body: dict[str, Any] = {
        "role": "assistant",
        "content": _text(message) or ("" if not message.tool_calls else None),
    }
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_object(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return body


def _tool_result(message: ChatMessage, media: Mapping[str, Media]) -> bytes | tuple[bytes, bytes]:
    text = _text(message)
    if message.is_error and not text.lower().startswith("error"):
        text = f"Error: {text}"  # the wire has no field for it
    result = encode({"role": "tool", "tool_call_id": message.tool_call_id or "", "content": text})
    if not media:
        return result
    shown = [{"type": "text", "text": f"Images returned by the tool call {message.tool_call_id}:"}]
    return result, encode({"role": "user", "content": [*shown, *(_image(item) for item in media.values())]})


def _content(message: ChatMessage, media: Mapping[str, Media]) -> str | list[dict[str, Any]]:
    if not media or message.content is None or isinstance(message.content, str):
        return _text(message)
    parts: list[dict[str, Any]] = []
    for part in message.content:
        if isinstance(part, TextPart):
            parts.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            parts.append(_image(media[part.source]))
    return parts


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    between = "" if message.role is Role.ASSISTANT else "\n\n"
    return between.join(part.text for part in message.content or () if isinstance(part, TextPart))


def _image(media: Media) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": media.data_url}}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": parameters(tool)}
    return {"type": "function", "function": function}
