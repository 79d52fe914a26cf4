"""Recorded chat completion requests as what we would have said, and recorded replies as what they say.

Written apart from the adapter, from the services' documentation: here JSON is walked word by word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from heard import Heard, Json
from recordings import Exchange

from loom.llm.base import ModelSettings
from loom.types import (
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
    Usage,
)

STOPS = {
    "stop": "stop",
    "tool_calls": "tool_use",
    "length": "length",
    "content_filter": "content_filter",
    "model_length": "context_full",
    "": "unknown",
}
_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "tool": Role.TOOL}
_THOUGHTS = ("reasoning_content", "reasoning")


# --- requests -----------------------------------------------------------------------------------------


@dataclass
class Said:
    """A request in our own words; ``options`` are the adapter's."""

    messages: list[ChatMessage] = field(default_factory=list[ChatMessage])
    tools: list[ToolSpec] = field(default_factory=list[ToolSpec])
    settings: ModelSettings = field(default_factory=ModelSettings)
    options: Json = field(default_factory=dict[str, Any])


class Replies:
    """Our own readings of the replies so far: what they hold is what the next request has to give back."""

    def __init__(self) -> None:
        self._known: dict[str, ChatMessage] = {}

    def add(self, reply: Heard, message: ChatMessage) -> None:
        """Remember the message that we made of ``reply``."""
        self._known[_key(reply.text, reply.calls)] = message

    def message(self, body: Json) -> ChatMessage:
        """The message for ``body``: our own where it is a reply we have read, else read word by word."""
        return self._known.get(_key(_text(body.get("content")), _calls(body))) or _assistant(body)


def _key(text: str, calls: list[tuple[str, Any]]) -> str:
    return json.dumps([text, calls])


def said(body: Json, replies: Replies) -> Said:
    """A recorded request in our words."""
    request = Said()
    ids: dict[str, str] = {}
    for message in body["messages"]:
        if message["role"] == "assistant":
            told = replies.message(message)
            calls = zip(message.get("tool_calls") or (), told.tool_calls or (), strict=True)
            ids |= {theirs["id"]: ours.id for theirs, ours in calls}
            request.messages.append(told)
        else:
            request.messages.append(_message(message, ids))
    rest = {key: value for key, value in body.items() if key not in ("messages", "model", "stream")}
    streaming = rest.pop("stream_options", None)
    request.options["include_usage"] = streaming is not None
    served: list[Json] = []
    for tool in rest.pop("tools", []):
        if tool["type"] != "function":
            served.append(tool)
            continue
        function = tool["function"]
        request.tools.append(ToolSpec(function["name"], function["description"], function["parameters"]))
    if served:
        rest["tools"] = served
    shape: Json = {}
    if "response_format" in rest:
        request.options["structured"] = "native"
        shape = rest.pop("response_format")["json_schema"]
    limit = next((key for key in ("max_tokens", "max_completion_tokens") if key in rest), "max_tokens")
    request.options["max_tokens_field"] = limit
    request.options["extensions"] = rest
    request.settings = ModelSettings(
        rest.pop("temperature", None), rest.pop(limit, None), shape.get("schema"), shape.get("name", "output")
    )
    return request


def _message(body: Json, ids: dict[str, str]) -> ChatMessage:
    content = body["content"]
    told = content if isinstance(content, str) else tuple(map(_part, content))
    call = ids.get(body.get("tool_call_id", ""))
    return ChatMessage(_ROLES[body["role"]], told, tool_call_id=call, name=body.get("name"))


def _part(part: Json) -> Part:
    kind = part["type"]
    if kind == "text":
        return TextPart(part["text"])
    if kind == "image_url":
        return ImagePart(part["image_url"]["url"])
    if kind == "input_audio":
        sound = part["input_audio"]
        return AudioPart(f"data:audio/{sound['format']};base64,{sound['data']}")
    return FilePart(part["file"]["file_data"])


def _assistant(body: Json) -> ChatMessage:
    parts: list[Part] = []
    if thought := next((body[name] for name in _THOUGHTS if body.get(name)), None):
        parts.append(ThinkingPart(thought, origin="openai_chat"))
    if text := _text(body.get("content")):
        parts.append(TextPart(text))
    if details := body.get("reasoning_details"):
        parts.append(OpaquePart("openai_chat", json.dumps({"reasoning_details": details})))
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in body.get("tool_calls") or ()
    )
    return ChatMessage(Role.ASSISTANT, tuple(parts), tool_calls=calls or None)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if part["type"] == "text")


def _calls(body: Json) -> list[tuple[str, Any]]:
    return [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in body.get("tool_calls") or ()
    ]


