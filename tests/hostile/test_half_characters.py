"""A character cut in two between deltas is one character; a half that stays alone is U+FFFD. On every wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from clients import CLIENTS
from conversation import ADD, HELLO
from raw_server import Reply, http, raw_server
from test_withheld import sse

from loom.errors import MalformedReplyError
from loom.llm.base import ContentDeltaEvent, ProviderEvent, ThinkingDeltaEvent, ToolCallDeltaEvent
from loom.types import ChatResponse, Role, TextPart, ThinkingPart

WIRES = sorted(CLIENTS)
Deltas = Sequence[tuple[str, str]]
"""Kind (``text``, ``thinking``, ``call``, ``other call``) and what it grows by; halves as Python writes them."""


def chat(deltas: Deltas) -> bytes:
    told: list[Any] = []
    for number, (kind, piece) in enumerate(deltas):
        if kind.endswith("call"):
            index, begins = int(kind == "other call"), kind not in [k for k, _ in deltas[:number]]
            named = {"id": f"c{index}", "function": {"name": "add", "arguments": piece}}
            told.append(
                {
                    "tool_calls": [
                        {"index": index, **(named if begins else {"function": {"arguments": piece}})}
                    ]
                }
            )
        else:
            told.append({"content" if kind == "text" else "reasoning_content": piece})
    reason = "tool_calls" if any(kind.endswith("call") for kind, _ in deltas) else "stop"
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return sse(*({"choices": [{"index": 0, "delta": delta}]} for delta in told), end) + b"data: [DONE]\n\n"


def anthropic(deltas: Deltas) -> bytes:
    head: dict[str, Any] = {"type": "message", "role": "assistant", "model": "m", "content": []}
    events: list[Any] = [{"type": "message_start", "message": head}]
    kinds = list(dict.fromkeys(kind for kind, _ in deltas))
    begins: dict[str, Any] = {
        "text": {"type": "text", "text": ""},
        "thinking": {"type": "thinking", "thinking": "", "signature": ""},
        "call": {"type": "tool_use", "id": "c0", "name": "add", "input": {}},
        "other call": {"type": "tool_use", "id": "c1", "name": "add", "input": {}},
    }
    grows = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
    events += [
        {"type": "content_block_start", "index": place, "content_block": begins[kind]}
        for place, kind in enumerate(kinds)
    ]
    for kind, piece in deltas:
        name, field = grows.get(kind, ("input_json_delta", "partial_json"))
        delta = {"type": name, field: piece}
        events.append({"type": "content_block_delta", "index": kinds.index(kind), "delta": delta})
    events += [{"type": "content_block_stop", "index": place} for place in range(len(kinds))]
    stop = "tool_use" if "call" in kinds else "end_turn"
    return sse(*events, {"type": "message_delta", "delta": {"stop_reason": stop}}, {"type": "message_stop"})


def gemini(deltas: Deltas) -> bytes:
    parts: list[Any] = [
        {"text": piece, **({"thought": True} if kind == "thinking" else {})}
        for kind, piece in deltas
        if not kind.endswith("call")
    ]
    if arguments := "".join(piece for kind, piece in deltas if kind == "call"):
        parts.append({"functionCall": {"id": "c0", "name": "add", "args": json.loads(arguments)}})
    chunks = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    return sse(*chunks, {"candidates": [{"finishReason": "STOP"}]})


def responses(deltas: Deltas) -> bytes:
    kinds = list(dict.fromkeys(kind for kind, _ in deltas))
    texts = {kind: "".join(piece for k, piece in deltas if k == kind) for kind in kinds}
    items: list[Any] = []
    for place, kind in enumerate(kinds):
        if kind == "text":
            piece = {"type": "output_text", "text": texts[kind], "annotations": []}
            items.append({"type": "message", "id": "m", "role": "assistant", "content": [piece]})
        elif kind == "thinking":
            summary = [{"type": "summary_text", "text": texts[kind]}]
            items.append({"type": "reasoning", "id": "r", "summary": summary})
        else:
            named = {"call_id": f"c{int(kind == 'other call')}", "name": "add", "arguments": texts[kind]}
            items.append({"type": "function_call", "id": f"f{place}", "status": "completed", **named})
    grows = {"text": "output_text", "thinking": "reasoning_summary_text"}
    events: list[Any] = [
        {
            "type": "response.output_item.added",
            "output_index": place,
            "item": {**item, "content": [], "summary": []},
        }
        for place, item in enumerate(items)
    ]
    events += [
        {
            "type": f"response.{grows.get(kind, 'function_call_arguments')}.delta",
            "output_index": kinds.index(kind),
            "delta": piece,
        }
        for kind, piece in deltas
    ]
    end = {"id": "r1", "status": "completed", "output": items}
    return sse(*events, {"type": "response.completed", "response": end})


WRITE = {"openai_chat": chat, "anthropic": anthropic, "gemini": gemini, "openai_responses": responses}


async def told(wire: str, body: bytes, *, streamed: bool = True) -> tuple[list[ProviderEvent], ChatResponse]:
    kind = "text/event-stream" if streamed else "application/json"
    # Seven bytes at a time, so that characters and escapes are cut as well.
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]

    def reply(request: bytes) -> Reply:
        return http(pieces, kind=kind)

    async with raw_server(reply) as server, CLIENTS[wire](server.url) as provider:
        if not streamed:
            return [], await provider.chat(HELLO, tools=[ADD])
        events = [event async for event in provider.chat_stream(HELLO, tools=[ADD])]
    last = events.pop()
    assert isinstance(last, ChatResponse)
    return events, last


def texts(events: list[ProviderEvent]) -> tuple[str, str, list[str]]:
    calls: dict[int, str] = {}
    for event in events:
        if isinstance(event, ToolCallDeltaEvent):
            calls[event.index] = calls.get(event.index, "") + (event.arguments_delta or "")
    said = "".join(event.delta for event in events if isinstance(event, ContentDeltaEvent))
    thought = "".join(event.delta for event in events if isinstance(event, ThinkingDeltaEvent))
    return said, thought, [calls[index] for index in sorted(calls)]


def kept(reply: ChatResponse) -> tuple[str, str, list[str]]:
    content = reply.message.content
    parts = (TextPart(content),) if isinstance(content, str) else content or ()
    said = "".join(part.text for part in parts if isinstance(part, TextPart))
    thought = "".join(part.text for part in parts if isinstance(part, ThinkingPart))
    return said, thought, [call.arguments for call in reply.message.tool_calls or ()]


CASES: dict[str, tuple[Deltas, str]] = {
    "two halves": ([("text", "a\ud83d"), ("text", "\ude00b")], "a\U0001f600b"),
    "halves alone": ([("text", "\ud83d"), ("text", "\ude00")], "\U0001f600"),
    "a chain": ([("text", "\ud83d"), ("text", "\ude00\ud83d"), ("text", "\ude00")], "\U0001f600\U0001f600"),
    "a first half that stays alone": ([("text", "a\ud83d"), ("text", "b")], "a\ufffdb"),
    "a second half alone": ([("text", "a\ude00"), ("text", "b")], "a\ufffdb"),
    "a half at the end": ([("text", "a"), ("text", "b\ud83d")], "ab\ufffd"),
    "halves the wrong way": ([("text", "\ude00"), ("text", "\ud83d")], "\ufffd\ufffd"),
    "a whole one": ([("text", "a\U0001f600"), ("text", "é\ufdd0d83d")], "a\U0001f600é\ufdd0d83d"),
    "a backslash before it": (
        [("text", "\\ud83d"), ("text", "\\\ud83d"), ("text", "\ude00")],
        "\\ud83d\\\U0001f600",
    ),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("kind", ["text", "thinking"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_review_g10_a_character_cut_between_deltas(
    case: tuple[Deltas, str], kind: str, wire: str
) -> None:
    deltas, expected = case
    if kind == "thinking":
        deltas = [(kind, piece) for _, piece in deltas] + [("text", "x")]
    events, reply = await told(wire, WRITE[wire](deltas))
    place = int(kind == "thinking")
    assert kept(reply)[place] == expected
    assert texts(events)[place] == expected
    for event in events:
        str(getattr(event, "delta", "")).encode()  # nothing that is shown holds a half


ARGUMENTS: dict[str, tuple[Deltas, list[str]]] = {
    "two halves": ([("call", '{"a":"\ud83d'), ("call", '\ude00"}')], ['{"a":"\U0001f600"}']),
    "a half alone": ([("call", '{"a":"\ud83d'), ("call", ' "}')], ['{"a":"\ufffd "}']),
}
SIDE_BY_SIDE: Deltas = [
    ("call", '{"a":"\ud83d'),
    ("other call", '{"b":"\ud83d'),
    ("other call", '\ude01"}'),
    ("call", '\ude00"}'),
]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", ARGUMENTS.values(), ids=ARGUMENTS)
async def test_review_g10_a_character_cut_in_arguments(case: tuple[Deltas, list[str]], wire: str) -> None:
    deltas, expected = case
    events, reply = await told(wire, WRITE[wire](deltas))
    assert [json.loads(arguments) for arguments in kept(reply)[2]] == [json.loads(text) for text in expected]
    assert [json.loads(arguments) for arguments in texts(events)[2]] == [
        json.loads(text) for text in expected
    ]


@pytest.mark.parametrize("wire", ["anthropic", "openai_chat", "openai_responses"])
async def test_review_g10_calls_that_grow_side_by_side(wire: str) -> None:
    events, reply = await told(wire, WRITE[wire](SIDE_BY_SIDE))
    assert kept(reply)[2] == ['{"a":"\U0001f600"}', '{"b":"\U0001f601"}']
    assert texts(events)[2] == kept(reply)[2]


@pytest.mark.parametrize("wire", WIRES)
async def test_review_g10_a_half_in_the_json_of_arguments(wire: str) -> None:
    deltas: Deltas = [("call", '{"a":"\\ud83d'), ("call", '\\ude00","b":"\\ud83d","c":"\\\\ud83d"}')]
    _, reply = await told(wire, WRITE[wire](deltas))
    (arguments,) = kept(reply)[2]
    arguments.encode()
    assert json.loads(arguments) == {"a": "\U0001f600", "b": "\ufffd", "c": "\\ud83d"}


WHOLE: dict[str, Any] = {
    "openai_chat": {"choices": [{"message": {"content": "a\ud83db"}, "finish_reason": "stop"}]},
    "anthropic": {
        "type": "message",
        "content": [{"type": "text", "text": "a\ud83db"}, {"type": "hologram", "shape": "\ud83d"}],
        "stop_reason": "end_turn",
    },
    "gemini": {
        "candidates": [
            {
                "content": {"parts": [{"text": "a\ud83db"}, {"hologram": {"shape": "\ud83d"}}]},
                "finishReason": "STOP",
            }
        ]
    },
    "openai_responses": {
        "status": "completed",
        "output": [
            {"type": "message", "content": [{"type": "output_text", "text": "a\ud83db"}]},
            {"type": "hologram", "id": "h", "shape": "\ud83d"},
        ],
    },
}


@pytest.mark.parametrize("wire", WIRES)
async def test_review_g10_a_half_in_a_whole_reply(wire: str) -> None:
    _, reply = await told(wire, json.dumps(WHOLE[wire]).encode(), streamed=False)
    assert kept(reply)[0] == "a\ufffdb"

    bodies: list[bytes] = []

    def again(request: bytes) -> Reply:
        bodies.append(request.partition(b"\r\n\r\n")[2])
        return http(json.dumps(WHOLE[wire]).encode(), kind="application/json")

    async with raw_server(again) as server, CLIENTS[wire](server.url) as provider:
        await provider.chat([*HELLO, reply.message, HELLO[-1]])
    assert b"ud83d" not in bodies[0]
    assert reply.message.role is Role.ASSISTANT


@pytest.mark.parametrize("wire", WIRES)
async def test_a_character_cut_between_packets_is_whole(wire: str) -> None:
    body = WRITE[wire]([("text", "日本🌍é")])
    body = body.replace(json.dumps("日本🌍é").encode(), '"日本🌍é"'.encode())
    for size in (1, 2, 3, 5):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        async with (
            raw_server(lambda request, pieces=pieces: http(pieces)) as server,
            CLIENTS[wire](server.url) as provider,
        ):
            events = [event async for event in provider.chat_stream(HELLO)]
        assert texts(events)[0] == "日本🌍é"


@pytest.mark.parametrize("wire", WIRES)
async def test_json_that_is_broken_beside_a_half_is_still_no_reply(wire: str) -> None:
    body = WRITE[wire]([("text", "a\ud83d")]).replace(b'\\ud83d"', b"\\ud83d")
    with pytest.raises(MalformedReplyError):
        await told(wire, body)
