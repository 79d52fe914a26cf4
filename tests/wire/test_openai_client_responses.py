"""OpenAI's own client as an oracle: it reads the same bytes as we do, and is content with our server."""

from __future__ import annotations

import json
import warnings

import pytest
from recordings import Exchange, replaying
from responses_cases import REFUSALS, REPLIES, ask, exchanges, provider
from responses_talk import asked, final, replied, same

from loom.errors import LoomError
from loom.testing.model_server import ModelServer
from loom.testing.scripted import say
from loom.types import ChatResponse, StopReason, ThinkingPart, ToolCall, Usage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what OpenAI's client imports is not ours to mend
    import openai


def client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", max_retries=0)


@pytest.mark.parametrize("exchange", REPLIES)
async def test_openais_client_reads_the_same(exchange: Exchange) -> None:
    async with replaying([exchange, exchange]) as replay:
        _, ours = await ask(replay.url, exchange)
        async with client(replay.url) as theirs:
            if exchange.streamed:
                events = [e async for e in await theirs.responses.create(model="m", input="x", stream=True)]
                read = events[-1].response  # type: ignore[union-attr]
            else:
                read = await theirs.responses.create(model="m", input="x")
    refused = [
        p.refusal
        for item in read.output
        if item.type == "message"
        for p in item.content
        if p.type == "refusal"
    ]
    assert (ours.message.text_content or "") == read.output_text + "".join(refused)
    calls = [
        (i.call_id, i.name, i.arguments)
        for i in read.output
        if i.type == "function_call" and i.status == "completed"
    ]
    assert [(c.id, c.name, c.arguments) for c in ours.message.tool_calls or ()] == calls
    details = read.usage.input_tokens_details
    assert (ours.usage.input_tokens, ours.usage.output_tokens) == (
        read.usage.input_tokens,
        read.usage.output_tokens,
    )
    assert ours.usage.cache_read_tokens == details.cached_tokens
    stops = {"completed": {StopReason.STOP, StopReason.TOOL_USE, StopReason.REFUSAL},
             "incomplete": {StopReason.LENGTH, StopReason.CONTENT_FILTER}}  # fmt: skip
    assert ours.stop_reason in stops.get(read.status, {StopReason.UNKNOWN})
    assert ours.model == read.model


@pytest.mark.parametrize(
    "exchange", [p for p in REPLIES if p.values[0].streamed and final(p.values[0])["status"] == "completed"]
)
async def test_openais_client_puts_the_same_stream_together(exchange: Exchange) -> None:
    async with replaying([exchange, exchange]) as replay:
        _, ours = await ask(replay.url, exchange)
        async with client(replay.url) as theirs, theirs.responses.stream(model="m", input="x") as stream:
            read = await stream.get_final_response()
    said = read.output_text or replied(final(exchange)).text
    assert (ours.message.text_content or "") == said


@pytest.mark.parametrize("exchange", [p for p in REFUSALS if p.values[0].status != 200])
async def test_openais_client_is_refused_alike(exchange: Exchange) -> None:
    async with replaying([exchange] * 4) as replay:
        with pytest.raises(LoomError) as ours:
            await ask(replay.url, exchange)
        async with client(replay.url) as theirs:
            with pytest.raises(openai.APIStatusError) as refusal:
                await theirs.responses.create(model="m", input="x")
    assert refusal.value.status_code == ours.value.status  # type: ignore[attr-defined]


# --- OpenAI's own client against our server -----------------------------------------------------------

SERVED = {
    "text": say("Hellö 🌍, all of you.", usage=Usage(120, 30, 40, 5)),
    "calls": say("Let me look.", ToolCall("call_a", "add", '{"a":1}'), ToolCall("call_b", "add", "{}")),
    "reasoning": say("Four.", ToolCall("call_a", "add", '{"a":1}'), thinking="two and two", signature="rs_9"),
    "refusal": say("I will not.", stop_reason=StopReason.REFUSAL),
    "cut": say("Once upon", stop_reason=StopReason.LENGTH),
}


@pytest.mark.parametrize("reply", SERVED.values(), ids=SERVED.keys())
async def test_openais_client_is_content_with_our_server(reply: ChatResponse) -> None:
    async with (
        ModelServer([reply] * 3, chunk=5) as server,
        client(server.base_url.removesuffix("/v1")) as theirs,
    ):
        whole = await theirs.responses.create(model="m", input="x")
        events = [e async for e in await theirs.responses.create(model="m", input="x", stream=True)]
        if whole.status == "completed":
            async with theirs.responses.stream(model="m", input="x") as stream:
                put_together = await stream.get_final_response()
            assert [item.type for item in put_together.output] == [item.type for item in whole.output]
    ended = events[-1].response  # type: ignore[union-attr]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for read in (whole, ended):
        refused = [
            p.refusal for i in read.output if i.type == "message" for p in i.content if p.type == "refusal"
        ]
        assert read.output_text + "".join(refused) == reply.message.text_content
        calls = [(i.call_id, i.name, i.arguments) for i in read.output if i.type == "function_call"]
        assert calls == [(c.id, c.name, c.arguments) for c in reply.message.tool_calls or ()]
        assert (read.usage.input_tokens, read.usage.output_tokens) == (
            reply.usage.input_tokens,
            reply.usage.output_tokens,
        )
        assert read.usage.input_tokens_details.cached_tokens == reply.usage.cache_read_tokens
        assert read.status == ("incomplete" if reply.stop_reason is StopReason.LENGTH else "completed")
        thoughts = [p.text for item in read.output if item.type == "reasoning" for p in item.summary]
        given = reply.message.content
        parts = () if given is None or isinstance(given, str) else given
        assert thoughts == [p.text for p in parts if isinstance(p, ThinkingPart)]


@pytest.mark.parametrize("exchange", exchanges(lambda e: e.path.endswith("/input_tokens")))
async def test_recorded_counts_of_tokens(exchange: Exchange) -> None:
    request = asked(exchange.request)
    async with replaying([exchange, exchange]) as replay:
        async with provider(replay.url) as ours:
            counted = await ours.count_tokens(request.messages, model=exchange.request["model"])
        async with client(replay.url) as theirs:
            told = await theirs.responses.input_tokens.count(model="m", input="x")
    assert counted == told.input_tokens == json.loads(exchange.body)["input_tokens"]
    assert replay.paths[0] == replay.paths[1] == "/v1/responses/input_tokens"
    recorded = same(exchange.request)
    assert {**same(replay.requests[0])} == recorded