def meaning(body: Json) -> Json:
    """A request without what makes no difference: spellings, defaults, and what is named below.

    * ``strict`` of a tool and of a shape: ours follows from the schema, which is compared;
    * ids of calls: a service that gives none gets those its client made up, so results are told by order;
    * ``reasoning_content`` beside the same ``reasoning``: one of the two is enough.
    """
    meant = {key: value for key, value in body.items() if value not in (None, [])}
    ids: dict[str, int] = {}
    meant["messages"] = [_meant_message(message, ids) for message in body["messages"]]
    meant["stream"] = bool(meant.get("stream"))
    if "tools" in meant:
        tools = [_meant_tool(tool) for tool in meant["tools"]]
        meant["tools"] = sorted(tools, key=lambda tool: str(tool.get("function", {}).get("name")))
    if shape := meant.get("response_format", {}).get("json_schema"):
        meant["response_format"] = {"name": shape["name"], "schema": _open(shape["schema"])}
    return meant


def _meant_message(body: Json, ids: dict[str, int]) -> Json:
    meant = {key: value for key, value in body.items() if value not in (None, [], False)}
    if meant["role"] == "developer":
        meant["role"] = "system"
    content = meant.pop("content", "")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    meant["content"] = [part for part in parts if part != {"type": "text", "text": ""}]
    if "tool_calls" in meant:
        meant["tool_calls"] = [
            {
                **call,
                "id": ids.setdefault(call["id"], len(ids)),
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.loads(call["function"]["arguments"]),
                },
            }
            for call in meant["tool_calls"]
        ]
    if "tool_call_id" in meant:
        meant["tool_call_id"] = ids.get(meant["tool_call_id"], meant["tool_call_id"])
    if meant.get("reasoning") == meant.get("reasoning_content"):
        meant.pop("reasoning_content", None)
    return meant


def _meant_tool(tool: Json) -> Json:
    function = {key: value for key, value in tool.get("function", {}).items() if key != "strict"}
    return {**tool, "function": function} if function else tool


def _open(schema: Any) -> Any:
    """A schema without the words that strict ones must have."""
    if isinstance(schema, list):
        return [_open(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _open(value) for key, value in schema.items() if (key, value) != ("additionalProperties", False)
    }


# --- replies ------------------------------------------------------------------------------------------


def heard(exchange: Exchange) -> Heard:
    """What a recorded reply says."""
    return _streamed(exchange.body) if exchange.streamed else _whole(json.loads(exchange.body))


def chunks(body: bytes) -> list[Json]:
    """The data of the events of a stream."""
    lines = [line[5:].strip() for line in body.decode().splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def _whole(body: Json) -> Heard:
    (choice,) = body["choices"]
    message = choice.get("message", {})
    reply = Heard(calls=_calls(message), usage=paid(body["usage"]), model=body["model"])
    _say(message, reply)
    reply.stop = "refusal" if message.get("refusal") else STOPS[choice["finish_reason"]]
    return reply


def _streamed(body: bytes) -> Heard:
    reply = Heard()
    calls: dict[int, tuple[str, str]] = {}
    refused, finish = False, ""
    for chunk in chunks(body):
        reply.model = chunk.get("model", reply.model)
        if usage := chunk.get("usage") or chunk.get("x_groq", {}).get("usage"):
            reply.usage = paid(usage)
        for choice in chunk["choices"]:
            delta = choice.get("delta", {})
            _say(delta, reply)
            refused = refused or bool(delta.get("refusal"))
            finish = choice.get("finish_reason") or finish
            for piece in delta.get("tool_calls") or ():
                name, arguments = calls.get(piece["index"], ("", ""))
                function = piece["function"]
                name += function.get("name") or ""
                calls[piece["index"]] = (name, arguments + (function.get("arguments") or ""))
    whole = [call for call in calls.values() if finish != "length" or call[1].endswith("}")]
    reply.calls = [(name, json.loads(arguments)) for name, arguments in whole]
    reply.stop = "refusal" if refused else STOPS[finish]
    return reply


def _say(message: Json, reply: Heard) -> None:
    reply.thoughts += next((message[name] for name in _THOUGHTS if message.get(name)), "")
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            reply.text += part.get("text", "")
            reply.thoughts += "".join(inner["text"] for inner in part.get("thinking", []))
    else:
        reply.text += content or ""
    reply.text += message.get("refusal") or ""
    reply.text += (message.get("audio") or {}).get("transcript") or ""


def paid(usage: Json) -> Usage:
    """What a reply cost. What only the total holds is thinking: no recording here has sound."""
    sent, written = usage["prompt_tokens"], usage["completion_tokens"]
    details = usage.get("prompt_tokens_details") or {}
    read = details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0
    return Usage(sent, max(written, usage["total_tokens"] - sent), read)
