"""The Gemini wire: Google's generateContent, whole and streamed.

What stands beside the conversation in a request is here, the conversation is ``gemini_contents``, reading
replies ``gemini_reply``, asking ``wire``. Model and stream are in the address, not in the body.
Source: https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Unpack
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Raw

from ..errors import ConfigError
from ..types import ChatMessage, Role, ToolSpec
from .base import ModelSettings
from .encoding import encode, parameters, shape_instruction, tool_fragments
from .gemini_contents import encode_contents, text_of
from .gemini_reply import GeminiReply
from .history import repaired
from .service import ServiceOptions
from .untyped import as_dict, as_list, is_dict, is_list
from .wire import HTTPProvider, Outgoing

# These belong to the request itself; an extension of the same name would contradict it.
_RESERVED = frozenset({"contents", "messages", "model", "systemInstruction"})

# Source: https://ai.google.dev/gemini-api/docs/structured-output#structured_outputs_with_tools
_SCHEMA_WITH_TOOLS = 3
_GENERATION = re.compile(r"gemini-(\d{1,3})(?:\D|$)")


class GeminiProvider(HTTPProvider):
    """Google's Gemini API, or a service that speaks it.

    ``base_url`` ends in the API's version; one without a path gets ``/v1beta``. ``timeout`` is the longest
    silence in seconds. ``schema_with_tools`` says whether the model takes tools and the schema of an answer in
    one request; None leaves it to the model's name. Gemini 3 does; older ones refuse, and are told the schema in
    words.

    ``extensions`` go into every request: objects in them (``generationConfig``, ``toolConfig``) are merged
    with what the request says, ``safetySettings`` category by category; ``thinkingConfig`` finds its place in
    ``generationConfig``; ``tools`` are those that the service runs itself, like ``{"googleSearch": {}}``.
    Raises ConfigError for a base URL, a key or an extension that cannot be used.
    """

    def __init__(
        self,
        api_key: str | None = None,
        default_model: str = "gemini-3.5-flash-lite",
        timeout: float | None = 120.0,
        *,
        base_url: str = "https://generativelanguage.googleapis.com/v1beta",
        schema_with_tools: bool | None = None,
        extensions: Mapping[str, Any] | None = None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(base_url, api_key, default_model, timeout, **service)
        path = urlsplit(self.base_url).path
        if path.endswith("/openai"):
            raise ConfigError(
                "this base_url is where Gemini speaks OpenAI's words: leave out /openai, or use "
                "Model.compatible(name, base_url=...)"
            )
        self._version = "" if path else "/v1beta"
        self._schema_with_tools = schema_with_tools
        self._extensions = _checked(extensions or {})
        self._tools = tool_fragments(_tool)

    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        return {"x-goog-api-key": api_key} if api_key else {}

    async def count_tokens(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> int:
        """How many input tokens the service counts in this request, without running it. Raises as ``chat``."""
        kind, name = _resource(model or self.default_model)
        request = {"model": f"{kind}/{name}", **await self._body(repaired(messages), tools, settings, name)}
        body = encode({"generateContentRequest": request})
        return await self.exchange(self._address(kind, name, "countTokens"), body, self._count)

    async def _request(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] | None,
        model: str,
        settings: ModelSettings | None,
        stream: bool,
    ) -> Outgoing:
        kind, name = _resource(model)
        if stream:
            url = self._address(kind, name, "streamGenerateContent", alt="sse")
        else:
            url = self._address(kind, name, "generateContent")
        body = await self._body(messages, tools, settings, name)
        return Outgoing(url, encode(body), lambda: GeminiReply(self._failures, model, messages))

    def _address(self, kind: str, name: str, method: str, **query: str) -> str:
        return self.endpoint(f"{self._version}/{kind}/{quote(name, safe='')}:{method}", **query)

    async def _body(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] | None,
        settings: ModelSettings | None,
        model: str,
    ) -> dict[str, Any]:
        contents = await encode_contents(messages)
        told = [text for message in messages if message.role is Role.SYSTEM and (text := text_of(message))]
        beside = self._extensions
        if settings is not None:
            own, schema = _checked(settings.extensions), settings.output_schema
            any_tools = tools or beside.get("tools") or own.get("tools")
            if schema is not None and any_tools and not self._takes_both(model):
                told.append(shape_instruction(schema))
                schema = None
            beside = _merged(_merged(beside, {"generationConfig": _generation(settings, schema)}), own)
        declared = [{"functionDeclarations": Raw(self._tools(tools))}] if tools else []
        body: dict[str, Any] = {
            "systemInstruction": {"parts": [{"text": "\n\n".join(told)}]} if told else {},
            "tools": [*declared, *beside.get("tools", ())],
            **{name: value for name, value in beside.items() if name != "tools"},
        }
        # The conversation comes last, so that a longer one begins as the shorter did.
        return {
            **{name: said for name, said in body.items() if said not in ({}, [])},
            "contents": Raw(contents),
        }

    def _takes_both(self, model: str) -> bool:
        """Whether ``model`` takes tools and a schema in one request."""
        if self._schema_with_tools is not None:
            return self._schema_with_tools
        generation = _GENERATION.match(model)
        return generation is not None and int(generation[1]) >= _SCHEMA_WITH_TOOLS

    def _count(self, body: bytes) -> int:
        try:
            said = as_dict(msgspec.json.decode(body))
        except (ValueError, RecursionError):
            said = {}
        if said.get("error"):
            raise self._failures.from_error(said["error"])
        count: object = said.get("totalTokens")
        if not isinstance(count, int):
            raise self._failures.malformed("sent something that is not a count of tokens", body)
        return count


def _resource(model: str) -> tuple[str, str]:
    """The collection and the name of a model, which may be written with its collection."""
    kind, slash, name = model.partition("/")
    return (kind, name) if slash and kind in ("models", "tunedModels") else ("models", model)


def _generation(settings: ModelSettings, schema: dict[str, Any] | None) -> dict[str, Any]:
    """How to sample and what shape to answer in, in the words of the service."""
    config: dict[str, Any] = {}
    if settings.temperature is not None:
        config["temperature"] = settings.temperature
    if settings.max_output_tokens is not None:
        config["maxOutputTokens"] = settings.max_output_tokens
    if schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = schema
    return config


def _checked(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``extensions`` goes into a body. Raises ConfigError for a field the request itself sets, and for
    tools that are none.

    ``stream`` is left out rather than refused: agents use it as their own switch.
    """
    if clash := _RESERVED & extensions.keys():
        raise ConfigError(f"extensions must not set {sorted(clash)[0]!r}: the request sets it")
    tools: Any = extensions.get("tools", ())
    if not (is_list(tools) and all(map(is_dict, tools))):
        raise ConfigError("'tools' among the extensions must be a list of objects, as the service takes them")
    checked = {name: value for name, value in extensions.items() if name not in ("stream", "thinkingConfig")}
    if "thinkingConfig" in extensions:
        nested = {"generationConfig": {"thinkingConfig": extensions["thinkingConfig"]}}
        checked = _merged(checked, nested)
    return checked


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``more`` over it, object by object; neither is changed."""
    merged = dict(base)
    for name, value in more.items():
        under = merged.get(name)
        if is_dict(under) and is_dict(value):
            merged[name] = _merged(under, value)
        elif name == "tools" and under is not None:
            merged[name] = [*under, *value]
        elif name == "safetySettings" and under is not None:
            by_category = {as_dict(item).get("category"): item for item in [*as_list(under), *as_list(value)]}
            merged[name] = list(by_category.values())
        else:
            merged[name] = value
    return merged


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = {"type": "object", **parameters(tool)}
    return {"name": tool.name, "description": tool.description, "parametersJsonSchema": schema}
