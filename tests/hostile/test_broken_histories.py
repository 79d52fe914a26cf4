"""Conversations that were edited, cut or joined: every wire is asked with one that its service takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from clients import CLIENTS
from conversation import BY_NAME
from raw_server import Reply, http, raw_server
from runs import PAIRED

from loom.llm.history import NO_RESULT, repaired
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.testing.scripted import say
from loom.types import ChatMessage, ImagePart, Role, TextPart, ToolCall

WIRES = sorted(CLIENTS)
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def user(text: str) -> ChatMessage:
    return ChatMessage(Role.USER, text)


def calls(*ids: str, text: str | None = None) -> ChatMessage:
    return ChatMessage(Role.ASSISTANT, text, tool_calls=tuple(ToolCall(name, "add", "{}") for name in ids))


def result(call_id: str, text: str = "3") -> ChatMessage:
    return ChatMessage(Role.TOOL, text, tool_call_id=call_id, name="add")


BROKEN: dict[str, list[ChatMessage]] = {
    "a call without result": [user("u1"), calls("a"), user("u2")],
    "a call at the end": [user("u1"), calls("a")],
    "one of two": [user("u1"), calls("a", "b"), result("b", "kept"), user("u2")],
    "a result without call": [user("u1"), result("x", "kept"), user("u2")],
    "a result at the start": [result("x", "kept"), user("u1")],
    "a result among others": [
        user("u1"),
        calls("a", "b"),
        result("a"),
        result("x", "kept"),
        result("b"),
        user("u2"),
    ],
    "a result too late": [user("u1"), calls("a"), user("u2"), result("a", "kept")],
    "a result told twice": [user("u1"), calls("a"), result("a"), result("a", "kept"), user("u2")],
    "a result before its call": [user("u1"), result("a", "kept"), calls("a"), user("u2")],
    "an instruction between": [user("u1"), calls("a"), ChatMessage(Role.SYSTEM, "sys"), result("a", "kept")],
    "a result with a picture": [
        user("u1"),
        ChatMessage(Role.TOOL, (TextPart("kept"), ImagePart(PIXEL)), tool_call_id="x"),
        user("u2"),
    ],
    "an id used again": [user("u1"), calls("a"), calls("a"), result("a", "kept"), user("u2")],
    "text with its call": [user("u1"), calls("a", text="said"), user("u2")],
}


async def asked(wire: str, history: Sequence[ChatMessage], *, streamed: bool = False, **options: Any) -> Any:
    spoken, bodies = BY_NAME[wire], list[bytes]()

    def reply(request: bytes) -> Reply:
        bodies.append(request.partition(b"\r\n\r\n")[2])
        done = say("Done.")
        if streamed:
            return http(b"".join(spoken.stream(done, 1, None)))
        return http(spoken.whole(done, 1), kind="application/json")

    async with raw_server(reply) as server, CLIENTS[wire](server.url, **options) as provider:
        if streamed:
            _ = [event async for event in provider.chat_stream(history)]
        else:
            await provider.chat(history)
    return json.loads(bodies[0])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("history", BROKEN.values(), ids=BROKEN)
async def test_review_k_a_broken_history_is_mended_before_it_is_sent(
    history: list[ChatMessage], streamed: bool, wire: str
) -> None:
    sent = await asked(wire, history, streamed=streamed)
    PAIRED[wire](sent)
    told = json.dumps(sent)
    for text in ("u1", "u2", "kept", "said", "sys"):
        assert (text in told) == any(text in repr(message.content) for message in history)
    assert ("iVBORw0KGgo=" in told) == ("iVBORw0KGgo=" in repr(history))


def test_a_sound_history_is_the_very_same() -> None:
    sound = [user("u1"), calls("a", "b"), result("b"), result("a"), calls("a"), result("a"), user("u2")]
    assert repaired(sound) is sound


def test_review_k_an_unanswered_call_gets_a_result_that_says_so() -> None:
    mended = repaired([calls("a", "b"), result("b"), user("u")])
    assert [message.tool_call_id for message in mended] == [None, "a", "b", None]
    assert (mended[1].content, mended[1].is_error) == (NO_RESULT, True)


@pytest.mark.parametrize("wire", ["anthropic", "gemini", "openai_responses"])
async def test_review_k_tokens_are_counted_of_what_would_be_sent(wire: str) -> None:
    bodies: list[bytes] = []

    def reply(request: bytes) -> Reply:
        bodies.append(request.partition(b"\r\n\r\n")[2])
        return http(b'{"input_tokens":7,"totalTokens":7}', kind="application/json")

    async with raw_server(reply) as server, CLIENTS[wire](server.url) as provider:
        assert await provider.count_tokens(BROKEN["a call without result"]) == 7  # type: ignore[attr-defined]
    assert NO_RESULT in bodies[0].decode()


LONG = "call_" + "x" * 80
ALIKE = LONG + "y"


@pytest.mark.parametrize("wire", ["anthropic", "openai_chat", "openai_responses"])
async def test_review_k_long_ids_of_another_service_are_shortened_alike(wire: str) -> None:
    sent = await asked(wire, [user("u1"), calls(LONG, ALIKE), result(LONG), result(ALIKE), user("u2")])
    PAIRED[wire](sent)
    assert "x" * 65 not in json.dumps(sent)


async def test_review_k_ids_for_mistral_are_nine_letters_and_digits() -> None:
    bodies: list[bytes] = []

    def reply(request: bytes) -> Reply:
        bodies.append(request.partition(b"\r\n\r\n")[2])
        return http(BY_NAME["openai_chat"].whole(say("Done."), 1), kind="application/json")

    history = [
        user("u"),
        calls("abcDEF123", LONG, ALIKE, "a-b"),
        *map(result, ("abcDEF123", LONG, ALIKE, "a-b")),
    ]
    async with (
        raw_server(reply) as server,
        OpenAICompatibleProvider(server.url, short_call_ids=True) as provider,
    ):
        await provider.chat(history)
    sent = json.loads(bodies[0])
    PAIRED["openai_chat"](sent)
    ids = [call["id"] for call in sent["messages"][1]["tool_calls"]]
    assert ids[0] == "abcDEF123"
    assert len(set(ids)) == 4
    assert all(len(name) == 9 and name.isalnum() for name in ids)
