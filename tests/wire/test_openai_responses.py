"""Recorded traffic of the Responses API: our requests, our replies, and those of OpenAI's own client beside them.

Out of scope, and named where they are met: background mode (a reply is asked for and waited for, not fetched
later) and the endpoint that compacts a conversation (Loom sums up its own log). The items they leave in a
conversation are kept like any other that only the service understands.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from heard import four_counts
from recordings import PIECES, Exchange, Recording, replaying
from responses_cases import (
    EVERY,
    FIXTURES,
    OURS,
    REFUSALS,
    REPLIES,
    all_cases,
    ask,
    exchanges,
    provider,
    waits,
    wanted,
)
from responses_talk import asked, final, replied, same

from loom.errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.base import ContentDeltaEvent, ThinkingDeltaEvent, ToolCallDeltaEvent
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.openai_replay import items_of
from loom.types import (
    ChatMessage,
    OpaquePart,
    Role,
    TextPart,
    ThinkingPart,
)

# --- replies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("exchange", REPLIES)
async def test_a_recorded_reply_is_read_as_it_stands(exchange: Exchange, piece: int | None) -> None:
    if not exchange.streamed:
        piece = None if piece in (1, 64) else piece  # a body in one piece has no seams worth four tries
    async with replaying([exchange], piece) as replay:
        shown, reply = await ask(replay.url, exchange)
    expected = replied(final(exchange))
    message = reply.message
    parts = () if message.content is None or isinstance(message.content, str) else message.content
    said = message.content if isinstance(message.content, str) else ""
    assert said + "".join(part.text for part in parts if isinstance(part, TextPart)) == expected.text
    assert [(c.id, c.name, c.arguments) for c in message.tool_calls or ()] == expected.calls
    assert [part.text for part in parts if isinstance(part, ThinkingPart) and part.text] == expected.thoughts
    assert (four_counts(reply), reply.stop_reason, reply.model) == (
        expected.usage,
        expected.stop,
        expected.model,
    )
    if exchange.streamed:
        texts = [event.delta for event in shown if isinstance(event, ContentDeltaEvent)]
        assert "".join(texts) == expected.text
        thoughts = [event.delta for event in shown if isinstance(event, ThinkingDeltaEvent)]
        assert "".join(thoughts).replace("\n\n", "") == "".join(expected.thoughts).replace("\n\n", "")
        grown: dict[int, str] = {}
        for event in shown:
            if isinstance(event, ToolCallDeltaEvent):
                grown[event.index] = grown.get(event.index, "") + (event.arguments_delta or "")
        assert [grown[index] for index, _ in enumerate(expected.calls)] == [
            call[2] for call in expected.calls
        ]


@pytest.mark.parametrize("exchange", [p for p in REPLIES if p.values[0].streamed])
async def test_a_stream_and_its_last_event_alone_are_one_reply(exchange: Exchange) -> None:
    body = json.dumps(final(exchange)).encode()
    alone = Exchange(
        "POST", "/v1/responses", exchange.request, 200, {"content-type": "application/json"}, body, False
    )
    async with replaying([exchange, alone]) as replay:
        _, streamed = await ask(replay.url, exchange)
        _, whole = await ask(replay.url, alone)
    assert streamed == whole


@pytest.mark.parametrize("exchange", [p for p in REPLIES if replied(final(p.values[0])).kept])
async def test_reasoning_goes_back_as_it_came(exchange: Exchange) -> None:
    async with replaying([exchange]) as replay:
        _, reply = await ask(replay.url, exchange)
    assert same({"input": items_of(reply.message)})["input"] == replied(final(exchange)).kept


def expected_error(exchange: Exchange) -> type[LoomError]:
    said = json.loads(exchange.body)["error"] if exchange.status != 200 else final(exchange)["error"]
    if said.get("code") == "context_length_exceeded":
        return ContextOverflowError
    by_code = {"server_error": ProviderUnavailableError, "rate_limit_exceeded": RateLimitError}
    by_status = {400: InvalidRequestError, 401: AuthenticationError}
    return by_code.get(said.get("code")) or by_status[exchange.status]


@pytest.mark.parametrize("exchange", REFUSALS)
async def test_a_recorded_refusal_is_its_typed_error(exchange: Exchange) -> None:
    said = json.loads(exchange.body)["error"] if exchange.status != 200 else final(exchange)["error"]
    async with replaying([exchange] * 3) as replay:
        with pytest.raises(LoomError) as caught:
            await ask(replay.url, exchange)
    assert type(caught.value) is expected_error(exchange)
    assert said["message"][:60] in str(caught.value)


# --- requests -----------------------------------------------------------------------------------------

# What the recorded client sent and was refused for, or could not be sent by an agent at all.
# The text after the reasoning was edited: the service refused it, and we leave the reasoning out.
NOT_OURS = {
    "openai_responses/test_openai_responses_thinking_with_modified_history-2",
    "openai_responses/edited-2",
}


def our_requests() -> list[Any]:
    return [parameter for parameter in EVERY if parameter.id not in NOT_OURS]


@pytest.mark.parametrize("exchange", our_requests())
async def test_our_request_says_what_the_recorded_one_said(exchange: Exchange) -> None:
    request = asked(exchange.request)
    ours = provider("http://h", store=request.store)
    outgoing = await ours._request(
        request.messages, request.tools, exchange.request["model"], request.settings, request.stream
    )
    said, recorded = json.loads(outgoing.body), same(exchange.request)
    if request.previous:
        # The reply it goes on from is not in the request: see the test of stored conversations.
        del recorded["previous_response_id"]
    assert same(said) == recorded
    assert said["include"] == ["reasoning.encrypted_content"]


@pytest.mark.parametrize("exchange", [p for p in EVERY if p.id in NOT_OURS])
async def test_what_the_service_refused_is_not_what_we_send(exchange: Exchange) -> None:
    request = asked(exchange.request)
    outgoing = await provider("http://h")._request(request.messages, None, "gpt-5", None, False)
    (_, edited, _) = json.loads(outgoing.body)["input"]
    assert edited == exchange.request["input"][2]
    assert edited["role"] == "assistant"


def conversations(name: str) -> list[Any]:
    """Recordings and fixtures whose later requests hold the replies to the earlier ones."""
    return [pytest.param(case, id=str(case)) for case in all_cases() if case.case in CONVERSATIONS[name]]


CONVERSATIONS = {
    "carried": {
        "reasoning_and_tools",
        "tool_call",
        "searched",
        "test_openai_responses_thinking_with_tool_calls",
        "chat_function_calling_openai_gpt-5-nano_can_use_parallel_tool_calls",
        "test_native_output",
        "test_openai_responses_model_simple_response_with_tool_call",
    },
    "stored": {"stored", "test_openai_previous_response_id"},
}


@pytest.mark.parametrize("case", conversations("carried"))
async def test_a_conversation_goes_on_with_our_own_reading_of_its_replies(case: Recording) -> None:
    talk: list[ChatMessage] = []
    async with replaying(case.exchanges) as replay:
        for exchange in case.exchanges:
            request = asked(exchange.request)
            # what came from the model is ours, the rest is what the recorded client said
            new = [m for m in request.messages if m.role is not Role.ASSISTANT]
            given = [m for m in talk if m.role is not Role.ASSISTANT]
            talk += new[len(given) :]
            # Some of these clients let the service store what they then sent again; we would send what is new.
            _, reply = await ask(replay.url, exchange, messages=talk, store=False)
            talk.append(reply.message)
    for ours, exchange in zip(replay.requests, case.exchanges, strict=True):
        assert named_alike(ours) == named_alike(exchange.request)


def named_alike(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The input, without ids and states: some clients leave them out, and the service took both."""
    items = same(body)["input"]
    bare = [{name: value for name, value in item.items() if name not in ("id", "status")} for item in items]
    return [
        {**item, "summary": item.get("summary", [])} if item.get("type") == "reasoning" else item
        for item in bare
    ]


