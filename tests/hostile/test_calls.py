"""Tool calls no model should make, on every wire, through a whole agent.

A call runs with valid arguments or not at all; every call gets its result; what is asked next is sound.
"""

from __future__ import annotations

from typing import Any

import pytest
from clients import CLIENTS
from conversation import BY_NAME
from runs import check_sound, hostile_run

from loom.testing.scripted import say
from loom.types import ChatResponse, RunState, StopReason, ToolCall

WIRES = sorted(CLIENTS)
GOOD = '{"a":1,"b":2}'
NONE: list[Any] = []
ONCE = [(1, 2)]

# What the arguments are, and what runs; None: either, as long as it is sound.
ARGUMENTS: dict[str, tuple[str, list[Any] | None]] = {
    "valid": (GOOD, ONCE),
    "white space around": (f"\n  {GOOD}\t\n", ONCE),
    "escaped keys": ('{"\\u0061":1,"b":2}', ONCE),
    "nothing": ("", NONE),
    "null": ("null", NONE),
    "true": ("true", NONE),
    "a number": ("42", NONE),
    "text": ('"1 and 2"', NONE),
    "an empty list": ("[]", NONE),
    "the values as a list": ("[1,2]", NONE),
    "an object in a list": (f"[{GOOD}]", NONE),
    "an empty object": ("{}", NONE),
    "one is missing": ('{"a":1}', NONE),
    "one is null": ('{"a":1,"b":null}', NONE),
    "one is text": ('{"a":1,"b":"x"}', NONE),
    "one is a fraction": ('{"a":1,"b":2.5}', NONE),
    "one is a bool": ('{"a":true,"b":2}', NONE),
    "one is an object": ('{"a":{"value":1},"b":2}', NONE),
    "one is too many": ('{"a":1,"b":2,"c":3}', NONE),
    "inside another object": ('{"arguments":{"a":1,"b":2}}', NONE),
    "a key in capitals": ('{"A":1,"B":2}', NONE),
    "never closed": ('{"a":1,"b":2', NONE),
    "cut in a string": ('{"a":1,"b":"2', NONE),
    "only opened": ("{", NONE),
    "a trailing comma": ('{"a":1,"b":2,}', NONE),
    "keys without quotes": ("{a:1,b:2}", NONE),
    "single quotes": ("{'a':1,'b':2}", NONE),
    "a comment": ('{"a":1,/* one */"b":2}', NONE),
    "two objects": ('{"a":1}{"b":2}', NONE),
    "text before": (f"Sure! {GOOD}", NONE),
    "in a fence": (f"```json\n{GOOD}\n```", NONE),
    "infinite": ('{"a":1e999,"b":2}', NONE),
    "not a number": ('{"a":NaN,"b":2}', NONE),
    "a huge number": ('{"a":' + "9" * 400 + ',"b":2}', [(10**400 - 1, 2)]),
    "nested deep": ('{"a":' + "[" * 20_000 + "]" * 20_000 + ',"b":2}', NONE),
    "nested without end": ('{"a":' * 50_000, NONE),
    "ten megabytes": ('{"a":1,"b":"' + "x" * 10_000_000 + '"}', NONE),
    "half a surrogate": ('{"a":1,"b":2,"\\ud800":3}', NONE),
    "a NUL": ('{"a":1,"b":2}\u0000', NONE),
    "a byte order mark": ("\ufeff" + GOOD, None),
    "the same key twice": ('{"a":7,"a":1,"b":2}', None),
    "a private key": ('{"__class__":"os","a":1,"b":2}', NONE),
}

IDS = {
    "missing": "null",
    "empty": '""',
    "a number": "7",
    "an object": '{"id":"x"}',
    "a list": "[]",
    "white space": '"  "',
    "long": '"' + "i" * 5000 + '"',
    "another service's": '"functions.add:0"',
    "with a quote": '"a\\"b"',
    "with lines": '"a\\nb\\r\\nc"',
    "unicode": '"日本🌍"',
    "a NUL": '"a\\u0000b"',
}

