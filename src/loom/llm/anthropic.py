"""The Anthropic Messages wire.

What a request is, is here; messages are ``anthropic_blocks``, answers of a shape ``anthropic_shape``, replies
``anthropic_reply``, asking is ``wire``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from ..errors import ConfigError
from ..types import ChatMessage, ToolSpec
from .anthropic_blocks import conversation, marked, open_container, system_text, tool_object
from .anthropic_reply import AnthropicReply
from .anthropic_shape import Structured, ask_for_shape, way_of
from .base import ModelSettings
from .encoding import encode, joined_arrays, service_tools, tool_fragments
from .history import repaired
from .service import ServiceOptions
from .untyped import as_text
from .wire import HTTPProvider, Outgoing

_VERSION = "2023-06-01"
_RESERVED = frozenset({"messages", "model"})
# What of a request the service counts; it refuses the rest there.
_COUNTED = (
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "context_management",
    "mcp_servers", "cache_control", "speed",
)  # fmt: skip


class AnthropicProvider(HTTPProvider):
    """Anthropic's Messages API, or a service that speaks it.

    ``timeout`` is the longest silence in seconds. ``max_tokens`` is the output limit when the settings name
    none; the API wants one always. ``structured`` says how answers of a shape are asked for: by the service's
    own means, through the arguments of a tool, or in words; None leaves it to the model's name.

    ``prompt_caching`` marks the tools, the system text, the end of the conversation and its end of last time
    for the service's cache: earlier steps of a run are then read at a tenth of the price, for a quarter more
    on what is new. ``cache_ttl`` is how long it is kept; an hour costs twice as much to write.

    ``extensions`` go into every request; ``tools`` among them are tools that the service runs itself.
    """

    def __init__(
        self,
        api_key: str | None = None,
        default_model: str = "claude-sonnet-4-6",
        timeout: float | None = 120.0,
        *,
        base_url: str = "https://api.anthropic.com",
        max_tokens: int = 8192,
        structured: Structured | None = None,
        prompt_caching: bool = False,
        cache_ttl: Literal["5m", "1h"] = "5m",
        extensions: Mapping[str, Any] | None = None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(base_url, api_key, default_model, timeout, **service)
        versioned = urlsplit(base_url).path.rstrip("/").endswith("/v1")
        self._path = "/messages" if versioned else "/v1/messages"
        self._endpoint = self.endpoint(self._path)
        self._max_tokens = max_tokens
        self._structured: Structured | None = structured
        lasting = {"ttl": cache_ttl} if cache_ttl != "5m" else {}
        self._cache = {"cache_control": {"type": "ephemeral", **lasting}} if prompt_caching else {}
        # The end of an object that is marked, from its last field on.
        self._mark = b"," + encode(self._cache)[1:] if prompt_caching else b""
        self._extensions = _checked(extensions or {})
        self._served = service_tools(self._extensions)
        self._tools = tool_fragments(tool_object)

    async def count_tokens(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> int:
        """How many input tokens these messages and tools are, by the service's own count.

        Raises ProviderError or ContextOverflowError.
        """
        body, _ = await self._body(
            repaired(messages), tools or (), model or self.default_model, settings, False
        )
        counted = {name: body[name] for name in _COUNTED if name in body}
        return await self.exchange(self.endpoint(f"{self._path}/count_tokens"), encode(counted), self._count)

    def _count(self, reply: bytes) -> int:
        try:
            return _decode_count(reply).input_tokens
        except (ValueError, RecursionError):
            pass
        raise self._failures.malformed("sent something that is not a count of tokens", reply)

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
        body, answer = await self._body(messages, tools or (), model, settings, stream)
        return Outgoing(self._endpoint, encode(body), lambda: AnthropicReply(self._failures, model, answer))

    async def _body(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
        model: str,
        settings: ModelSettings | None,
        stream: bool,
    ) -> tuple[dict[str, Any], str | None]:
        """The request, and the name of the tool whose call is the answer."""
        body: dict[str, Any] = {"model": model, "max_tokens": self._max_tokens, "stream": stream}
        if system := system_text(messages):
            body["system"] = system
            if self._cache:
                body["system"] = [{"type": "text", "text": system, **self._cache}]
        body.update(self._extensions)
        served = list(self._served)
        if settings is not None:
            if settings.temperature is not None:
                body["temperature"] = settings.temperature
            if settings.max_output_tokens is not None:
                body["max_tokens"] = settings.max_output_tokens
            extensions = _checked(settings.extensions)
            served += service_tools(extensions)
            body.update(extensions)
        answer = self._shape(body, [*served, *tools], model, settings)
        arrays = [encode(served), self._tools(tools), encode([tool_object(answer)] if answer else [])]
        if len(array := joined_arrays(*arrays)) > 2:
            body["tools"] = Raw(marked(array[:-1], self._mark) + b"]")
        if container := open_container(messages):
            body.setdefault("container", container)
        # The messages last: what comes before them is the same from request to request.
        body["messages"] = await conversation(messages, self._mark)
        return body, answer.name if answer else None

    def _shape(
        self,
        body: dict[str, Any],
        tools: Sequence[ToolSpec | dict[str, Any]],
        model: str,
        settings: ModelSettings | None,
    ) -> ToolSpec | None:
        """Ask for the shape that the settings want; return the tool whose call is the answer."""
        if settings is None or settings.output_schema is None:
            return None
        names = [tool.name if isinstance(tool, ToolSpec) else as_text(tool.get("name")) for tool in tools]
        way = self._structured or way_of(model)
        return ask_for_shape(body, settings.output_schema, settings.output_name, names, way)


def _checked(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``extensions`` goes into a body. Raises ConfigError for a field the request itself sets."""
    if clash := _RESERVED & extensions.keys():
        raise ConfigError(f"extensions must not set {sorted(clash)[0]!r}: the request sets it")
    return {name: value for name, value in extensions.items() if name != "stream"}


class _Count(Struct):
    input_tokens: int


_decode_count = msgspec.json.Decoder(_Count).decode
