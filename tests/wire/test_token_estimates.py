"""Estimates of tokens held against what real services reported for the same requests and replies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from recordings import Exchange, Recording, recordings

from loom.llm.tokens import TokenEstimator, estimate_text
from loom.types import ChatMessage, Role, ToolCall, ToolSpec, Usage

CHAT = ("openai_chat", "groq", "mistral", "openrouter", "ollama", "zai", "deepseek")
SERVICES = (*CHAT, "anthropic", "gemini")


@dataclass(frozen=True)
class Counted:
    """A request of plain text, with what its service counted."""

    service: str
    case: str
    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...]
    reported: int


def text_of(content: Any) -> str | None:
    """The text of a wire's content; None when there is more in it than text."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part if isinstance(part, dict) else {} for part in content]
    if any(part.get("type", "text") != "text" or "text" not in part for part in parts):
        return None
    return "".join(part["text"] for part in parts)


def chat_request(body: dict[str, Any]) -> tuple[list[ChatMessage], list[ToolSpec]] | None:
    messages: list[ChatMessage] = []
    for message in body.get("messages", ()):
        text = text_of(message.get("content"))
        if text is None:
            return None
        calls = [
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        ]
        role = "system" if message["role"] == "developer" else message["role"]
        messages.append(ChatMessage(Role(role), text, tool_calls=calls or None))
    tools = [tool.get("function") for tool in body.get("tools") or ()]
    if None in tools:
        return None
    return messages, [ToolSpec(t["name"], t.get("description", ""), t.get("parameters", {})) for t in tools]


def anthropic_request(body: dict[str, Any]) -> tuple[list[ChatMessage], list[ToolSpec]] | None:
    messages = [ChatMessage(Role.SYSTEM, text_of(body["system"]))] if body.get("system") else []
    for message in body.get("messages", ()):
        blocks = message["content"]
        blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
        text, calls = "", []
        for block in blocks:
            if block["type"] == "text":
                text += block["text"]
            elif block["type"] == "tool_use":
                calls.append(ToolCall(block["id"], block["name"], json.dumps(block["input"])))
            elif block["type"] == "tool_result" and text_of(block.get("content")) is not None:
                text += text_of(block.get("content")) or ""
            else:
                return None
        messages.append(ChatMessage(Role(message["role"]), text, tool_calls=calls or None))
    tools = body.get("tools") or ()
    if any("input_schema" not in tool for tool in tools):
        return None
    return messages, [ToolSpec(t["name"], t.get("description", ""), t["input_schema"]) for t in tools]


def gemini_request(body: dict[str, Any]) -> tuple[list[ChatMessage], list[ToolSpec]] | None:
    contents = [*body.get("contents", ())]
    if told := body.get("systemInstruction"):
        contents.insert(0, {**told, "role": "system"})
    messages: list[ChatMessage] = []
    for content in contents:
        parts = content.get("parts") or ()
        if any(not part.keys() & {"text", "functionCall", "functionResponse"} for part in parts):
            return None
        text = "".join(part.get("text", "") for part in parts)
        text += "".join(json.dumps(part["functionResponse"]) for part in parts if "functionResponse" in part)
        calls = [
            ToolCall("1", part["functionCall"]["name"], json.dumps(part["functionCall"].get("args", {})))
            for part in parts
            if "functionCall" in part
        ]
        role = {"model": "assistant"}.get(content.get("role", "user"), content.get("role", "user"))
        messages.append(ChatMessage(Role(role), text, tool_calls=calls or None))
    declared = [f for tool in body.get("tools") or () for f in tool.get("functionDeclarations") or ()]
    if len(body.get("tools") or ()) and not declared:
        return None
    return messages, [
        ToolSpec(
            f["name"], f.get("description", ""), f.get("parametersJsonSchema") or f.get("parameters") or {}
        )
        for f in declared
    ]


