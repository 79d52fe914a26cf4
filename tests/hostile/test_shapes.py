"""Replies that are JSON and yet no reply, one table a wire: what each comes to, through a whole agent.

``done``: an answer that may be shown. ``none``: the run fails with an error of its own, and nothing ran.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import responses_shapes
from runs import check_sound, hostile_run

from loom.types import RunState

Json = Any
DONE, NONE = "done", "none"


def message(finish: Json = "stop", **fields: Json) -> Json:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish}]}


def block(*blocks: Json, stop: Json = "end_turn", **fields: Json) -> Json:
    return {"type": "message", "role": "assistant", "content": list(blocks), "stop_reason": stop, **fields}


TEXT = {"type": "text", "text": "Hello"}
SAYS = {"text": "Hello"}


def parts(*said: Json, finish: Json = "STOP", **fields: Json) -> Json:
    content = {"role": "model", "parts": list(said)}
    return {"candidates": [{"index": 0, "content": content, "finishReason": finish}], **fields}


def function(name: Json = "add", **fields: Json) -> Json:
    return {"functionCall": {"name": name, **fields}}


WHOLE: dict[str, dict[str, tuple[Json, str | None]]] = {
    "openai_responses": responses_shapes.WHOLE,
    "openai_chat": {
        "an empty object": ({}, NONE),
        "a string": ("hello", NONE),
        "a number": (42, NONE),
        "a list": ([message(content="x")], NONE),
        "no choices": ({"id": "x"}, NONE),
        "null choices": ({"choices": None}, NONE),
        "empty choices": ({"choices": []}, NONE),
        "choices as an object": ({"choices": {"0": {}}}, NONE),
        "choices of null": ({"choices": [None]}, NONE),
        "choices of strings": ({"choices": ["hello"]}, NONE),
        "an empty choice": ({"choices": [{}]}, NONE),
        "a null message": ({"choices": [{"message": None}]}, NONE),
        "a message as text": ({"choices": [{"message": "hello"}]}, NONE),
        "a message as a list": ({"choices": [{"message": ["hello"]}]}, NONE),
        "no content": (message(), NONE),
        "null content": (message(content=None), NONE),
        "content as a number": (message(content=42), NONE),
        "content as an object": (message(content={"text": "x"}), NONE),
        "content as parts": (message(content=[{"type": "text", "text": "Hello"}]), DONE),
        "content as strings": (message(content=["Hel", "lo"]), DONE),
        "content of numbers": (message(content=[1, 2]), NONE),
        "content of null": (message(content=[None]), NONE),
        "only reasoning": (message(content=None, reasoning_content="hm"), NONE),
        "calls as null": (message(content="Hello", tool_calls=None), DONE),
        "calls as an object": (message(content="Hello", tool_calls={"name": "add"}), NONE),
        "calls of null": (message("tool_calls", tool_calls=[None]), NONE),
        "calls of strings": (message("tool_calls", tool_calls=["add"]), NONE),
        "a call without a function": (message("tool_calls", tool_calls=[{"id": "x"}]), NONE),
        "a null function": (message("tool_calls", tool_calls=[{"id": "x", "function": None}]), NONE),
        "a function as text": (message("tool_calls", tool_calls=[{"id": "x", "function": "add"}]), NONE),
        "calls announced and not made": (message("tool_calls", content=None), NONE),
        "cut at its length": (message("length", content="Hello"), NONE),
        "filtered": (message("content_filter", content="Hel"), NONE),
        "refused": (message(content=None, refusal="No."), NONE),
        "a finish that is none": (message("because", content="Hello"), DONE),
        "a finish as a number": (message(7, content="Hello"), DONE),
        "a finish as an object": (message({"reason": "stop"}, content="Hello"), DONE),
        "the finish of an error": (message("error", content="Hel"), NONE),
        "an error in the choice": (
            {"choices": [{"message": {"content": "Hel"}, "error": {"message": "gone", "code": 502}}]},
            NONE,
        ),
        "another role": (message(role="user", content="Hello"), DONE),
        "only a second choice": (
            {"choices": [{"index": 1, "message": {"content": "Hello"}, "finish_reason": "stop"}]},
            NONE,
        ),
        "counts as text": (message(content="Hello") | {"usage": {"prompt_tokens": "many"}}, DONE),
        "counts below zero": (message(content="Hello") | {"usage": {"prompt_tokens": -5}}, DONE),
        "counts beyond reason": (message(content="Hello") | {"usage": {"prompt_tokens": 10**30}}, DONE),
        "counts as a list": (message(content="Hello") | {"usage": [1, 2]}, DONE),
        "a model as a number": (message(content="Hello") | {"model": 4}, DONE),
        "an error as text": ({"error": "model overloaded"}, NONE),
        "an error as true": ({"error": True}, NONE),
        "an error as a list": ({"error": [{"message": "x"}]}, NONE),
        "an empty error": ({"error": {}}, NONE),
        "an error beside a reply": (message(content="Hello") | {"error": {"message": "gone"}}, NONE),
        "no error beside a reply": (message(content="Hello") | {"error": None}, DONE),
        "an error object of another service": ({"object": "error", "message": "no such model"}, NONE),
        "half a surrogate": (message(content="Hello \ud800"), NONE),
        "control characters": (message(content="Hello \u0000\u001b[2J"), DONE),
    },
    "gemini": {
        "an empty object": ({}, NONE),
        "a string": ("hello", NONE),
        "a list of one": ([parts(SAYS)], DONE),
        "a list of an error": ([{"error": {"code": 503, "message": "gone"}}], NONE),
        "an empty list": ([], NONE),
        "no candidates": ({"modelVersion": "m"}, NONE),
        "null candidates": ({"candidates": None}, NONE),
        "candidates as an object": ({"candidates": {"0": {}}}, NONE),
        "candidates of null": ({"candidates": [None]}, NONE),
        "candidates of strings": ({"candidates": ["hello"]}, NONE),
        "an empty candidate": ({"candidates": [{}]}, NONE),
        "null content": ({"candidates": [{"content": None, "finishReason": "STOP"}]}, NONE),
        "content as text": ({"candidates": [{"content": "Hello", "finishReason": "STOP"}]}, NONE),
        "parts as an object": ({"candidates": [{"content": {"parts": SAYS}, "finishReason": "STOP"}]}, NONE),
        "parts of null": (parts(None), NONE),
        "parts of strings": (parts("Hello"), NONE),
        "an empty part": (parts({}), NONE),
        "text as null": (parts({"text": None}), NONE),
        "text as a number": (parts({"text": 42}), NONE),
        "blank text": (parts({"text": " \n"}), NONE),
        "only a thought": (parts({"text": "hm", "thought": True}), NONE),
        "only a signature": (parts({"text": "", "thoughtSignature": "c2ln"}), NONE),
        "a signature as a number": (parts({**SAYS, "thoughtSignature": 7}), NONE),
        "a part of a future kind": (parts({"hologram": {"shape": []}}, SAYS), DONE),
        "only a part of a future kind": (parts({"hologram": {}}), NONE),
        "a call as text": (parts({"functionCall": "add"}), NONE),
        "a call as null": (parts({"functionCall": None}, SAYS), NONE),
        "a call without a name": (parts({"functionCall": {"args": {"a": 1, "b": 2}}}), NONE),
        "a name as a list": (parts(function(["add"])), NONE),
        "a call in pieces": (parts(function(partialArgs=[{"jsonPath": "$.a"}], willContinue=True)), NONE),
        "a call of the service's own": (parts({"toolCall": {"id": "x", "name": "add"}}), NONE),
        "cut at its length": (parts(SAYS, finish="MAX_TOKENS"), NONE),
        "filtered": (parts(SAYS, finish="SAFETY"), NONE),
        "a call it could not write": (parts(SAYS, finish="MALFORMED_FUNCTION_CALL"), NONE),
        "a finish that is none": (parts(SAYS, finish="BECAUSE"), DONE),
        "a finish as null": (parts(SAYS, finish=None), DONE),
        "a finish as a number": (parts(SAYS, finish=7), DONE),
        "only a second candidate": (
            {"candidates": [{"index": 1, "content": {"parts": [SAYS]}, "finishReason": "STOP"}]},
            NONE,
        ),
        "a blocked prompt": ({"promptFeedback": {"blockReason": "OTHER"}}, NONE),
        "a blocked prompt beside a reply": (parts(SAYS, promptFeedback={"blockReason": "OTHER"}), NONE),
        "feedback as text": (parts(SAYS, promptFeedback="fine"), DONE),
        "counts as text": (parts(SAYS, usageMetadata={"promptTokenCount": "many"}), DONE),
        "counts below zero": (parts(SAYS, usageMetadata={"promptTokenCount": -5}), DONE),
        "counts beyond reason": (parts(SAYS, usageMetadata={"promptTokenCount": 10**30}), DONE),
        "counts as a list": (parts(SAYS, usageMetadata=[1, 2]), DONE),
        "a model as a number": (parts(SAYS, modelVersion=4), DONE),
        "an error": ({"error": {"code": 503, "message": "gone", "status": "UNAVAILABLE"}}, NONE),
        "an error as text": ({"error": "gone"}, NONE),
        "an error beside a reply": (parts(SAYS, error={"message": "gone"}), NONE),
        "no error beside a reply": (parts(SAYS, error=None), DONE),
        "half a surrogate": (parts({"text": "Hello \ud800"}), NONE),
        "control characters": (parts({"text": "Hello \u0000\u001b[2J"}), DONE),
    },
    "anthropic": {
        "an empty object": ({}, NONE),
        "a string": ("hello", NONE),
        "a list": ([block(TEXT)], NONE),
        "no content": ({"type": "message", "stop_reason": "end_turn"}, NONE),
        "null content": ({"type": "message", "content": None}, NONE),
        "content as text": ({"type": "message", "content": "Hello"}, NONE),
        "content as an object": ({"type": "message", "content": TEXT}, NONE),
        "empty content": (block(), NONE),
        "content of null": (block(None), NONE),
        "content of strings": (block("Hello"), NONE),
        "a block without type": (block({"text": "Hello"}), NONE),
        "a block of a future type": (block({"type": "hologram", "shape": []}, TEXT), DONE),
        "text as null": (block({"type": "text", "text": None}), NONE),
        "text as a number": (block({"type": "text", "text": 42}), NONE),
        "text as a list": (block({"type": "text", "text": ["Hello"]}), NONE),
        "blank text": (block({"type": "text", "text": " \n"}), NONE),
        "only thinking": (block({"type": "thinking", "thinking": "hm", "signature": "x"}), NONE),
        "thinking without signature": (block({"type": "thinking", "thinking": "hm"}, TEXT), DONE),
        "redacted thinking without data": (block({"type": "redacted_thinking"}, TEXT), NONE),
        "a call without id": (block({"type": "tool_use", "name": "add", "input": {}}, stop="tool_use"), NONE),
        "a call without name": (block({"type": "tool_use", "id": "x", "input": {}}, stop="tool_use"), NONE),
        "an id as a number": (
            block({"type": "tool_use", "id": 7, "name": "add", "input": {}}, stop="tool_use"),
            NONE,
        ),
        "a name as a list": (
            block({"type": "tool_use", "id": "x", "name": ["add"], "input": {}}, stop="tool_use"),
            NONE,
        ),
        "calls announced and not made": (block(stop="tool_use"), NONE),
        "cut at its length": (block(TEXT, stop="max_tokens"), NONE),
        "the window is full": (block(TEXT, stop="model_context_window_exceeded"), NONE),
        "refused": (block(TEXT, stop="refusal"), NONE),
        "refused without a word": (block(stop="refusal"), NONE),
        "a stop that is none": (block(TEXT, stop="because"), DONE),
        "a stop as null": (block(TEXT, stop=None), DONE),
        "a stop as a number": (block(TEXT, stop=7), DONE),
        "counts as text": (block(TEXT, usage={"input_tokens": "many"}), DONE),
        "counts below zero": (block(TEXT, usage={"input_tokens": -1, "output_tokens": True}), DONE),
        "counts beyond reason": (block(TEXT, usage={"input_tokens": 10**30}), DONE),
        "counts as null": (block(TEXT, usage=None), DONE),
        "a model as a number": (block(TEXT, model=4), DONE),
        "an error": ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, NONE),
        "an error without words": ({"type": "error"}, NONE),
        "an error as text": ({"type": "error", "error": "gone"}, NONE),
        "half a surrogate": (block({"type": "text", "text": "Hello \ud800"}), NONE),
        "control characters": (block({"type": "text", "text": "Hello \u0000\u001b[2J"}), DONE),
    },
}


def chunk(finish: Json = None, **delta: Json) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(arguments: Json = '{"a":1,"b":2}', name: Json = "add", **fields: Json) -> Json:
    return {"index": 0, "id": "c1", "function": {"name": name, "arguments": arguments}, **fields}


def start(index: Json = 0, **content: Json) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": content}


def grow(index: Json = 0, **delta: Json) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stop_block(index: Json = 0) -> Json:
    return {"type": "content_block_stop", "index": index}


BEGIN = {"type": "message_start", "message": {"type": "message", "content": [], "usage": {"input_tokens": 3}}}
END = [
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
SAID = [start(type="text", text=""), grow(type="text_delta", text="Hello"), stop_block()]
USED = start(type="tool_use", id="t1", name="add", input={})

STREAMS: dict[str, dict[str, tuple[list[Json], str | None]]] = {
    "openai_responses": responses_shapes.STREAMS,
    "openai_chat": {
        "only the end": (["[DONE]"], NONE),
        "an end before any words": ([chunk("stop"), "[DONE]"], NONE),
        "words and no end": ([chunk(content="Hello")], NONE),
        "words and only the marker": ([chunk(content="Hello"), "[DONE]"], DONE),
        "words after the end": ([chunk("stop", content="Hello"), "[DONE]", chunk(content=" more")], DONE),
        "events after the finish": ([chunk("stop", content="Hel"), chunk(content="lo"), "[DONE]"], DONE),
        "an error in the middle": ([chunk(content="Hel"), {"error": {"message": "gone"}}], NONE),
        "an error after the finish": ([chunk("stop", content="Hello"), {"error": {"message": "gone"}}], NONE),
        "an error as text": ([{"error": "gone"}], NONE),
        "counts alone": ([{"choices": [], "usage": {"prompt_tokens": 3}}, "[DONE]"], NONE),
        "a null delta": ([{"choices": [{"index": 0, "delta": None}]}, chunk("stop"), "[DONE]"], NONE),
        "a delta as text": ([{"choices": [{"index": 0, "delta": "Hello"}]}], NONE),
        "another choice in between": (
            [
                chunk(content="Hello"),
                {"choices": [{"index": 1, "delta": {"content": "!"}}]},
                chunk("stop"),
                "[DONE]",
            ],
            DONE,
        ),
        "half a call and an end": ([chunk(tool_calls=[call('{"a":1')]), "[DONE]"], NONE),
        "half a call and no end": ([chunk(tool_calls=[call('{"a":1')])], NONE),
        "a call without a name": ([chunk(tool_calls=[call(name=None)]), chunk("tool_calls"), "[DONE]"], NONE),
        "arguments before the call": (
            [
                chunk(tool_calls=[{"index": 3, "function": {"arguments": "{}"}}]),
                chunk("tool_calls"),
                "[DONE]",
            ],
            NONE,
        ),
        "calls announced and not made": ([chunk("tool_calls"), "[DONE]"], NONE),
        "a call as a string": ([chunk(tool_calls=["add"])], NONE),
        "not JSON": (["hello"], NONE),
        "JSON cut": (['{"choices": [{"delta": {"content": "x'], NONE),
    },
    "gemini": {
        "only the end": ([parts()], NONE),
        "words and no end": ([parts(SAYS, finish=None)], NONE),
        "words, then the end": ([parts(SAYS, finish=None), parts()], DONE),
        "the end first": ([parts(), parts(SAYS, finish=None)], DONE),
        "an end with every word": ([parts({"text": "Hel"}), parts({"text": "lo"})], DONE),
        "counts alone": ([{"usageMetadata": {"promptTokenCount": 3}}], NONE),
        "nothing in between": ([parts(SAYS, finish=None), {}, {"candidates": []}, parts()], DONE),
        "another candidate in between": (
            [parts(SAYS, finish=None), {"candidates": [{"index": 1, "content": {"parts": [SAYS]}}]}, parts()],
            DONE,
        ),
        "an error in the middle": ([parts(SAYS, finish=None), {"error": {"message": "gone"}}], NONE),
        "an error after the end": ([parts(SAYS), {"error": {"message": "gone"}}], NONE),
        "an error as text": ([{"error": "gone"}], NONE),
        "blocked in the middle": (
            [parts(SAYS, finish=None), {"promptFeedback": {"blockReason": "SAFETY"}}],
            NONE,
        ),
        "filtered without a word": ([{"candidates": [{"finishReason": "SAFETY"}]}], NONE),
        "a call and no end": ([parts(function(args={"a": 1, "b": 2}), finish=None)], NONE),
        "a call it could not write": (
            [
                parts(function(args={"a": 1, "b": 2}), finish=None),
                {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]},
            ],
            NONE,
        ),
        "a call cut at its length": ([parts(function(args={"a": 1}), finish="MAX_TOKENS")], NONE),
        "all in a list": ([json.dumps([parts(SAYS, finish=None), parts()])], DONE),
        "the last word of another wire": ([parts(SAYS), "[DONE]"], DONE),
        "only that word": ([parts(SAYS, finish=None), "[DONE]"], NONE),
        "not JSON": (["hello"], NONE),
        "JSON cut": ([parts(SAYS, finish=None), '{"candidates": [{"content": {"par'], NONE),
    },
    "anthropic": {
        "only the beginning": ([BEGIN], NONE),
        "only the end": ([*END], NONE),
        "nothing between": ([BEGIN, *END], NONE),
        "no beginning": ([*SAID, *END], NONE),
        "no end": ([BEGIN, *SAID], NONE),
        "no end of the block": ([BEGIN, *SAID[:2], *END], NONE),
        "a block that never began": ([BEGIN, grow(type="text_delta", text="Hello"), *END], None),
        "an end before the words": ([BEGIN, END[1], *SAID], NONE),
        "two beginnings": ([BEGIN, BEGIN, *SAID, *END], DONE),
        "a block begun twice": ([BEGIN, SAID[0], *SAID, *END], DONE),
        "a block ended twice": ([BEGIN, *SAID, stop_block(), *END], DONE),
        "pings everywhere": (
            [{"type": "ping"}, BEGIN, {"type": "ping"}, *SAID, {"type": "ping"}, *END],
            DONE,
        ),
        "an event nobody knows": ([BEGIN, {"type": "telepathy"}, *SAID, *END], DONE),
        "a delta nobody knows": ([BEGIN, SAID[0], grow(type="smell_delta"), *SAID[1:], *END], DONE),
        "a null delta": (
            [BEGIN, SAID[0], {"type": "content_block_delta", "index": 0}, *SAID[1:], *END],
            DONE,
        ),
        "text as a number": ([BEGIN, SAID[0], grow(type="text_delta", text=42), SAID[2], *END], NONE),
        "an index as text": ([BEGIN, start("0", type="text", text="")], NONE),
        "an error in the middle": (
            [BEGIN, *SAID[:2], {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}],
            NONE,
        ),
        "an error without words": ([BEGIN, {"type": "error"}], NONE),
        "half a call": ([BEGIN, USED, grow(type="input_json_delta", partial_json='{"a":1'), *END], NONE),
        "a call cut at its length": (
            [
                BEGIN,
                USED,
                grow(type="input_json_delta", partial_json='{"a":1'),
                stop_block(),
                {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
                END[1],
            ],
            NONE,
        ),
        "arguments for a block of text": (
            [BEGIN, SAID[0], grow(type="input_json_delta", partial_json="{}"), *SAID[1:], *END],
            DONE,
        ),
        "not JSON": (["hello"], NONE),
        "JSON cut": ([BEGIN, '{"type": "content_block_del'], NONE),
    },
}


def _case(table: dict[str, dict[str, Any]]) -> list[Any]:
    return [
        pytest.param(wire, *case, id=f"{wire}: {name}")
        for wire, cases in table.items()
        for name, case in cases.items()
    ]


def _judge(outcome: Any, wire: str, expected: str | None) -> None:
    check_sound(outcome, wire)
    assert outcome.ran == []
    if expected is not None:
        assert (outcome.result.state is RunState.COMPLETED) == (expected == DONE), outcome.result


@pytest.mark.parametrize(("wire", "body", "expected"), _case(WHOLE))
async def test_a_whole_reply(wire: str, body: Json, expected: str | None) -> None:
    _judge(await hostile_run(wire, json.dumps(body).encode(), streamed=False), wire, expected)


@pytest.mark.parametrize(("wire", "body", "expected"), _case(WHOLE))
async def test_the_same_where_a_stream_was_wanted(wire: str, body: Json, expected: str) -> None:
    _judge(await hostile_run(wire, json.dumps(body).encode(), streamed=True), wire, None)


@pytest.mark.parametrize(("wire", "events", "expected"), _case(STREAMS))
async def test_a_stream(wire: str, events: list[Json], expected: str | None) -> None:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    body = "".join(f"data: {line}\n\n" for line in lines).encode()
    _judge(await hostile_run(wire, body, streamed=True), wire, expected)
