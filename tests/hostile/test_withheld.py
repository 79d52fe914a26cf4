"""Replies that their service withdrew: no call of theirs runs, whatever else they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from runs import Outcome, check_sound, hostile_run

import loom
import loom.loop
from loom.testing.scripted import ScriptedProvider, say
from loom.types import ChatMessage, Role, RunState, StopReason, ToolCall

GOOD = {"a": 1, "b": 2}
TEXT = json.dumps(GOOD)

CHAT = {
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "refusal": "refusal",
    "content_filter: PROHIBITED_CONTENT": "content_filter",
    "SAFETY": "content_filter",
    "guardrail_intervened": "content_filter",
    "output_moderated": "content_filter",
    "length": "output_truncated",
}
ANTHROPIC = {
    "refusal": "refusal",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "sensitive": "content_filter",
    "max_tokens": "output_truncated",
}
GEMINI = {
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "SOME_NEW_SAFETY_BLOCK": "content_filter",
    "MAX_TOKENS": "output_truncated",
    "MALFORMED_FUNCTION_CALL": "malformed_reply",
    "UNEXPECTED_TOOL_CALL": "malformed_reply",
    "OTHER": "malformed_reply",
    "A_REASON_OF_TOMORROW": "malformed_reply",
}
RESPONSES = {
    "content_filter": "content_filter",
    "max_output_tokens": "output_truncated",
    "a_reason_of_tomorrow": "output_truncated",
    "safety_blocked": "content_filter",
}


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def chat(*reasons: str | None, streamed: bool, **message: Any) -> bytes:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": TEXT}}
    said = {"role": "assistant", "content": "Well", "tool_calls": [call], **message}
    if not streamed:
        return json.dumps({"choices": [{"index": 0, "message": said, "finish_reason": reasons[-1]}]}).encode()
    ends = [{"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]} for reason in reasons]
    return sse({"choices": [{"index": 0, "delta": said}]}, *ends) + b"data: [DONE]\n\n"


def anthropic(*reasons: str, streamed: bool) -> bytes:
    call = {"type": "tool_use", "id": "c1", "name": "add", "input": GOOD}
    message: dict[str, Any] = {"type": "message", "role": "assistant", "model": "m", "content": []}
    if not streamed:
        return json.dumps({**message, "content": [call], "stop_reason": reasons[-1]}).encode()
    return sse(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": call},
        {"type": "content_block_stop", "index": 0},
        *({"type": "message_delta", "delta": {"stop_reason": reason}} for reason in reasons),
        {"type": "message_stop"},
    )


def gemini(*reasons: str, streamed: bool) -> bytes:
    said = {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "add", "args": GOOD}}]}
    first, *others = [{"candidates": [{"index": 0, "finishReason": reason}]} for reason in reasons]
    first["candidates"][0]["content"] = said
    return sse(first, *others) if streamed else json.dumps(first).encode()


def responses(reason: str, *, streamed: bool, refused: bool = False) -> bytes:
    item = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": TEXT}
    output: list[Any] = [{**item, "status": "completed"}]
    if refused:
        piece = {"type": "refusal", "refusal": "No."}
        output.append({"type": "message", "id": "m1", "role": "assistant", "content": [piece]})
    whole: dict[str, Any] = {"id": "r1", "status": "completed", "output": output}
    if reason:
        whole |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
    if not streamed:
        return json.dumps(whole).encode()
    return sse(
        {"type": "response.output_item.done", "output_index": 0, "item": output[0]},
        {"type": f"response.{whole['status']}", "response": whole},
    )


def check_withheld(outcome: Outcome, wire: str, code: str) -> None:
    check_sound(outcome, wire)
    assert outcome.ran == []
    assert outcome.result.state is RunState.FAILED
    assert outcome.result.error is not None
    assert outcome.result.error.code == code


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("wire", "reason", "code"),
    [
        (wire, reason, code)
        for wire, reasons in (
            ("openai_chat", CHAT),
            ("anthropic", ANTHROPIC),
            ("gemini", GEMINI),
            ("openai_responses", RESPONSES),
        )
        for reason, code in reasons.items()
    ],
)
async def test_review_d4_no_call_runs_of_a_reply_that_was_withdrawn(
    wire: str, reason: str, code: str, streamed: bool
) -> None:
    write = {"openai_chat": chat, "anthropic": anthropic, "gemini": gemini, "openai_responses": responses}
    outcome = await hostile_run(wire, write[wire](reason, streamed=streamed), streamed=streamed)
    check_withheld(outcome, wire, code)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_review_d4_a_refusal_in_words_holds_against_a_call(streamed: bool) -> None:
    body = chat("tool_calls", streamed=streamed, content=None, refusal="No.")
    check_withheld(await hostile_run("openai_chat", body, streamed=streamed), "openai_chat", "refusal")
    body = responses("", streamed=streamed, refused=True)
    outcome = await hostile_run("openai_responses", body, streamed=streamed)
    check_withheld(outcome, "openai_responses", "refusal")


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        ("openai_chat", chat("content_filter", "tool_calls", streamed=True)),
        ("openai_chat", chat("content_filter", "stop", streamed=True)),
        ("anthropic", anthropic("content_filtered", "tool_use", streamed=True)),
        ("gemini", gemini("SAFETY", "STOP", streamed=True)),
    ],
)
async def test_review_d4_a_later_reason_does_not_outvote_a_withdrawal(wire: str, body: bytes) -> None:
    check_withheld(await hostile_run(wire, body, streamed=True), wire, "content_filter")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("wire", "body"),
    [
        ("openai_chat", lambda streamed: chat("stop", streamed=streamed)),
        ("openai_chat", lambda streamed: chat("", streamed=streamed)),
        ("openai_chat", lambda streamed: chat("tool_use_done", streamed=streamed)),
        ("anthropic", lambda streamed: anthropic("end_turn", streamed=streamed)),
        ("gemini", lambda streamed: gemini("STOP", streamed=streamed)),
        ("gemini", lambda streamed: gemini("FINISH_REASON_UNSPECIFIED", streamed=streamed)),
    ],
)
async def test_calls_run_that_nobody_withdrew(wire: str, body: Any, streamed: bool) -> None:
    outcome = await hostile_run(wire, body(streamed), streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran == [(1, 2)]


@pytest.mark.parametrize("stop", [StopReason.CONTENT_FILTER, StopReason.REFUSAL])
@pytest.mark.parametrize("face", ["agent", "loop agent"])
async def test_review_d4_no_call_runs_of_a_reply_that_any_provider_calls_withdrawn(
    stop: StopReason, face: str
) -> None:
    ran: list[int] = []

    @loom.tool
    def pay(amount: int) -> str:
        """Pays."""
        ran.append(amount)
        return "paid"

    calls = (ToolCall("c1", "pay", '{"amount":1}'), ToolCall("c2", "pay", '{"amount":2}'))
    provider = ScriptedProvider([say("Well", *calls, stop_reason=stop), say("Done.")])
    if face == "agent":
        result = await loom.Agent(model=provider, tools=[pay]).run("Pay")
        assert result.error is not None
        assert (result.state, result.error.code) == (RunState.FAILED, stop.value)
        results = [message for message in result.messages if message.role is Role.TOOL]
        assert [message.tool_call_id for message in results] == ["c1", "c2"]
    else:
        registry = loom.ToolRegistry()
        registry.register(pay)
        turn = await loom.loop.Agent(provider, tool_registry=registry).run_turn(
            [ChatMessage(Role.USER, "Pay")]
        )
        assert turn.error is not None
        assert turn.error.code == stop.value
    assert ran == []