def replies(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """The JSON documents of a reply, whole or streamed."""
    if not exchange.streamed:
        yield json.loads(exchange.body)
        return
    for line in exchange.body.decode().splitlines():
        if line.startswith("data:") and line[5:].strip() not in ("", "[DONE]"):
            yield json.loads(line[5:])


def input_tokens(exchange: Exchange) -> int:
    """What the service counted as input, cache included."""
    most = 0
    for reply in replies(exchange):
        usage = (
            reply.get("usage")
            or reply.get("usageMetadata")
            or (reply.get("message") or {}).get("usage")
            or {}
        )
        cached = (usage.get("cache_read_input_tokens") or 0) + (usage.get("cache_creation_input_tokens") or 0)
        counted = usage.get("prompt_tokens") or usage.get("promptTokenCount")
        most = max(most, counted or (usage.get("input_tokens") or 0) + cached)
    return most


READ = {"anthropic": anthropic_request}


def counted(recording: Recording) -> list[Counted]:
    """The requests of a recording that are plain text, with what was counted."""
    found: list[Counted] = []
    for exchange in recording.exchanges:
        body = exchange.request
        if exchange.status != 200 or not isinstance(body, dict) or "response_format" in body:
            continue
        if not isinstance(body.get("contents", body.get("messages")), list):
            continue
        if not isinstance(body.get("tools") or [], list):
            continue
        if body.keys() & {"cachedContent", "output_config", "output_format", "reasoning", "thinking"}:
            continue  # there is more in the request than a conversation
        if body.get("generationConfig", {}).keys() & {"responseJsonSchema", "responseSchema"}:
            continue
        read = gemini_request(body) if "contents" in body else READ.get(recording.service, chat_request)(body)
        reported = input_tokens(exchange)
        if read is None or not reported or not read[0]:
            continue
        model = body.get("model") or exchange.path.rpartition("/")[2].partition(":")[0]
        found.append(Counted(recording.service, recording.case, model, *map(tuple, read), reported))
    return found


def reply_text(exchange: Exchange) -> tuple[str, int]:
    """The text of a whole reply that is nothing but text, with the tokens it was counted as; else nothing."""
    if exchange.streamed or exchange.status != 200:
        return "", 0
    reply = json.loads(exchange.body)
    usage = reply.get("usage") or reply.get("usageMetadata") or {}
    if choices := reply.get("choices"):
        message = choices[0].get("message") or {}
        thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
        if (
            message.get("tool_calls")
            or message.get("reasoning_content")
            or message.get("reasoning")
            or thought
        ):
            return "", 0
        return text_of(message.get("content")) or "", usage.get("completion_tokens") or 0
    if isinstance(reply.get("content"), list):
        return text_of(reply["content"]) or "", usage.get("output_tokens") or 0
    parts = ((reply.get("candidates") or [{}])[0].get("content") or {}).get("parts") or []
    return text_of(parts) or "", usage.get("candidatesTokenCount") or 0


@pytest.mark.parametrize("recording", recordings("openai_chat", "mistral", "anthropic", "gemini"))
def test_texts_of_replies_are_estimated_within_a_third(recording: Recording) -> None:
    for exchange in recording.exchanges:
        text, reported = reply_text(exchange)
        if text and reported >= 50:  # below, what a reply begins and ends with is a part of its count
            assert 0.67 <= estimate_text(text) / reported <= 1.34


@pytest.mark.parametrize("recording", recordings("anthropic", "openai_chat", "mistral"))
def test_conversations_without_tools_are_estimated_within_a_third(recording: Recording) -> None:
    estimator = TokenEstimator()
    for one in counted(recording):
        if one.reported >= 100 and not one.tools:
            assert 0.67 <= estimator.count(one.messages).tokens / one.reported <= 1.34


@pytest.mark.parametrize("recording", recordings(*SERVICES))
def test_what_was_reported_for_a_step_brings_the_estimate_of_the_next_one_closer(
    recording: Recording,
) -> None:
    """Also where most of a short request is a prompt of the service's own that nobody else can see."""
    estimator = fresh = TokenEstimator()
    for one in counted(recording):
        learned, naive = (
            abs(each.count(one.messages, tools=one.tools, model=one.model).tokens - one.reported)
            for each in (estimator, fresh)
        )
        assert learned <= naive + 0.15 * one.reported
        estimator = estimator.observed(one.messages, Usage(one.reported), tools=one.tools, model=one.model)