@pytest.mark.parametrize("case", conversations("stored"))
async def test_a_stored_conversation_sends_what_is_new(case: Recording) -> None:
    talk: list[ChatMessage] = []
    async with replaying(case.exchanges) as replay:
        for exchange in case.exchanges:
            talk += asked(exchange.request).messages
            _, reply = await ask(replay.url, exchange, messages=talk)
            talk.append(reply.message)
    for ours, exchange in zip(replay.requests, case.exchanges, strict=True):
        assert same(ours) == same(exchange.request)
    assert "previous_response_id" in replay.requests[1]


# --- beside the wire ----------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", exchanges(lambda e: wanted(e) and waits(e)))
async def test_background_mode_is_named_and_not_waited_for(exchange: Exchange) -> None:
    async with replaying([exchange]) as replay:
        with pytest.raises(MalformedReplyError, match=r"status queued.*background mode is not read here"):
            await ask(replay.url, exchange)


@pytest.mark.parametrize("exchange", exchanges(lambda e: e.method == "GET"))
async def test_a_reply_fetched_later_is_a_reply_like_any_other(exchange: Exchange) -> None:
    # Fetching is out of scope; what is fetched is not another format.
    posted = Exchange(
        "POST", "/v1/responses", {"model": "m", "input": []}, 200, exchange.headers, exchange.body, False
    )
    async with replaying([posted]) as replay:
        if waits(posted):
            with pytest.raises(MalformedReplyError, match="background mode"):
                await ask(replay.url, posted, messages=[ChatMessage(Role.USER, "Hi")])
        else:
            _, reply = await ask(replay.url, posted, messages=[ChatMessage(Role.USER, "Hi")])
            assert reply.message.text_content == replied(final(posted)).text