# What the name is, and whether the tool runs.
NAMES: dict[str, tuple[str, bool]] = {
    "right": ('"add"', True),
    "unknown": ('"rm_rf"', False),
    "missing": ("null", False),
    "empty": ('""', False),
    "a number": ("7", False),
    "an object": ('{"name":"add"}', False),
    "in capitals": ('"ADD"', False),
    "with a space": ('"add "', False),
    "with a prefix": ('"functions.add"', False),
    "a path": ('"../add"', False),
    "a special method": ('"__init__"', False),
    "an attribute of the tool": ('"add.invoke"', False),
    "a look-alike": ('"\\u0430dd"', False),
    "long": ('"' + "n" * 5000 + '"', False),
    "with lines": ('"add\\nadd"', False),
    "a NUL": ('"add\\u0000"', False),
}


def told(wire: str, reply: ChatResponse, streamed: bool) -> bytes:
    spoken = BY_NAME[wire]
    return b"".join(spoken.stream(reply, 1, 2000)) if streamed else spoken.whole(reply, 1)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", ARGUMENTS.values(), ids=ARGUMENTS)
async def test_arguments(case: tuple[str, list[Any] | None], streamed: bool, wire: str) -> None:
    arguments, expected = case
    body = told(wire, say("", ToolCall("call_1", "add", arguments)), streamed)
    outcome = await hostile_run(wire, body, streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran in ([], ONCE) if expected is None else outcome.ran == expected


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("raw", IDS.values(), ids=IDS)
async def test_ids(raw: str, streamed: bool, wire: str) -> None:
    body = told(wire, say("", ToolCall("@id@", "add", GOOD)), streamed)
    outcome = await hostile_run(wire, body.replace(b'"@id@"', raw.encode()), streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran in ([], ONCE)
    assert bool(outcome.ran) == (outcome.result.state is RunState.COMPLETED)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", NAMES.values(), ids=NAMES)
async def test_names(case: tuple[str, bool], streamed: bool, wire: str) -> None:
    raw, runs = case
    body = told(wire, say("", ToolCall("call_1", "@name@", GOOD)), streamed)
    outcome = await hostile_run(wire, body.replace(b'"@name@"', raw.encode()), streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran == (ONCE if runs else [])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("number", [2, 100, 129, 3000])
async def test_review_e1_many_calls_with_one_id(number: int, streamed: bool, wire: str) -> None:
    body = told(wire, say("", *(ToolCall("same", "add", GOOD) for _ in range(number))), streamed)
    outcome = await hostile_run(wire, body, streamed=streamed)
    check_sound(outcome, wire)
    assert outcome.ran == ONCE


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "stop",
    [StopReason.LENGTH, StopReason.CONTEXT_FULL, StopReason.CONTENT_FILTER, StopReason.REFUSAL],
)
@pytest.mark.parametrize(
    "arguments", [GOOD, '{"a":1,"b', ""], ids=["whole call", "half a call", "no arguments"]
)
async def test_review_d4_calls_of_a_reply_that_was_cut_short_do_not_run(
    arguments: str, stop: StopReason, streamed: bool, wire: str
) -> None:
    reply = say("Well,", ToolCall("call_1", "add", arguments), stop_reason=stop)
    outcome = await hostile_run(wire, told(wire, reply, streamed), streamed=streamed)
    check_sound(outcome, wire)
    untellable = wire == "openai_responses" and stop is StopReason.CONTEXT_FULL  # it has no word for it
    assert outcome.ran == (ONCE if untellable and arguments == GOOD else [])


# A paused reply is asked on (tests/llm/test_paused_replies.py), and not every wire has a word for a full window.
TELLABLE = [stop for stop in StopReason if stop not in (StopReason.PAUSED, StopReason.CONTEXT_FULL)]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("stop", TELLABLE)
@pytest.mark.parametrize("text", ["", " \n", "Well"])
async def test_a_reply_without_calls_is_what_it_says(
    text: str, stop: StopReason, streamed: bool, wire: str
) -> None:
    outcome = await hostile_run(wire, told(wire, say(text, stop_reason=stop), streamed), streamed=streamed)
    check_sound(outcome, wire)
    good = text == "Well" and stop in (StopReason.STOP, StopReason.UNKNOWN, StopReason.TOOL_USE)
    assert (outcome.result.state is RunState.COMPLETED) == good
    assert outcome.ran == []
