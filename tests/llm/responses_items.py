"""The Responses wire in small: items and replies to build tests of, and a conversation with its items."""

from __future__ import annotations

import json
from typing import Any

from wires import HELLO, responses

from loom.llm.base import ProviderEvent
from loom.llm.failures import FailureReader
from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.llm.openai_responses_reply import ResponsesReply
from loom.llm.redact import Scrubber
from loom.types import CallPart, ChatMessage, ChatResponse, OpaquePart, Role, TextPart, ThinkingPart, ToolCall

OURS = "openai_responses"
Json = dict[str, Any]
FAILURES = FailureReader("test", Scrubber())


async def body(provider: OpenAIResponsesProvider, messages: Any = HELLO, **options: Any) -> dict[str, Any]:
    tools, settings = options.get("tools"), options.get("settings")
    outgoing = await provider._request(messages, tools, "m", settings, options.get("stream", False))
    read: dict[str, Any] = json.loads(outgoing.body)
    return read


async def sent(*messages: ChatMessage) -> list[Any]:
    items: list[Any] = (await body(responses("http://h/v1"), messages))["input"]
    return items


def head(**item: Any) -> OpaquePart:
    return OpaquePart(OURS, json.dumps(item))


THOUGHT = ThinkingPart("Two sums.", "rs_1", "enc==", OURS)
TALK = [
    ChatMessage(Role.SYSTEM, "Be brief."),
    ChatMessage(Role.USER, "Add 1 and 2, and 3 and 4."),
    ChatMessage(
        Role.ASSISTANT,
        (
            THOUGHT,
            head(type="message", id="msg_1", status="completed", role="assistant", phase="commentary",
                 content=[{"type": "output_text", "annotations": []}]),
            TextPart("Adding."),
            head(type="function_call", id="fc_1", status="completed"),
            CallPart(0),
            head(type="function_call", id="fc_2", status="completed"),
        ),
        tool_calls=(ToolCall("c1", "add", '{"a":1,"b":2}'), ToolCall("c2", "add", '{"a":3, "b":4}')),
    ),
    ChatMessage(Role.TOOL, "3", tool_call_id="c1", name="add"),
    ChatMessage(Role.TOOL, "a is missing", tool_call_id="c2", name="add", is_error=True),
    ChatMessage(Role.ASSISTANT, "Three."),
    ChatMessage(Role.USER, "Go on."),
]  # fmt: skip
ITEMS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Add 1 and 2, and 3 and 4."},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Two sums."}],
        "encrypted_content": "enc==",
    },
    {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "phase": "commentary",
        "content": [{"type": "output_text", "annotations": [], "text": "Adding."}],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "status": "completed",
        "call_id": "c1",
        "name": "add",
        "arguments": '{"a":1,"b":2}',
    },
    {
        "type": "function_call",
        "id": "fc_2",
        "status": "completed",
        "call_id": "c2",
        "name": "add",
        "arguments": '{"a":3, "b":4}',
    },
    {"type": "function_call_output", "call_id": "c1", "output": "3"},
    {"type": "function_call_output", "call_id": "c2", "output": "Error: a is missing"},
    {"role": "assistant", "content": "Three."},
    {"role": "user", "content": "Go on."},
]


# --- replies ---------------------------------------------------------------------------------------------


def response(*output: Json, status: Any = "completed", **fields: Any) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "output": list(output),
        "model": "m-1",
        **fields,
    }


def completed(*output: Json, **fields: Any) -> Json:
    return {"type": "response.completed", "response": response(*output, **fields)}


def incomplete(reason: str, *output: Json) -> Json:
    return response(*output, status="incomplete", incomplete_details={"reason": reason})


def text(said: str, **fields: Any) -> Json:
    piece = {"type": "output_text", "text": said, "annotations": [], "logprobs": []}
    return {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [piece],
        **fields,
    }


def refusal(said: str) -> Json:
    return text("", content=[{"type": "refusal", "refusal": said}])


def tool(arguments: Any = "{}", call_id: Any = "c", name: Any = "f", **fields: Any) -> Json:
    called = {"arguments": arguments, "call_id": call_id, "name": name, "status": "completed"}
    return {"type": "function_call", "id": "fc_1", **called, **fields}


def thought(*summaries: str, data: str | None = "enc", **fields: Any) -> Json:
    summary = [{"type": "summary_text", "text": said} for said in summaries]
    return {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": data, **fields}


def whole(body: Any, history: tuple[ChatMessage, ...] = ()) -> ChatResponse:
    reply = ResponsesReply(FAILURES, "m", history)
    reply.whole(body if isinstance(body, bytes) else json.dumps(body).encode())
    return reply.finish()


def stream(*events: Any) -> tuple[list[ProviderEvent], ChatResponse]:
    reply, shown = ResponsesReply(FAILURES, "m"), list[ProviderEvent]()
    for event in events:
        shown += reply.feed(b"", event if isinstance(event, bytes) else json.dumps(event).encode())
    return shown, reply.finish()


def delta(kind: str, piece: str, place: int = 0) -> Json:
    return {"type": f"response.{kind}.delta", "output_index": place, "delta": piece}


def added(item: Json, place: int = 0) -> Json:
    return {"type": "response.output_item.added", "output_index": place, "item": item}


def done(item: Json, place: int = 0) -> Json:
    return {"type": "response.output_item.done", "output_index": place, "item": item}
