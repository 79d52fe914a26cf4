"""Recorded Responses traffic in our words: what was asked, what a client may say differently, what was replied.

Written apart from the adapter, from the recorded JSON alone, so that the two can disagree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

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
    StopReason,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolSpec,
    Usage,
)

OURS = "openai_responses"
# What the settings and the messages of ours say; every other field of a request is an extension.
_SAID = {
    "model", "input", "instructions", "tools", "stream", "store", "include", "text", "temperature",
    "max_output_tokens", "previous_response_id",
}  # fmt: skip


@dataclass
class Asked:
    """A recorded request as calls of ours would make it."""

    messages: list[ChatMessage]
    tools: list[ToolSpec]
    settings: ModelSettings
    store: bool
    stream: bool
    previous: str | None


def asked(body: dict[str, Any]) -> Asked:
    """Read a request."""
    messages: list[ChatMessage] = []
    if body.get("instructions"):
        messages.append(ChatMessage(Role.SYSTEM, body["instructions"]))
    messages += _messages(body["input"])
    text = dict(body.get("text") or {})
    form = text.pop("format", None) or {}
    more = {name: value for name, value in body.items() if name not in _SAID and value is not None}
    if more.get("tool_choice") == "auto":
        del more["tool_choice"]
    settings = ModelSettings(
        body.get("temperature"),
        body.get("max_output_tokens"),
        form.get("schema"),
        form.get("name", "output"),
        more | ({"text": text} if text else {}),
    )
    tools = [
        ToolSpec(tool["name"], tool["description"] or "", tool["parameters"])
        for tool in body.get("tools") or ()
    ]
    return Asked(
        messages, tools, settings, body.get("store") is not False, bool(body.get("stream")),
        body.get("previous_response_id"),
    )  # fmt: skip


@dataclass
class _Turn:
    parts: list[Part] = field(default_factory=list[Part])
    calls: list[ToolCall] = field(default_factory=list[ToolCall])

    def take(self, item: dict[str, Any]) -> None:
        kind = item.get("type", "message")
        if kind == "reasoning":
            texts = [piece["text"] for piece in item["summary"]] or [""]
            self.parts += [ThinkingPart(text, origin=OURS) for text in texts[:-1]]
            self.parts.append(ThinkingPart(texts[-1], item.get("id"), item.get("encrypted_content"), OURS))
        elif kind == "function_call":
            if item.get("id"):
                self._head({name: item[name] for name in ("type", "id", "status") if item.get(name)})
            self.parts.append(CallPart(len(self.calls)))
            self.calls.append(ToolCall(item["call_id"], item["name"], item["arguments"]))
        elif kind == "message" and isinstance(item["content"], str):
            self.parts.append(TextPart(item["content"]))
        elif kind == "message" and not item.get("id"):
            self.parts.append(TextPart("".join(piece["text"] for piece in item["content"])))
        elif kind == "message":
            pieces = [
                {name: value for name, value in piece.items() if name != "text"} for piece in item["content"]
            ]
            self._head({**item, "content": pieces})
            self.parts += [TextPart(piece["text"]) for piece in item["content"]]
        else:
            self._head(item)

    def _head(self, item: dict[str, Any]) -> None:
        self.parts.append(OpaquePart(OURS, json.dumps(item)))

    def message(self) -> ChatMessage:
        return ChatMessage(Role.ASSISTANT, tuple(self.parts), tool_calls=tuple(self.calls) or None)


def _messages(items: list[dict[str, Any]]) -> list[ChatMessage]:
    messages: list[ChatMessage] = []
    turn: _Turn | None = None
    for item in items:
        if item.get("role") in ("user", "system") or item.get("type") == "function_call_output":
            if turn is not None:
                messages.append(turn.message())
                turn = None
            messages.append(_given(item))
        elif (
            item.get("role") == "assistant"
            and turn is not None
            and turn.parts
            and not turn.calls
            and (isinstance(turn.parts[-1], TextPart) and isinstance(item["content"], str))
        ):
            messages.append(turn.message())  # two messages in a row are two of ours
            turn = _Turn()
            turn.take(item)
        else:
            turn = turn or _Turn()
            turn.take(item)
    return [*messages, turn.message()] if turn is not None else messages


def _given(item: dict[str, Any]) -> ChatMessage:
    if item.get("type") == "function_call_output":
        failed = item["output"].startswith("Error: ")
        return ChatMessage(Role.TOOL, item["output"], tool_call_id=item["call_id"], is_error=failed)
    content = item["content"]
    if not isinstance(content, str):
        content = tuple(map(_part, content))
    return ChatMessage(Role(item["role"]), content)


def _part(piece: dict[str, Any]) -> Part:
    if piece["type"] == "input_text":
        return TextPart(piece["text"])
    if piece["type"] == "input_image":
        return ImagePart(piece["image_url"])
    return FilePart(piece["file_url"])


# --- the same request ---------------------------------------------------------------------------------


def same(body: dict[str, Any]) -> dict[str, Any]:
    """A request without what two clients may say differently and mean the same."""
    plain = {name: value for name, value in body.items() if value is not None}
    # Unsaid, a service stores; and we always ask for reasoning in a form that can go back.
    plain.setdefault("store", True)
    plain["stream"] = bool(plain.get("stream"))
    plain.pop("include", None)
    if plain.get("tool_choice") == "auto":
        del plain["tool_choice"]
    if (plain.get("text") or {}).get("format") == {"type": "text"}:
        del plain["text"]
    # One system text at the head says the same in the field for it and as the first item.
    instructions = plain.pop("instructions", None)
    items = [{"role": "system", "content": instructions}] if instructions else []
    plain["input"] = [_same_item(item) for item in [*items, *plain["input"]] if not _says_nothing(item)]
    if plain.get("tools"):  # in one order, so that the service's cache knows them again
        tools = [{**tool, "description": tool["description"] or ""} for tool in plain["tools"]]
        plain["tools"] = sorted(tools, key=lambda tool: tool["name"])
    return plain


def _says_nothing(item: dict[str, Any]) -> bool:
    return item.get("role") == "assistant" and not item.get("content")


def _same_item(item: dict[str, Any]) -> dict[str, Any]:
    item = {name: value for name, value in item.items() if value not in (None, [])}
    if isinstance(item.get("content"), list):
        # Marks for the service's cache on single pieces of text are nothing our messages can say.
        pieces = [
            {k: v for k, v in p.items() if k != "prompt_cache_breakpoint" and v != []}
            for p in item["content"]
        ]
        item["content"] = pieces
        if item.get("role") == "assistant" and "id" not in item:
            return {"role": "assistant", "content": "".join(piece["text"] for piece in pieces)}
    return item


# --- the reply ----------------------------------------------------------------------------------------


@dataclass
class Replied:
    """A recorded reply, read from its JSON."""

    text: str
    calls: list[tuple[str, str, str]]
    thoughts: list[str]
    kept: list[dict[str, Any]]
    usage: Usage
    stop: StopReason
    model: str


def final(exchange: Exchange) -> dict[str, Any]:
    """The response object: the body, or what the last event of the stream holds."""
    if not exchange.streamed:
        found: dict[str, Any] = json.loads(exchange.body)
        return found
    events = [
        json.loads(line[6:]) for line in exchange.body.decode().splitlines() if line.startswith("data: {")
    ]
    ended: dict[str, Any] = events[-1].get("response") or {"error": events[-1]}
    return ended


def replied(response: dict[str, Any]) -> Replied:
    """Read a response object."""
    output = response["output"]
    cut = response["status"] == "incomplete"
    pieces = [piece for item in output if item["type"] == "message" for piece in item["content"]]
    thinking = [item for item in output if item["type"] == "reasoning"]
    calls = [
        (item["call_id"], item["name"], item["arguments"])
        for item in output
        if item["type"] == "function_call" and not (cut and item["status"] != "completed")
    ]
    if cut:
        why = {"max_output_tokens": StopReason.LENGTH, "content_filter": StopReason.CONTENT_FILTER}
        stop = why[response["incomplete_details"]["reason"]]
    elif calls:
        stop = StopReason.TOOL_USE
    elif any(piece["type"] == "refusal" for piece in pieces):
        stop = StopReason.REFUSAL
    else:  # one recording was made by hand and says "complete"
        stop = StopReason.STOP if response["status"] == "completed" else StopReason.UNKNOWN
    used, details = response["usage"], response["usage"]["input_tokens_details"]
    return Replied(
        text="".join(piece.get("text", piece.get("refusal")) for piece in pieces),
        calls=calls,
        thoughts=[p["text"] for item in thinking for p in [*item["summary"], *(item.get("content") or ())]],
        kept=[] if cut or not thinking else [_same_item(_without_odds(item)) for item in output],
        usage=Usage(
            used["input_tokens"],
            used["output_tokens"],
            details["cached_tokens"],
            details.get("cache_write_tokens", 0),
        ),
        stop=stop,
        model=response["model"],
    )


def _without_odds(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] != "message":
        return item
    return {
        **item,
        "content": [{k: v for k, v in piece.items() if k != "logprobs"} for piece in item["content"]],
    }
