"""A call that is told twice is made once, on every wire and from any provider; one id is one call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from runs import check_sound, hostile_run
from test_withheld import sse

import loom
from loom.llm.base import ProviderEvent, ToolCallDeltaEvent
from loom.testing.scripted import ScriptedProvider, say
from loom.types import CallPart, ChatMessage, ChatResponse, Role, RunState, StopReason, TextPart, ToolCall

Call = tuple[str | None, dict[str, int]]
A = {"a": 1, "b": 2}
B = {"a": 3, "b": 4}
SAME: list[Call] = [("c1", A), ("c1", A)]


def chat(calls: Sequence[Call], streamed: bool) -> bytes:
    told = [
        {
            "index": place,
            "id": name,
            "type": "function",
            "function": {"name": "add", "arguments": json.dumps(a)},
        }
        for place, (name, a) in enumerate(calls)
    ]
    said = {"role": "assistant", "content": None, "tool_calls": told}
    if not streamed:
        choice = {"index": 0, "message": said, "finish_reason": "tool_calls"}
        return json.dumps({"choices": [choice]}).encode()
    return chat_stream(*({"tool_calls": [call]} for call in told))


def chat_stream(*deltas: Any) -> bytes:
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    return sse(*({"choices": [{"index": 0, "delta": delta}]} for delta in deltas), end) + b"data: [DONE]\n\n"


def anthropic(calls: Sequence[Call], streamed: bool) -> bytes:
    blocks = [{"type": "tool_use", "id": name, "name": "add", "input": a} for name, a in calls]
    message: dict[str, Any] = {"type": "message", "role": "assistant", "model": "m", "content": []}
    if not streamed:
        return json.dumps({**message, "content": blocks, "stop_reason": "tool_use"}).encode()
    events: list[Any] = [{"type": "message_start", "message": message}]
    for block in blocks:  # under one index, as a stream that repeats itself has it
        grown = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events += [
            {"type": "content_block_start", "index": 0, "content_block": {**block, "input": {}}},
            {"type": "content_block_delta", "index": 0, "delta": grown},
            {"type": "content_block_stop", "index": 0},
        ]
    end = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}
    return sse(*events, end, {"type": "message_stop"})


def gemini(calls: Sequence[Call], streamed: bool) -> bytes:
    parts = [{"functionCall": {"id": name, "name": "add", "args": a}} for name, a in calls]
    if not streamed:
        content = {"role": "model", "parts": parts}
        return json.dumps({"candidates": [{"content": content, "finishReason": "STOP"}]}).encode()
    chunks = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    return sse(*chunks, {"candidates": [{"finishReason": "STOP"}]})


def responses(calls: Sequence[Call], streamed: bool) -> bytes:
    items = [
        {
            "type": "function_call",
            "id": f"fc_{place}",
            "call_id": name,
            "name": "add",
            "arguments": json.dumps(a),
            "status": "completed",
        }
        for place, (name, a) in enumerate(calls)
    ]
    whole = {"id": "r1", "status": "completed", "output": items}
    if not streamed:
        return json.dumps(whole).encode()
    done = [
        {"type": "response.output_item.done", "output_index": place, "item": item}
        for place, item in enumerate(items)
    ]
    return sse(*done, {"type": "response.completed", "response": whole})


WRITE = {"openai_chat": chat, "anthropic": anthropic, "gemini": gemini, "openai_responses": responses}
WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
ALL = pytest.mark.parametrize("wire", sorted(WRITE))


@ALL
@WAYS
@pytest.mark.parametrize("times", [2, 3])
async def test_review_e1_a_call_told_again_runs_once(wire: str, streamed: bool, times: int) -> None:
    outcome = await hostile_run(wire, WRITE[wire]([("c1", A)] * times, streamed), streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran == [(1, 2)]
    assert outcome.result.state is RunState.COMPLETED


@ALL
@WAYS
async def test_review_e1_one_id_for_two_calls_is_malformed(wire: str, streamed: bool) -> None:
    body = WRITE[wire]([("c1", A), ("c1", B)], streamed)
    outcome = await hostile_run(wire, body, streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran == []
    assert outcome.result.error is not None
    assert outcome.result.error.code == "malformed_reply"


@ALL
@WAYS
async def test_review_e1_calls_with_two_ids_are_two(wire: str, streamed: bool) -> None:
    body = WRITE[wire]([("c1", A), ("c2", A), ("c1", A)], streamed)
    outcome = await hostile_run(wire, body, streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran == [(1, 2), (1, 2)]


@pytest.mark.parametrize("wire", ["openai_chat", "gemini", "openai_responses"])
@WAYS
async def test_review_e1_calls_without_ids_are_two(wire: str, streamed: bool) -> None:
    outcome = await hostile_run(wire, WRITE[wire]([(None, A), (None, A)], streamed), streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran == [(1, 2), (1, 2)]


@WAYS
async def test_review_e1_an_id_like_one_that_was_made_up_is_another_call(streamed: bool) -> None:
    calls: list[Call] = [(None, A), ("call_1", A), ("call_1", A)]
    outcome = await hostile_run("openai_chat", chat(calls, streamed), streamed=streamed)
    check_sound(outcome, "openai_chat")
    assert outcome.ran == [(1, 2), (1, 2)]


def _piece(arguments: str | None, name: str | None = None, call_id: str | None = None, index: int = 0) -> Any:
    return {
        "tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]
    }


WHOLE = _piece('{"a":1,"b":2}', "add", "c1")
PIECES = [_piece("", "add", "c1"), _piece('{"a":1'), _piece(',"b":2}')]


@pytest.mark.parametrize(
    "deltas",
    [
        [WHOLE, WHOLE],
        [WHOLE, _piece('{"b": 2, "a": 1}', "add", "c1")],
        [WHOLE, _piece('{"a":1,"b":2}', "add")],
        [WHOLE, _piece('{"a":1,"b":2}')],
        [*PIECES, *PIECES],
        [*PIECES, WHOLE, *PIECES],
    ],
    ids=["whole", "written otherwise", "without its id", "arguments alone", "in pieces", "three times"],
)
async def test_review_e1_a_stream_that_repeats_a_call_under_one_index(deltas: list[Any]) -> None:
    outcome = await hostile_run("openai_chat", chat_stream(*deltas), streamed=True)
    check_sound(outcome, "openai_chat")
    assert outcome.ran == [(1, 2)]


async def test_parallel_calls_under_one_index_without_ids_stay_two() -> None:
    one, other = _piece('{"a":1,"b":2}', "add"), _piece('{"a":1,"b":2}', "add")
    outcome = await hostile_run("openai_chat", chat_stream(one, other), streamed=True)
    assert outcome.ran == [(1, 2), (1, 2)]


# --- providers that are no wire of ours ----------------------------------------------------------------


async def _run(provider: Any) -> tuple[list[int], Any]:
    paid: list[int] = []

    @loom.tool
    def pay(amount: int) -> str:
        """Pays."""
        paid.append(amount)
        return "paid"

    result = await loom.Agent(model=provider, tools=[pay]).run("Pay")
    return paid, result


async def test_review_e1_any_provider_that_repeats_itself() -> None:
    one = ToolCall("c1", "pay", '{"amount":5}')
    other = ToolCall("c2", "pay", '{"amount":5}')
    content = (
        TextPart("a"),
        CallPart(0),
        TextPart("b"),
        CallPart(1),
        TextPart("c"),
        CallPart(2),
        TextPart("d"),
    )
    message = ChatMessage(Role.ASSISTANT, content, tool_calls=(one, one, other))
    reply = ChatResponse(message, stop_reason=StopReason.TOOL_USE)
    paid, result = await _run(ScriptedProvider([reply, say("Done.")]))
    assert paid == [5, 5]
    kept = result.messages[1]
    assert kept.tool_calls == (one, other)
    texts = (TextPart("a"), CallPart(0), TextPart("b"), TextPart("c"), CallPart(1), TextPart("d"))
    assert kept.content == texts


async def test_review_e1_any_provider_that_gives_one_id_to_two_calls() -> None:
    calls = (ToolCall("c1", "pay", '{"amount":5}'), ToolCall("c1", "pay", '{"amount":6}'))
    paid, result = await _run(ScriptedProvider([say("", *calls), say("Done.")]))
    assert paid == []
    assert result.error is not None
    assert result.error.code == "malformed_reply"


class _Streaming:
    """A provider that tells its calls as deltas alone."""

    def __init__(self) -> None:
        self.asked = 0

    async def chat(self, messages: Any, **options: Any) -> ChatResponse:
        raise NotImplementedError

    async def chat_stream(self, messages: Any, **options: Any) -> AsyncIterator[ProviderEvent]:
        self.asked += 1
        if self.asked == 1:
            for index in (0, 1):
                yield ToolCallDeltaEvent(index, "c1", "pay", '{"amount":5}')
        else:
            yield say("Done.")


async def test_review_e1_any_stream_that_repeats_itself() -> None:
    paid: list[int] = []

    @loom.tool
    def pay(amount: int) -> str:
        """Pays."""
        paid.append(amount)
        return "paid"

    session = loom.Agent(model=_Streaming(), tools=[pay]).session()
    assert (await session.start("Pay")).output == "Done."
    assert paid == [5]
