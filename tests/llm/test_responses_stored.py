"""Going on from what a service stored, and what is sent instead when it refuses what an earlier reply holds."""

import json
from typing import Any

import msgspec
import pytest
from responses_items import ITEMS, TALK
from wires import HELLO, last, responses

from loom.errors import InvalidRequestError
from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.testing.model_server import ModelServer, served
from loom.testing.scripted import say
from loom.types import ChatMessage, Role, TextPart


def refused(message: str, **fields: Any) -> Any:
    error = {"message": message, "type": "invalid_request_error", **fields}
    return served(status=400, body=json.dumps({"error": error}).encode())


# --- stored conversations -----------------------------------------------------------------------------


async def turn(provider: OpenAIResponsesProvider, talk: list[ChatMessage], text: str) -> None:
    talk.append(ChatMessage(Role.USER, text))
    talk.append((await provider.chat(talk)).message)


def stored(server: ModelServer) -> list[tuple[str | None, list[str]]]:
    """What each request went on from, and what it sent besides."""
    return [
        (
            request.body.get("previous_response_id"),
            [item.get("content") or item["type"] for item in request.body["input"]],
        )
        for request in server.requests
    ]


async def test_only_what_is_new_is_sent_to_a_service_that_stores() -> None:
    async with (
        ModelServer(["one", "two", "three"]) as server,
        responses(server.base_url, store=True) as provider,
    ):
        talk = [ChatMessage(Role.SYSTEM, "Be brief.")]
        await turn(provider, talk, "a")
        await turn(provider, talk, "b")
        # a store between the turns, and a new process
        talk = msgspec.json.decode(msgspec.json.encode(talk), type=list[ChatMessage])
    async with ModelServer(["three"]) as later, responses(later.base_url, store=True) as provider:
        await turn(provider, talk, "c")
    assert stored(server) == [(None, ["Be brief.", "a"]), ("resp_1", ["b"])]
    assert stored(later) == [("resp_2", ["c"])]
    assert [message.text_content for message in talk if message.role is Role.ASSISTANT] == [
        "one",
        "two",
        "three",
    ]


async def test_store_may_be_asked_for_as_an_extension() -> None:
    asked = {"extensions": {"store": True}}
    async with ModelServer(["one", "two"]) as server, responses(server.base_url, **asked) as provider:
        talk: list[ChatMessage] = []
        await turn(provider, talk, "a")
        await turn(provider, talk, "b")
    assert stored(server)[1] == ("resp_1", ["b"])


@pytest.mark.parametrize(
    "change",
    [
        lambda talk: talk.pop(0),
        lambda talk: talk.insert(1, ChatMessage(Role.SYSTEM, "New rules.")),
        lambda talk: talk.__setitem__(1, ChatMessage(Role.USER, "a summary of what was said")),
        lambda talk: talk.__setitem__(
            2, msgspec.structs.replace(talk[2], content=(talk[2].content[0], TextPart("edited")))
        ),
    ],
)
async def test_a_conversation_that_changed_is_sent_whole(change: Any) -> None:
    # What the service stored is not what we hold: going on from it would bring back what was taken out.
    async with ModelServer(["one", "two"]) as server, responses(server.base_url, store=True) as provider:
        talk = [ChatMessage(Role.SYSTEM, "Be brief.")]
        await turn(provider, talk, "a")
        change(talk)
        await turn(provider, talk, "b")
    previous, items = stored(server)[1]
    assert (previous, items[-1]) == (None, "b")
    assert len(items) == len(talk) - 1


async def test_a_fork_goes_on_from_the_reply_it_shares() -> None:
    async with (
        ModelServer(["one", "two", "other"]) as server,
        responses(server.base_url, store=True) as provider,
    ):
        talk: list[ChatMessage] = []
        await turn(provider, talk, "a")
        fork = list(talk)
        await turn(provider, talk, "b")
        # the fork got a reply from elsewhere in between
        fork += [ChatMessage(Role.USER, "x"), ChatMessage(Role.ASSISTANT, "said elsewhere")]
        await turn(provider, fork, "c")
    assert stored(server)[2] == ("resp_1", ["x", "said elsewhere", "c"])


async def test_a_conversation_that_ends_with_the_model_is_sent_whole() -> None:
    async with ModelServer(["one", "two"]) as server, responses(server.base_url, store=True) as provider:
        talk: list[ChatMessage] = []
        await turn(provider, talk, "a")
        await provider.chat(talk)
    assert stored(server)[1] == (None, ["a", "one"])


async def test_a_model_that_does_not_reason_cannot_go_on_from_one_that_does() -> None:
    refusal = refused("Reasoning input items can only be provided to a reasoning or computer use model.")
    script = [say("one", thinking="hm"), refusal, "two"]
    async with ModelServer(script) as server, responses(server.base_url, store=True) as provider:
        talk: list[ChatMessage] = []
        await turn(provider, talk, "a")
        await provider.chat([*talk, ChatMessage(Role.USER, "b")], model="gpt-4o")
    assert stored(server)[1:] == [("resp_1", ["b"]), (None, ["a", "one", "b"])]


async def test_a_service_that_keeps_nothing_is_not_told_of_marks() -> None:
    async with ModelServer(["one", "two"]) as server:
        talk: list[ChatMessage] = []
        async with responses(server.base_url, store=True) as provider:
            await turn(provider, talk, "a")
        async with responses(server.base_url) as provider:
            await turn(provider, talk, "b")
    assert stored(server)[1] == (None, ["a", "one", "b"])


