"""OpenAI's Responses API: OpenAI itself, Azure, xAI, OpenRouter, DeepSeek and servers that speak it.

What a request is as a whole is here; its items are ``openai_input``, replies are ``openai_responses_reply``,
asking is ``wire``. Unlike on the chat wire, reasoning goes back with the calls it led to, so that a model need
not begin to think anew after every tool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import msgspec
from msgspec import Raw

from ..errors import ConfigError, InvalidRequestError
from ..types import ChatMessage, ToolSpec
from .base import ModelSettings
from .encoding import (
    describes_object,
    encode,
    fits_strict,
    joined_arrays,
    parameters,
    service_tools,
    shape_instruction,
    strict_schema,
    tool_fragments,
    wire_name,
)
from .history import repaired
from .openai_compat import check_extensions
from .openai_input import fragments_of, joined
from .openai_replay import Form
from .openai_responses_reply import ResponsesReply
from .openai_stored import mark_reply, stored_before
from .service import ServiceOptions
from .untyped import as_dict, as_list
from .wire import HTTPProvider, Outgoing

_RESERVED = frozenset({"input", "model", "previous_response_id", "stream"})
_COUNTED = (
    "model", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "truncation",
    "input",
)  # fmt: skip
# Tools whose calls an application answers, in items that are no function's; unanswered, they end a conversation.
_RUN_HERE = frozenset(
    {"function", "custom", "computer", "computer_use", "computer_use_preview", "local_shell", "apply_patch"}
)
_ENCRYPTED = "reasoning.encrypted_content"

# What services say of items they wrote themselves, and what helps. As told in the threads of openai-python,
# codex and the Azure clients; the recorded one is "without its required following item".
_GONE = re.compile(r"previous[ _]response", re.IGNORECASE)
_NO_REASONING = re.compile(
    r"encrypted content is not supported|reasoning input items can only be", re.IGNORECASE
)
_NOT_OURS = re.compile(r"invalid_encrypted_content|encrypted content .{0,200}could not be", re.IGNORECASE)
_NO_NAMES = re.compile(r"items are not persisted", re.IGNORECASE)
_UNKNOWN_NAME = re.compile(r"item with id .{1,200} not found|without its required", re.IGNORECASE)


class OpenAIResponsesProvider(HTTPProvider):
    """A service that speaks OpenAI's Responses API.

    ``base_url`` is everything before ``/responses``. ``timeout`` is the longest silence in seconds. By default
    the service keeps nothing: every request holds the whole conversation, with the model's reasoning encrypted.
    With ``store`` it keeps its replies, and only what is new is sent, as long as the conversation is still the
    one it knows; else, and when it has forgotten it, everything is sent again.

    ``key_header`` is the header that takes the key as it is; without one it is a bearer token.
    ``encrypted_reasoning`` False says that the service knows no such thing. ``extensions`` go into every request;
    ``tools`` among them are tools that the service runs itself. Raises ConfigError for those it would want run here.
    """

    def __init__(
        self,
        base_url: str = "https://api.openai.com/v1",
        api_key: str | None = None,
        default_model: str = "gpt-5.6-terra",
        timeout: float | None = 120.0,
        *,
        organization: str | None = None,
        store: bool = False,
        key_header: str | None = None,
        encrypted_reasoning: bool = True,
        extensions: Mapping[str, Any] | None = None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(base_url, api_key, default_model, timeout, **service)
        self._endpoint = self.endpoint("/responses")
        self._organization = organization
        self._store = store
        self._key_header = key_header
        self._encrypted = encrypted_reasoning
        self._extensions = check_extensions(extensions or {}, _RESERVED)
        self._served = _served(self._extensions)
        self._tools = tool_fragments(_tool)
        self._forms: dict[str, Form] = {}

    async def count_tokens(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> int:
        """How many input tokens a request would cost. Raises ProviderError as ``chat`` does."""
        asked = _Asked(repaired(messages), tools, model or self.default_model, settings, False)
        fragments = await fragments_of(asked.messages, self._form(asked.model))
        body = self._body(asked, self._form(asked.model)) | {"input": Raw(b"[" + joined(fragments) + b"]")}
        counted = encode({name: body[name] for name in _COUNTED if name in body})
        return await self.exchange(self.endpoint("/responses/input_tokens"), counted, self._read_count)

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
        return await self._write(_Asked(messages, tools, model, settings, stream), self._form(model), True)

    async def _write(self, asked: _Asked, form: Form, resume: bool) -> Outgoing:
        """The request in this form; ``resume`` allows it to go on from what the service stored."""
        fragments = await fragments_of(asked.messages, form)
        body = self._body(asked, form)
        stored = body["store"] is True
        before = stored_before(asked.messages, fragments) if stored and resume else None
        if before is not None:
            body["previous_response_id"] = before.id
        body["input"] = Raw(b"[" + joined(fragments[before.length if before else 0 :]) + b"]")

        def decoder() -> ResponsesReply:
            if not stored:
                return ResponsesReply(self._failures, asked.model, asked.messages)
            signed = mark_reply(fragments, form)
            return ResponsesReply(self._failures, asked.model, asked.messages, signed)

        async def instead(error: InvalidRequestError) -> Outgoing | None:
            if before is not None and _GONE.search(str(error)):
                return await self._write(asked, form, False)
            plainer = self._plainer(form, error, asked.model)
            return None if plainer is None else await self._write(asked, plainer, False)

        return Outgoing(self._endpoint, encode(body), decoder, instead)

    def _form(self, model: str) -> Form:
        return self._forms.get(model, Form.FULL)

    def _plainer(self, form: Form, error: InvalidRequestError, model: str) -> Form | None:
        """The form the service may take after it refused ``form``, remembered where it holds for all requests."""
        told = f"{error} {error.provider_code}"
        if form is Form.PLAIN:
            return None
        if _NO_REASONING.search(told):
            self._forms[model] = Form.PLAIN
            return Form.PLAIN
        if _NOT_OURS.search(told):
            return Form.PLAIN
        if _NO_NAMES.search(told) and form is Form.FULL:
            self._forms[model] = Form.NAMELESS
            return Form.NAMELESS
        return Form(form + 1) if _UNKNOWN_NAME.search(told) or _NO_NAMES.search(told) else None

    # --- the body ---------------------------------------------------------------------------------

    def _body(self, asked: _Asked, form: Form) -> dict[str, Any]:
        """Everything but the input."""
        body: dict[str, Any] = {"model": asked.model, "stream": asked.stream, "store": self._store}
        if form is not Form.PLAIN and self._encrypted:
            # Also when the service stores its replies: what it has forgotten can then be sent again.
            body["include"] = [_ENCRYPTED]
        _extend(body, self._extensions)
        served = self._served
        if asked.settings is not None:
            extensions = check_extensions(asked.settings.extensions, _RESERVED)
            served = [*served, *_served(extensions)]
            _apply(asked.settings, extensions, body)
        if asked.tools or served:
            body["tools"] = Raw(joined_arrays(encode(served), self._tools(asked.tools or ())))
        return body

    def _read_count(self, body: bytes) -> int:
        try:
            return _decode_count(body).input_tokens
        except (ValueError, RecursionError):
            pass
        raise self._failures.malformed("sent something that is not a count of tokens", body)


class _Asked(NamedTuple):
    messages: Sequence[ChatMessage]
    tools: Sequence[ToolSpec] | None
    model: str
    settings: ModelSettings | None
    stream: bool


class _Count(msgspec.Struct):
    input_tokens: int


_decode_count = msgspec.json.Decoder(_Count).decode


def _served(extensions: dict[str, Any]) -> list[dict[str, Any]]:
    """Take the tools that the service runs out of ``extensions``. Raises ConfigError for any that it does not."""
    tools = service_tools(extensions)
    for tool in tools:
        if (kind := tool.get("type")) in _RUN_HERE:
            raise ConfigError(
                f"the service does not run tools of type {kind!r} itself, so they cannot be extensions; "
                "pass a tool of your own with tools=[...]"
            )
    return tools


def _apply(settings: ModelSettings, extensions: dict[str, Any], body: dict[str, Any]) -> None:
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.max_output_tokens is not None:
        body["max_output_tokens"] = settings.max_output_tokens
    wanted = settings.output_schema
    if wanted is not None and describes_object(wanted):
        schema, strict = strict_schema(wanted)
        form = {"type": "json_schema", "name": wire_name(settings.output_name)}
        _extend(body, {"text": {"format": {**form, "schema": schema, "strict": strict}}})
    elif wanted is not None:
        # Holds for this request alone, so it is no item that a stored conversation would keep.
        told = (body.get("instructions"), shape_instruction(wanted))
        body["instructions"] = "\n\n".join(text for text in told if text)
    _extend(body, extensions)


def _extend(body: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Add ``fields``; the two that the request and the user both have something to say in are merged."""
    for name, value in fields.items():
        if name == "text":
            body["text"] = {**as_dict(body.get("text")), **as_dict(value)}
        elif name == "include":
            body["include"] = list(dict.fromkeys([*as_list(body.get("include")), *as_list(value)]))
        else:
            body[name] = value


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = parameters(tool)
    # Said outright: without it this API, unlike the chat one, takes every schema for a strict one.
    strict = fits_strict(schema)
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": schema,
        "strict": strict,
    }
