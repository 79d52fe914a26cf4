"""Recorded Gemini requests as what we would have said, and recorded replies as what they say.

Written apart from the adapter, from the service's documentation, so that a mistake of one is not repeated in
the other: here JSON is walked word by word, there it is decoded into structs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from recordings import Exchange, Recording, read, recordings

from loom.llm.base import ModelSettings
from loom.types import (
    AudioPart,
    CallPart,
    ChatMessage,
    FilePart,
    ImagePart,
    Part,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolSpec,
    VideoPart,
)

Json = dict[str, Any]
FIXTURES = Path(__file__).parent / "fixtures" / "gemini"
_METHOD = re.compile(r"/(models/[^/:?]+):(generateContent|streamGenerateContent)")


def cases() -> list[Any]:
    """Our own fixtures, and the recordings where there are any."""
    own = [pytest.param(found, id=str(found)) for found in map(read, sorted(FIXTURES.glob("*.json")))]
    return own + recordings("gemini")


def asked(recording: Recording) -> list[Exchange]:
    """The exchanges that ask a model; recordings hold tokens and caches that were fetched before, too."""
    return [exchange for exchange in recording.exchanges if _METHOD.search(exchange.path)]


def model_of(exchange: Exchange) -> tuple[str, bool]:
    """The model that was asked, and whether for a stream."""
    found = _METHOD.search(exchange.path)
    assert found is not None
    return found[1], found[2].startswith("stream")


# --- requests -----------------------------------------------------------------------------------------


@dataclass
class Said:
    """A request in our own words."""

    messages: list[ChatMessage] = field(default_factory=list[ChatMessage])
    tools: list[ToolSpec] = field(default_factory=list[ToolSpec])
    settings: ModelSettings = field(default_factory=ModelSettings)


def said(body: Json, replies: Sequence[ChatMessage] = ()) -> Said:
    """A recorded request in our words; what the model said in it is ``replies``, as far as they go."""
    request = Said()
    system = "\n\n".join(part["text"] for part in body.get("systemInstruction", {}).get("parts", []))
    if system:
        request.messages.append(ChatMessage(Role.SYSTEM, system))
    left, names = list(replies), {}
    for content in body["contents"]:
        parts = [_camel(part) for part in content["parts"]]
        if content.get("role") != "model":
            request.messages += _user(parts, names)
            continue
        reply = left.pop(0) if left else _model(parts)
        request.messages.append(reply)
        told = [part["functionCall"] for part in parts if "functionCall" in part]
        for call, ours in zip(told, reply.tool_calls or (), strict=True):
            names[call.get("id") or call["name"]] = ours.id
    for tool in body.get("tools", []):
        request.tools += [_tool(_camel(declared)) for declared in tool.get("functionDeclarations", [])]
    request.settings = _settings(body)
    return request


def _user(parts: list[Json], names: dict[str, str]) -> Iterator[ChatMessage]:
    told: list[Part] = []
    for part in parts:
        if "functionResponse" in part:
            function = part["functionResponse"]
            ((word, value),) = function["response"].items()
            ours = names[function.get("id") or function["name"]]
            yield ChatMessage(
                Role.TOOL, value, tool_call_id=ours, name=function["name"], is_error=word == "error"
            )
        else:
            told.append(_part(part))
    if told:
        only = told[0]
        yield ChatMessage(
            Role.USER, only.text if len(told) == 1 and isinstance(only, TextPart) else tuple(told)
        )


def _model(parts: list[Json]) -> ChatMessage:
    told: list[Part] = []
    calls: list[ToolCall] = []
    for part in parts:
        signature = part.get("thoughtSignature")
        if "functionCall" in part:
            call = part["functionCall"]
            told.append(CallPart(len(calls)))
            calls.append(ToolCall(call.get("id", ""), call["name"], json.dumps(call["args"]), signature))
        elif part.get("thought"):
            told.append(ThinkingPart(part["text"], signature, origin="gemini"))
        else:
            told.append(_part(part))
            if signature:
                told.append(ThinkingPart("", signature, origin="gemini"))
    return ChatMessage(Role.ASSISTANT, tuple(told), tool_calls=calls or None)


def _part(part: Json) -> Part:
    if "text" in part:
        return TextPart(part["text"])
    ((word, held),) = part.items()
    held = _camel(held)
    kind = held.get("mimeType", "")
    source = held["fileUri"] if word == "fileData" else f"data:{kind};base64,{_standard(held['data'])}"
    made = {"image": ImagePart, "audio": AudioPart, "video": VideoPart}.get(kind.partition("/")[0], FilePart)
    return made(source, kind)


def _tool(declared: Json) -> ToolSpec:
    schema = declared.get("parametersJsonSchema") or _json_schema(declared["parameters"])
    return ToolSpec(declared["name"], declared["description"], schema)


def _settings(body: Json) -> ModelSettings:
    config = dict(body.get("generationConfig", {}))
    config.pop("responseMimeType", None)
    more = {name: body[name] for name in body.keys() - {"contents", "systemInstruction", "tools"}}
    if served := [tool for tool in body.get("tools", []) if "functionDeclarations" not in tool]:
        more["tools"] = served
    return ModelSettings(
        temperature=config.pop("temperature", None),
        max_output_tokens=config.pop("maxOutputTokens", None),
        output_schema=config.pop("responseJsonSchema", None),
        extensions={**more, "generationConfig": config},
    )


def _json_schema(schema: Any) -> Any:
    """The dialect of OpenAPI, with its types in capitals, as JSON Schema."""
    if isinstance(schema, list):
        return [_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.lower() if name == "type" and isinstance(value, str) else _json_schema(value)
        for name, value in schema.items()
    }


def _camel(words: Json) -> Json:
    """The same object with the names of its fields in the form of the wire; clients may write both."""
    return {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): held for name, held in words.items()}


def meaning(body: Json) -> Json:
    """What a request means, without what may differ: spelling of names, order, ids, words of results."""
    ids: dict[str, str] = {}
    contents = [
        {"role": content.get("role", "user"), "parts": [_meant(part, ids) for part in content["parts"]]}
        for content in body["contents"]
    ]
    meant = {name: value for name, value in body.items() if name != "tools" and value != {}}
    meant["contents"] = contents
    if "systemInstruction" in body:
        meant["systemInstruction"] = body["systemInstruction"]["parts"]
    declared = [
        _camel(item) for tool in body.get("tools", []) for item in tool.get("functionDeclarations", [])
    ]
    meant["functions"] = {
        item["name"]: (
            item["description"],
            item.get("parametersJsonSchema") or _json_schema(item["parameters"]),
        )
        for item in declared
    }
    meant["served"] = [tool for tool in body.get("tools", []) if "functionDeclarations" not in tool]
    return meant


def _meant(part: Json, ids: dict[str, str]) -> Json:
    part = {name: _camel(held) if isinstance(held, dict) else held for name, held in _camel(part).items()}
    for word in ("functionCall", "functionResponse"):
        if word in part:
            name = part[word].get("id") or part[word]["name"]
            part[word]["id"] = ids.setdefault(name, f"call {len(ids)}")
    if "functionResponse" in part:
        (part["functionResponse"]["response"],) = part["functionResponse"]["response"].values()
    if "thoughtSignature" in part:
        part["thoughtSignature"] = _standard(part["thoughtSignature"])
    if "inlineData" in part:
        part["inlineData"]["data"] = _standard(part["inlineData"]["data"])
    return part


def _standard(encoded: str) -> str:
    """The same base64 in its standard alphabet; clients may write the one for addresses."""
    return encoded.replace("-", "+").replace("_", "/")


# --- replies ------------------------------------------------------------------------------------------


@dataclass
class Heard:
    """What a reply says."""

    text: str = ""
    thoughts: str = ""
    calls: list[tuple[str, Any, str | None]] = field(default_factory=list[tuple[str, Any, "str | None"]])
    signatures: list[str] = field(default_factory=list[str])
    media: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    finish: str | None = None
    blocked: str | None = None
    usage: Json = field(default_factory=dict[str, Any])
    model: str = ""


def heard(exchange: Exchange) -> Heard:
    """A recorded reply, whole or streamed, read without the adapter."""
    reply = Heard()
    for chunk in _chunks(exchange.body):
        reply.usage = chunk.get("usageMetadata", reply.usage)
        reply.model = chunk.get("modelVersion", reply.model)
        reply.blocked = chunk.get("promptFeedback", {}).get("blockReason", reply.blocked)
        for candidate in chunk.get("candidates", [])[:1]:
            reply.finish = candidate.get("finishReason", reply.finish)
            for part in candidate.get("content", {}).get("parts", []):
                _hear(part, reply)
    return reply


def _chunks(body: bytes) -> list[Json]:
    text = body.decode()
    if not text.startswith("data:"):
        return [json.loads(text)]
    return [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]


def _hear(part: Json, reply: Heard) -> None:
    if "functionCall" in part:
        call = part["functionCall"]
        reply.calls.append((call["name"], call.get("args") or {}, part.get("thoughtSignature")))
        return
    if part.get("thought"):
        reply.thoughts += part["text"]
    elif "inlineData" in part:
        reply.media.append((part["inlineData"]["mimeType"], part["inlineData"]["data"]))
    else:
        reply.text += part.get("text", "")
    if "thoughtSignature" in part:
        reply.signatures.append(part["thoughtSignature"])