GONE = [
    (400, '{"error":{"message":"Previous response with id \'resp_1\' not found.","type":"invalid_request_error",'
          '"param":"previous_response_id","code":"previous_response_not_found"}}'),
    (404, '{"error":{"message":"Previous response not found"}}'),
    (400, '{"error":{"message":"Invalid `previous_response_id`.","type":"invalid_request_error"}}'),
]  # fmt: skip


@pytest.mark.parametrize(("status", "told"), GONE)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_service_has_forgotten_is_sent_again(status: int, told: str, stream: bool) -> None:
    reply = say("one", thinking="hm", signature="rs_a")
    script = [reply, served(status=status, body=told.encode()), "two"]
    async with ModelServer(script) as server, responses(server.base_url, store=True) as provider:
        talk: list[ChatMessage] = []
        await turn(provider, talk, "a")
        talk.append(ChatMessage(Role.USER, "b"))
        again = await (last(provider, talk) if stream else provider.chat(talk))
    assert again.message.text_content == "two"
    assert stored(server)[1][0] == "resp_1"
    assert stored(server)[2][0] is None
    assert [item.get("type", item.get("role")) for item in server.requests[2].body["input"]] == [
        "user", "reasoning", "message", "user",
    ]  # fmt: skip


# --- refused for what an earlier reply holds ----------------------------------------------------------


UNREASONING = [
    refused("Encrypted content is not supported with this model.", param="include"),
    refused("Reasoning input items can only be provided to a reasoning or computer use model."),
]
BARE = [
    {"role": "assistant", "phase": "commentary", "content": "Adding."},
    {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1,"b":2}'},
    {"type": "function_call", "call_id": "c2", "name": "add", "arguments": '{"a":3, "b":4}'},
]


@pytest.mark.parametrize("refusal", UNREASONING)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_does_not_reason_is_not_asked_to_again(refusal: Any, stream: bool) -> None:
    async with ModelServer([refusal, "one", "two"]) as server, responses(server.base_url) as provider:
        await (last(provider, TALK) if stream else provider.chat(TALK))
        await provider.chat(TALK)
    first, second, third = [request.body for request in server.requests]
    assert first["input"] == ITEMS
    assert "include" not in second
    assert second["input"][2:5] == BARE
    assert (third["input"], "include" in third) == (second["input"], False)


async def test_another_model_is_still_asked_to_reason() -> None:
    async with ModelServer([UNREASONING[0], "one", "two"]) as server, responses(server.base_url) as provider:
        await provider.chat(TALK, model="gpt-4o")
        await provider.chat(TALK, model="gpt-5")
    assert server.requests[2].body["input"] == ITEMS


async def test_reasoning_nobody_can_decrypt_is_left_out_this_once() -> None:
    refusal = refused("The encrypted content enc== could not be verified.", code="invalid_encrypted_content")
    async with ModelServer([refusal, "one", "two"]) as server, responses(server.base_url) as provider:
        await provider.chat(TALK)
        await provider.chat(HELLO)
    assert server.requests[1].body["input"][2:5] == BARE
    assert server.requests[2].body["include"] == ["reasoning.encrypted_content"]


NAMELESS = [{key: value for key, value in ITEMS[2].items() if key != "id"}, *BARE]


async def test_a_service_that_looks_ids_up_is_sent_none() -> None:
    refusal = refused("Item with id 'rs_1' not found. Items are not persisted when `store` is set to false.")
    async with ModelServer([refusal, "one", "two"]) as server, responses(server.base_url) as provider:
        await provider.chat(TALK)
        await provider.chat(TALK)
    assert server.requests[1].body["input"][2:6] == NAMELESS
    assert server.requests[2].body == server.requests[1].body


async def test_a_refusal_of_items_is_met_twice_and_no_more() -> None:
    refusal = refused("Item 'rs_1' of type 'reasoning' was provided without its required following item.")
    async with ModelServer([refusal] * 4) as server, responses(server.base_url) as provider:
        with pytest.raises(InvalidRequestError, match="required following item"):
            await provider.chat(TALK)
        assert [request.body["input"][2:6] for request in server.requests[1:]] == [
            NAMELESS,
            [*BARE, ITEMS[6]],
        ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("why", ["Unknown parameter: 'x'.", "Previous response with id 'resp_0' not found."])
async def test_any_other_refusal_is_final(why: str, stream: bool) -> None:
    async with ModelServer([refused(why), "never"]) as server:
        async with responses(server.base_url, store=True) as provider:
            with pytest.raises(InvalidRequestError, match=why[:12]):
                await (last(provider, TALK) if stream else provider.chat(TALK))
        assert len(server.requests) == 1


async def test_a_refusal_after_something_was_shown_is_final() -> None:
    events = [
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Once"},
        {"type": "error", "code": "invalid_request_error",
         "message": "Encrypted content is not supported with this model."},
    ]  # fmt: skip
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    reply = served(body=stream, headers={"Content-Type": "text/event-stream"})
    async with ModelServer([reply, "never"]) as server, responses(server.base_url) as provider:
        with pytest.raises(InvalidRequestError):
            await last(provider, TALK)
        assert len(server.requests) == 1
