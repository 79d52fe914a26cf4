"""The OpenAI chat completions wire: OpenAI itself and every service and local server that speaks it.

What a request is, is here; messages are ``openai_messages``, replies ``openai_reply``, asking is ``wire``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

from msgspec import Raw

from ..errors import ConfigError
from ..types import ChatMessage, ToolSpec
from .base import ModelSettings
from .encoding import (
    describes_object,
    encode,
    joined_arrays,
    service_tools,
    shape_instruction,
    strict_schema,
    tool_fragments,
    wire_name,
)
from .openai_messages import Dialect, DocumentsAs, ReasoningAs, fragments, tool_object
from .openai_reply import OpenAIReply
from .service import ServiceOptions
from .untyped import as_dict, as_text
from .wire import HTTPProvider, Outgoing

# These belong to the request itself; an extension of the same name would contradict it.
_RESERVED = frozenset({"messages", "model", "stream"})
_AUDIO_TYPES = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}


class OpenAICompatibleProvider(HTTPProvider):
    """A service that speaks OpenAI's chat completions.

    ``base_url`` is everything before ``/chat/completions``. ``timeout`` is the longest silence in seconds.
    ``max_tokens_field`` is the body's word for the output limit (newer OpenAI models want
    ``max_completion_tokens``), and ``include_usage`` False says that the service does not know
    ``stream_options``. ``key_header`` is the header that takes the key as it is; without one it is a bearer
    token. ``structured`` is how answers of a shape are asked for: by the service's own means, by its JSON mode
    with the schema in words, or in words alone.

    ``reasoning_as`` is where reasoning of earlier replies goes back, for services that want it: the name of a
    field, or ``parts`` of the content. ``reasoning_required`` puts it into every reply, empty if need be;
    ``thought_signatures`` sends back what Gemini signed its calls with. ``documents_as`` is the kind of part that
    holds a document, and ``short_call_ids`` says that ids of tool calls must be nine letters and digits.

    ``extensions`` go into every request; ``tools`` among them are tools that the service runs itself.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        default_model: str = "gpt-5.6-terra",
        timeout: float | None = 120.0,
        *,
        organization: str | None = None,
        extensions: Mapping[str, Any] | None = None,
        max_tokens_field: str = "max_tokens",
        structured: Literal["native", "json", "prompt"] = "native",
        include_usage: bool = True,
        key_header: str | None = None,
        reasoning_as: ReasoningAs | None = None,
        reasoning_required: bool = False,
        thought_signatures: bool = False,
        documents_as: DocumentsAs = "file",
        short_call_ids: bool = False,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(base_url, api_key, default_model, timeout, **service)
        self._endpoint = self.endpoint("/chat/completions")
        self._organization = organization
        self._extensions = check_extensions(extensions or {})
        self._served = service_tools(self._extensions)
        self._max_tokens_field = max_tokens_field
        self._structured = structured
        self._include_usage = include_usage
        self._key_header = key_header
        self._dialect = Dialect(
            reasoning_as, reasoning_required, thought_signatures, documents_as, short_call_ids
        )
        self._encoded = self._dialect.key
        self._tools = tool_fragments(tool_object)

    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        headers: dict[str, str] = {}
        if api_key:
            named = self._key_header
            headers = {named: api_key} if named else {"Authorization": f"Bearer {api_key}"}
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
        told = await fragments(messages, self._dialect, self._encoded)
        body: dict[str, Any] = {"model": model, "stream": stream}
        if stream and self._include_usage:
            body["stream_options"] = {"include_usage": True}
        body.update(self._extensions)
        served = self._served
        if settings is not None:
            extensions = check_extensions(settings.extensions)
            served = [*served, *service_tools(extensions)]
            told += self._apply(settings, body)
            body.update(extensions)
        if tools or served:
            body["tools"] = Raw(joined_arrays(encode(served), self._tools(tools or ())))
        # Last, so that all before it is the same in every request of a session.
        body["messages"] = Raw(b"[" + told + b"]")
        audio = _audio_type(body)
        return Outgoing(
            self._endpoint, encode(body), lambda: OpenAIReply(self._failures, model, messages, audio)
        )

    def _apply(self, settings: ModelSettings, body: dict[str, Any]) -> bytes:
        """Put ``settings`` into ``body``; return what must follow the messages."""
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.max_output_tokens is not None:
            body[self._max_tokens_field] = settings.max_output_tokens
        wanted = settings.output_schema
        if wanted is None:
            return b""
        way = self._structured if describes_object(wanted) else "prompt"
        if way == "native":
            schema, strict = strict_schema(wanted)
            form = {"name": wire_name(settings.output_name), "schema": schema, "strict": strict}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
            return b""
        if way == "json":
            body["response_format"] = {"type": "json_object"}
        return b"," + encode({"role": "system", "content": shape_instruction(wanted)})


def check_extensions(extensions: Mapping[str, Any], reserved: frozenset[str] = _RESERVED) -> dict[str, Any]:
    """What of ``extensions`` goes into a body. Raises ConfigError for a field the request itself sets.

    ``stream`` is left out rather than refused: agents use it as their own switch.
    """
    if clash := (reserved - {"stream"}) & extensions.keys():
        raise ConfigError(f"extensions must not set {sorted(clash)[0]!r}: the request sets it")
    return {name: value for name, value in extensions.items() if name != "stream"}


def _audio_type(body: dict[str, Any]) -> str:
    """The media type of the sound that ``body`` asks for."""
    asked = as_text(as_dict(body.get("audio")).get("format")) or "wav"
    return _AUDIO_TYPES.get(asked, f"audio/{asked}")
