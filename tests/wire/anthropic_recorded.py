"""Recorded Messages requests as what we would have said, and recorded replies as what they say.

Written apart from the adapter, from the service's documentation: here JSON is walked word by word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from heard import Heard, Json
from recordings import Exchange

from loom.llm.base import ModelSettings
from loom.types import (
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
    Usage,
)

STOPS = {
    "end_turn": "stop",
    "tool_use": "tool_use",
    "max_tokens": "length",
    "model_context_window_exceeded": "context_full",
    "refusal": "refusal",
    "pause_turn": "paused",
}
_PLAIN_TOOL = {"name", "description", "input_schema", "cache_control"}


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

    def add(self, blocks: list[Json], message: ChatMessage) -> None:
        """Remember the message that we made of ``blocks``."""
        self._known[_key(blocks)] = message

    def message(self, blocks: list[Json]) -> ChatMessage:
        """The message for ``blocks``: our own where they are a reply we have read, else read word by word."""
        return self._known.get(_key(blocks)) or _assistant(blocks)


def _key(blocks: list[Json]) -> str:
    return json.dumps(goes_back(blocks), sort_keys=True)


def said(body: Json, replies: Replies) -> Said:
    """A recorded request in our words."""
    request = Said()
    system = body.get("system") or ""
    text = system if isinstance(system, str) else "\n\n".join(block["text"] for block in system)
    if text:
        request.messages.append(ChatMessage(Role.SYSTEM, text))
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "assistant":
            request.messages.append(replies.message(blocks))
        else:
            request.messages += _user(blocks)
    ours = ("system", "messages", "model", "stream", "container")
    rest = {key: value for key, value in body.items() if key not in ours}
    served: list[Json] = []
    for tool in rest.pop("tools", []):
        if tool.keys() <= _PLAIN_TOOL:
            request.tools.append(ToolSpec(tool["name"], tool.get("description", ""), tool["input_schema"]))
        else:
            served.append(tool)
    if served:
        rest["tools"] = served
    shaping = dict(rest.pop("output_config", {}))
    form = shaping.pop("format", None)
    schema = form["schema"] if form else None
    if schema:
        request.options["structured"] = "native"
    if shaping:
        rest["output_config"] = shaping
    request.settings = ModelSettings(rest.pop("temperature", None), rest.pop("max_tokens", None), schema)
    marks = json.dumps(body.get("system", "")) + json.dumps(body["messages"])
    if "cache_control" in marks:
        request.options |= {"prompt_caching": True, "cache_ttl": "1h" if '"1h"' in marks else "5m"}
    request.options["extensions"] = rest
    return request


def _user(blocks: list[Json]) -> list[ChatMessage]:
    found: list[ChatMessage] = []
    parts: list[Part] = []
    for block in blocks:
        if block["type"] != "tool_result":
            parts.append(_part(block))
            continue
        content = block.get("content", "")
        inner = content if isinstance(content, str) else tuple(map(_part, content))
        found.append(
            ChatMessage(
                Role.TOOL, inner, tool_call_id=block["tool_use_id"], is_error=block.get("is_error", False)
            )
        )
    return [*found, *([ChatMessage(Role.USER, tuple(parts))] if parts else [])]


def _assistant(blocks: list[Json]) -> ChatMessage:
    parts: list[Part] = []
    calls: list[ToolCall] = []
    for block in blocks:
        if block["type"] == "tool_use":
            parts.append(CallPart(len(calls)))
            calls.append(ToolCall(block["id"], block["name"], json.dumps(block["input"])))
        else:
            parts.append(_part(block))
    return ChatMessage(Role.ASSISTANT, tuple(parts), tool_calls=tuple(calls) or None)


def _part(block: Json) -> Part:
    kind = block["type"]
    if kind == "text" and not block.get("citations"):
        return TextPart(block["text"])
    if kind == "thinking":
        return ThinkingPart(block["thinking"], block["signature"], None, "anthropic")
    if kind == "redacted_thinking":
        return ThinkingPart("", None, block["data"], "anthropic")
    if kind in ("image", "document"):
        source = block["source"]
        address = source.get("url") or f"data:{source['media_type']};base64,{source['data']}"
        return (ImagePart if kind == "image" else FilePart)(address)
    return OpaquePart("anthropic", json.dumps(block))


def meaning(body: Json) -> Json:
    """A request without what makes no difference: spellings, defaults, marks that only we set."""
    meant = dict(body)
    system = meant.pop("system", None) or []
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
    meant["system"] = [block for block in map(_meant_block, blocks) if block["text"].strip()]
    meant["messages"] = [
        {"role": message["role"], "content": _meant_blocks(message["content"])}
        for message in body["messages"]
    ]
    # We also mark the turn before the last, and tools; what matters is that the end is marked as recorded.
    for message in meant["messages"][:-1]:
        for block in message["content"]:
            block.pop("cache_control", None)
    tools = [{"description": "", **tool} for tool in meant.pop("tools", [])]
    for tool in tools:
        tool.pop("cache_control", None)
    meant["tools"] = sorted(tools, key=lambda tool: str(tool["name"]))
    meant["stream"] = bool(meant.get("stream"))
    return meant


def _meant_blocks(content: Any) -> list[Json]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [_meant_block(block) for block in blocks]


def _meant_block(block: Json) -> Json:
    meant = {key: value for key, value in block.items() if value is not None}
    if mark := meant.get("cache_control"):
        meant["cache_control"] = {key: value for key, value in mark.items() if (key, value) != ("ttl", "5m")}
    if meant["type"] == "tool_result":
        meant["content"] = _meant_blocks(meant.get("content", []))
        meant["is_error"] = bool(meant.get("is_error"))
    if meant.get("caller") == {"type": "direct"}:
        del meant["caller"]
    if meant.get("citations") == []:
        del meant["citations"]
    return meant


def goes_back(blocks: list[Json]) -> list[Json]:
    """The blocks of a reply as they have to be sent back: as they were, without blank text.

    Plain texts that follow each other are one text.
    """
    kept: list[Json] = []
    for block in map(_meant_block, blocks):
        plain = block.keys() == {"type", "text"}
        if plain and kept and kept[-1].keys() == block.keys():
            kept[-1] = {**block, "text": kept[-1]["text"] + block["text"]}
        elif block["type"] != "text" or str(block.get("text", "")).strip():
            kept.append(block)
    return kept


# --- replies ------------------------------------------------------------------------------------------


def heard(exchange: Exchange) -> tuple[Heard, list[Json]]:
    """What a recorded reply says, and its blocks."""
    message = _assembled(exchange.body) if exchange.streamed else json.loads(exchange.body)
    blocks: list[Json] = message["content"]
    reply = Heard(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        thoughts="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        calls=[(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
        usage=paid(message["usage"]),
        stop=STOPS[message["stop_reason"]],
        model=message["model"],
    )
    return reply, blocks


def paid(counted: Json) -> Usage:
    """What a reply cost, with compactions before it, which stand beside the total."""
    read = counted.get("cache_read_input_tokens") or 0
    written = counted.get("cache_creation_input_tokens") or 0
    usage = Usage(counted["input_tokens"] + read + written, counted["output_tokens"], read, written)
    steps = counted.get("iterations") or []
    return sum((paid(step) for step in steps if step["type"] == "compaction"), usage)


def events(body: bytes) -> list[Json]:
    """The data of the events of a stream."""
    lines = body.decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:")]


def _assembled(body: bytes) -> Json:
    message: Json = {}
    inputs: dict[int, str] = {}
    for event in events(body):
        kind = event["type"]
        if kind == "message_start":
            message = event["message"]
        elif kind == "content_block_start":
            message["content"].append(event["content_block"])
        elif kind == "content_block_delta":
            block, delta = message["content"][event["index"]], event["delta"]
            if delta["type"] == "input_json_delta":
                inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
            elif delta["type"] == "citations_delta":
                block["citations"] = [*(block.get("citations") or []), delta["citation"]]
            elif delta["type"] == "compaction_delta":
                block |= delta | {"type": "compaction"}
            else:
                name = delta["type"].removesuffix("_delta")
                block[name] = block[name] + delta[name]
        elif kind == "message_delta":
            message |= {key: value for key, value in event["delta"].items() if value is not None}
            message["usage"] |= {key: value for key, value in event["usage"].items() if value is not None}
    for index, text in inputs.items():
        if text:
            message["content"][index]["input"] = json.loads(text)
    return message