@pytest.mark.parametrize("exchange", exchanges(lambda e: e.path.endswith("/compact")))
async def test_what_compaction_leaves_goes_back_as_it_came(exchange: Exchange) -> None:
    # The endpoint is out of scope; its items are what a conversation may hold.
    output = json.loads(exchange.body)["output"]
    message = ChatMessage(Role.ASSISTANT, tuple(OpaquePart(OURS, json.dumps(item)) for item in output))
    assert items_of(message)[-1] == output[-1]
    assert output[-1]["type"] == "compaction"


@pytest.mark.parametrize("exchange", exchanges(lambda e: e.path.endswith("/chat/completions")))
async def test_a_chat_completion_among_them_is_read_by_its_own_wire(exchange: Exchange) -> None:
    # One recording of this folder went over the other wire, others of DeepSeek's too: told apart, not skipped.
    async with replaying([exchange, exchange]) as replay:
        async with OpenAICompatibleProvider(replay.url, "k", "m", max_retries=0) as chat:
            if exchange.status == 200 and not exchange.streamed:
                body = json.loads(exchange.body)
                reply = await chat.chat([ChatMessage(Role.USER, "Hi")])
                assert reply.message.text_content == body["choices"][0]["message"]["content"]
        async with provider(replay.url) as ours:
            with pytest.raises(LoomError):
                await ours.chat([ChatMessage(Role.USER, "Hi")])


def test_every_case_is_covered() -> None:
    """No recording of this service is passed over: each exchange has a test above."""
    ours = {p.id for p in exchanges(lambda e: True) if "deepseek" not in p.id or "responses" in p.id}
    covered: set[str | None] = {p.id for p in [*REPLIES, *REFUSALS]}
    for keep in (
        lambda e: wanted(e) and waits(e),
        lambda e: e.method == "GET",
        lambda e: e.path.endswith(("/compact", "/input_tokens", "/chat/completions")),
    ):
        covered |= {p.id for p in exchanges(keep)}
    assert ours <= covered
    assert len(FIXTURES) >= 10
