"""The chat completions decoder against what servers really send, and what no reply may be made of."""

import json
from typing import Any

import pytest

from loom.errors import LoomError, MalformedReplyError, ProviderUnavailableError, RateLimitError
from loom.llm.base import ContentDeltaEvent, ProviderEvent, ToolCallDeltaEvent
from loom.llm.failures import FailureReader
from loom.llm.openai_reply import OpenAIReply
from loom.llm.redact import Scrubber
from loom.llm.sse import SSEReader
from loom.types import (
    AudioPart,
    ChatMessage,
    ChatResponse,
    OpaquePart,
    Role,
    StopReason,
    TextPart,
    ThinkingPart,
    ToolCall,
    Usage,
)

FAILURES = FailureReader("test", Scrubber())
Json = dict[str, Any]


def whole(body: Any, history: tuple[ChatMessage, ...] = ()) -> ChatResponse:
    reply = OpenAIReply(FAILURES, "m", history)
    reply.whole(body if isinstance(body, bytes) else json.dumps(body).encode())
    return reply.finish()


def stream(*chunks: Any, done: bool = True) -> tuple[list[ProviderEvent], ChatResponse]:
    reply, events = OpenAIReply(FAILURES, "m"), list[ProviderEvent]()
    for chunk in chunks:
        events += reply.feed(b"", chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode())
    if done:
        reply.feed(b"", b"[DONE]")
    return events, reply.finish()


def message(finish: str | None = "stop", **fields: Any) -> Json:
    return {"choices": [{"index": 0, "message": fields, "finish_reason": finish}]}


def delta(finish: str | None = None, **fields: Any) -> Json:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def tool(arguments: Any = "{}", name: Any = "f", **fields: Any) -> Json:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


# --- lenient where servers differ ---------------------------------------------------------------------


def test_null_usage_null_content_and_missing_fields_are_nothing() -> None:
    reply = whole(message(content=None) | {"usage": None})
    assert (reply.message.content, reply.usage, reply.stop_reason) == (None, None, StopReason.STOP)
    assert whole({"choices": [{"message": {"content": "x"}}]}).stop_reason is StopReason.UNKNOWN
    assert whole({"choices": [{"message": {"content": "x"}, "index": None}]}).message.content == "x"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, Usage(9, 4)),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}},
            Usage(9, 4, 3),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 3}, Usage(9, 4, 3)),
        ({"prompt_tokens": "9", "completion_tokens": None, "prompt_tokens_details": None}, None),
        ({"prompt_tokens": -9, "completion_tokens": True}, None),
        ([], None),
        ("many", None),
    ],
)
def test_usage_of_all_shapes(usage: Any, counted: Usage | None) -> None:
    assert whole(message(content="x") | {"usage": usage}).usage == counted
    assert stream(delta("stop", content="x"), {"choices": [], "usage": usage})[1].usage == counted


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "weird", None])
def test_tool_calls_count_whatever_the_finish_reason_says(finish: str | None) -> None:
    body = message(finish, content="", tool_calls=[tool('{"a": 1}', id="c1")])
    assert whole(body).message.tool_calls == (ToolCall("c1", "f", '{"a": 1}'),)
    assert whole(body).stop_reason is StopReason.TOOL_USE


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"a": 1}, '{"a":1}'), (None, "{}"), ("", "{}"), ('{"a": 1', '{"a": 1'), ([1], "[1]"), (3, "3")],
)
def test_arguments_of_all_shapes_reach_the_kernel_as_text(arguments: Any, text: str) -> None:
    calls = whole(message("tool_calls", tool_calls=[tool(arguments, id="c")])).message.tool_calls
    assert calls == (ToolCall("c", "f", text),)


def test_missing_ids_are_stable_and_count_on_from_the_conversation() -> None:
    body = message("tool_calls", tool_calls=[tool(), tool(id=""), tool(id="own"), tool(id=None)])
    earlier = ChatMessage(Role.ASSISTANT, None, tool_calls=(ToolCall("x", "f"), ToolCall("y", "f")))
    ids = [call.id for call in whole(body, (earlier,)).message.tool_calls or ()]
    assert ids == ["call_3", "call_4", "own", "call_6"]
    assert whole(body, (earlier,)) == whole(body, (earlier,))


def test_review_e1_a_call_told_twice_is_one() -> None:
    body = message("tool_calls", tool_calls=[tool(id="a"), tool(id="a"), tool(id="a_2"), tool(id="a")])
    ids = [call.id for call in whole(body).message.tool_calls or ()]
    assert ids == ["a", "a_2"]


def test_whole_calls_with_one_index_are_several_calls() -> None:
    body = message("tool_calls", tool_calls=[tool(id="a", index=0), tool(id="b", index=0)])
    assert [call.id for call in whole(body).message.tool_calls or ()] == ["a", "b"]


PARALLEL = {
    "indexed": [
        delta(tool_calls=[tool("", id="a", index=0)]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"x"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        delta(tool_calls=[tool('{"y":2}', id="b", index=1)]),
    ],
    "interleaved": [
        delta(tool_calls=[tool('{"x"', id="a", index=0), tool('{"y"', id="b", index=1)]),
        delta(
            tool_calls=[
                {"index": 1, "function": {"arguments": ":2}"}},
                {"index": 0, "function": {"arguments": ":1}"}},
            ]
        ),
    ],
    "no index, ids only": [
        delta(tool_calls=[tool('{"x":1}', id="a")]),
        delta(tool_calls=[tool('{"y":2}', id="b")]),
    ],
    "no index, pieces without id": [
        delta(tool_calls=[tool('{"x"', id="a")]),
        delta(tool_calls=[{"function": {"arguments": ":1}"}}]),
        delta(tool_calls=[tool("", id="b")]),
        delta(tool_calls=[{"id": "b", "function": {"arguments": '{"y":2}'}}]),
    ],
    "every call is number 0": [
        delta(tool_calls=[tool('{"x":1}', id="a", index=0)]),
        delta(tool_calls=[tool('{"y":2}', id="b", index=0)]),
    ],
    "name repeated with each piece": [
        delta(tool_calls=[tool('{"x"', id="a", index=0)]),
        delta(tool_calls=[tool(":1}", id="a", index=0)]),
        delta(tool_calls=[tool('{"y":2}', id="b", index=1)]),
    ],
    "indexes from 1": [
        delta(tool_calls=[tool('{"x":1}', id="a", index=1)]),
        delta(tool_calls=[tool('{"y":2}', id="b", index=2)]),
    ],
    "null function in the end": [
        delta(tool_calls=[tool('{"x":1}', id="a", index=0), tool({"y": 2}, id="b", index=1)]),
        delta(tool_calls=[{"index": 0, "function": None}]),
    ],
}


@pytest.mark.parametrize("chunks", PARALLEL.values(), ids=PARALLEL.keys())
@pytest.mark.parametrize("finish", ["tool_calls", "stop", None])
def test_parallel_calls_however_they_are_numbered(chunks: list[Json], finish: str | None) -> None:
    events, reply = stream(*chunks, delta(finish))
    assert reply.message.tool_calls == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "f", '{"y":2}'))
    grown = ["", ""]
    for event in events:
        assert isinstance(event, ToolCallDeltaEvent)
        grown[event.index] += event.arguments_delta or ""
    assert grown == ['{"x":1}', '{"y":2}']


def test_calls_without_ids_and_indexes_that_begin_again_are_two() -> None:
    _, reply = stream(delta(tool_calls=[tool('{"x":1}')]), delta("stop", tool_calls=[tool('{"x":1}')]))
    assert [call.id for call in reply.message.tool_calls or ()] == ["call_1", "call_2"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_under_both_names(field: str) -> None:
    expected = (ThinkingPart("hm, yes", origin="openai_chat"), TextPart("Yes."))
    assert whole(message(content="Yes.", **{field: "hm, yes"})).message.content == expected
    chunks = [delta(**{field: "hm,"}), delta(**{field: " yes"}), delta(content="Yes."), delta("stop")]
    assert stream(*chunks)[1].message.content == expected


def test_content_as_parts() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thought, {"type": "text", "text": "Yes"}, "."]
    assert whole(message(content=parts)).message.content == (
        ThinkingPart("hm", origin="openai_chat"),
        TextPart("Yes."),
    )
    assert stream(delta(content=[thought]), delta("stop", content="Yes."))[1].message.content == (
        ThinkingPart("hm", origin="openai_chat"),
        TextPart("Yes."),
    )


def test_a_refusal_is_text_and_a_stop_reason() -> None:
    reply = whole(message(content=None, refusal="I will not."))
    assert (reply.message.content, reply.stop_reason) == ("I will not.", StopReason.REFUSAL)
    events, reply = stream(delta(refusal="I will"), delta(refusal=" not."), delta("stop"))
    assert (reply.message.content, reply.stop_reason) == ("I will not.", StopReason.REFUSAL)
    assert events == [ContentDeltaEvent("I will"), ContentDeltaEvent(" not.")]


def test_a_filtered_reply_without_message_says_so() -> None:
    body = {"choices": [{"index": 0, "finish_reason": "content_filter", "logprobs": None}]}
    assert whole(body).stop_reason is StopReason.CONTENT_FILTER


def test_only_the_first_choice_is_read() -> None:
    body = {"choices": [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]}
    assert whole(body).message.content == "a"
    other = {"choices": [{"index": 1, "delta": {"content": "b"}}]}
    assert stream(delta(content="a"), other, delta("stop"))[1].message.content == "a"


def test_a_stream_may_end_with_finish_or_with_done() -> None:
    assert stream(delta("stop", content="a"), done=False)[1].message.content == "a"
    assert stream(delta(content="a"))[1].stop_reason is StopReason.UNKNOWN


def test_empty_events_and_keep_alives_are_passed_over() -> None:
    assert stream(b"", b"  ", {"choices": []}, {}, delta("stop", content="a"))[1].message.content == "a"


# --- strict where it matters --------------------------------------------------------------------------

NOT_A_REPLY: list[Any] = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"{}",
    b'"ok"',
    b"42",
    b"not json",
    b"<html></html>",
    b'{"choices"',
    b'{"choices":[]}',
    b'{"choices":null}',
    b'{"choices":{}}',
    b'{"choices":[null]}',
    b'{"choices":["text"]}',
    b'{"choices":[{"message":"text"}]}',
    b'{"choices":[{"message":[]}]}',
    b'{"choices":[{"index":1,"message":{"content":"second"}}]}',
    b'{"choices":[{"message":{"content":{"text":"x"}}}]}',
    b'{"choices":[{"message":{"content":7}}]}',
    b'{"choices":[{"message":{"content":"\xff\xfe"}}]}',
    b'{"choices":[{"message":{"content":' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}",
    b'{"choices":[{"message":{"content":NaN}}]}',
    b'{"choices":[{"message":{"content":"a"}}]} {"choices":[]}',
    b'{"choices":[{"message":{"tool_calls":{"id":"c"}}}]}',
    b'{"choices":[{"message":{"tool_calls":["c"]}}]}',
    b'{"choices":[{"message":{"tool_calls":[{"id":"c","function":"f"}]}}]}',
    b'{"choices":[{"message":{"tool_calls":[{"id":"c"}]},"finish_reason":"tool_calls"}]}',
    b'{"choices":[{"message":{"tool_calls":[{"id":"c","function":{"arguments":"{}"}}]}}]}',
    b'{"choices":[{"message":{"tool_calls":[{"id":"c","function":{"name":["f"],"arguments":"{}"}}]}}]}',
    b'{"choices":[{"message":{"content":null},"finish_reason":"tool_calls"}]}',
    b'{"choices":[{"message":{"content":""},"finish_reason":"function_call"}]}',
    b'{"choices":[{"message":{"content":"half"},"finish_reason":"error"}]}',
    b'{"object":"list","data":[]}',
    b'{"id":"x","model":"m","usage":{"prompt_tokens":1}}',
]


@pytest.mark.parametrize("body", NOT_A_REPLY, ids=[repr(body[:60]) for body in NOT_A_REPLY])
def test_what_is_no_reply_is_an_error(body: bytes) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        whole(body)
    assert len(str(caught.value)) <= 500


NOT_A_STREAM: list[tuple[Any, ...]] = [
    (),
    ({"choices": []},),
    (b"{",),
    (b"ping",),
    (delta(content="a"), b'{"choices":[{"delta":{"content":"b'),
    (delta(content="a"),),
    (delta(content="a"), {"choices": [], "usage": {"prompt_tokens": 1}}),
    (delta(tool_calls=[tool('{"a":', id="c", index=0)]),),
    (delta("tool_calls", tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),),
    (delta("error", content="a"),),
    (b'{"choices":[{"delta":{"tool_calls":[7]}}]}',),
]


@pytest.mark.parametrize("chunks", NOT_A_STREAM, ids=range(len(NOT_A_STREAM)))
def test_a_stream_that_ends_early_or_in_nonsense_is_an_error_that_may_be_retried(
    chunks: tuple[Any, ...],
) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        stream(*chunks, done=False)
    assert caught.value.retryable


def test_done_alone_is_no_reply() -> None:
    with pytest.raises(MalformedReplyError):
        stream()
    with pytest.raises(MalformedReplyError, match="half a tool call"):
        stream(delta(tool_calls=[tool('{"a":', id="c", index=0)]))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "overloaded", "code": 502}, ProviderUnavailableError),
        ({"message": "Provider returned error", "code": 429}, RateLimitError),
        ({"message": "slow down", "type": "rate_limit_error"}, RateLimitError),
        ({"message": "oops", "type": "server_error"}, ProviderUnavailableError),
        ("something", LoomError),
        ({}, MalformedReplyError),
    ],
)
def test_an_error_in_the_middle_is_that_error(error: Any, kind: type[LoomError]) -> None:
    with pytest.raises(kind):
        stream(delta(content="a"), {"error": error}, done=False)
    with pytest.raises(kind):
        whole({"error": error})
    if error:
        with pytest.raises(kind):
            stream(delta(content="a"), {"choices": [{"index": 0, "delta": {}, "error": error}]})


def test_a_named_error_event_is_an_error() -> None:
    reply = OpenAIReply(FAILURES, "m")
    with pytest.raises(LoomError, match="no credit"):
        reply.feed(b"error", b'{"message":"no credit","code":402}')
    with pytest.raises(LoomError, match="out of memory"):
        stream({"object": "error", "message": "out of memory", "code": 500})


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_half_a_call_at_the_limit_is_dropped_and_whole_ones_kept(finish: str) -> None:
    chunks = [
        delta(content="Let me look."),
        delta(tool_calls=[tool('{"a":1}', id="a", index=0)]),
        delta(tool_calls=[tool('{"a":', id="b", index=1)]),
        delta(finish),
    ]
    _, reply = stream(*chunks)
    assert [call.id for call in reply.message.tool_calls or ()] == ["a"]
    _, reply = stream(chunks[0], chunks[2], chunks[3])
    assert reply.message.tool_calls is None
    assert reply.stop_reason.value == finish


def test_a_recorded_shape_with_comments_and_crlf_is_read() -> None:
    # The shape of OpenRouter's streams: comments first, both names of reasoning, usage in a last empty chunk.
    text = (
        ": PROCESSING\r\n\r\n: PROCESSING\r\n\r\n"
        'data: {"id":"g","provider":"P","model":"v/m","choices":[{"index":0,"delta":{"role":"assistant",'
        '"content":"","reasoning":"We","reasoning_details":[{"type":"reasoning.text","text":"We"}]},"finish_reason":null}]}\r\n\r\n'
        'data: {"id":"g","model":"v/m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop",'
        '"native_finish_reason":"end_turn"}]}\r\n\r\n'
        'data: {"id":"g","model":"v/m","choices":[{"index":0,"delta":{"content":""},"finish_reason":null}],'
        '"usage":{"prompt_tokens":43,"completion_tokens":10,"cost":0}}\r\n\r\n'
        "data: [DONE]\r\n\r\n"
    )
    reply, reader = OpenAIReply(FAILURES, "m"), SSEReader()
    for name, line in reader.feed(text.encode()):
        reply.feed(name, line)
    response = reply.finish()
    details = '{"reasoning_details":[{"type":"reasoning.text","text":"We"}]}'
    assert response.message.content == (
        ThinkingPart("We", origin="openai_chat"),
        TextPart("Hi"),
        OpaquePart("openai_chat", details),
    )
    assert (response.model, response.usage, response.stop_reason) == ("v/m", Usage(43, 10), StopReason.STOP)


# --- what vendors add ---------------------------------------------------------------------------------


def details(*fragments: Json, **more: Any) -> Json:
    return delta(reasoning_details=list(fragments), **more)


def kept(response: ChatResponse) -> Any:
    content = response.message.content
    assert isinstance(content, tuple)
    (part,) = [part for part in content if isinstance(part, OpaquePart)]
    assert part.origin == "openai_chat"
    return json.loads(part.data)["reasoning_details"]


def test_fragments_of_reasoning_become_the_blocks_they_are_of() -> None:
    def text(index: int, **more: Any) -> Json:
        return {"type": "reasoning.text", "index": index, "format": "f", **more}

    encrypted = {"type": "reasoning.encrypted", "data": "AA==", "index": 2}
    _, reply = stream(
        details(text(0, text="let ")),
        details(text(0, text="me"), text(0, text=" see", signature=None)),
        details(text(0, signature="s1")),
        details(text(0, text="again")),
        details({"type": "reasoning.summary", "summary": "a", "index": 1}),
        details({"type": "reasoning.summary", "summary": "b", "index": 1}),
        details(encrypted),
        details(encrypted),
        delta("stop", content="x"),
    )
    assert kept(reply) == [
        text(0, text="let me see", signature="s1"),
        text(0, text="again"),
        {"type": "reasoning.summary", "summary": "ab", "index": 1},
        encrypted,
        encrypted,
    ]
    with pytest.raises(MalformedReplyError, match="details"):
        stream(details("odd", None, 7), delta("stop", content="x"))  # type: ignore[arg-type]
    assert stream(details(), delta("stop", content="x", reasoning_details="odd"))[1].message.content == "x"


def test_details_of_a_whole_reply_stay_as_they_are() -> None:
    blocks = [
        {"type": "reasoning.text", "text": "a", "signature": "s", "index": 0, "id": None},
        {"type": "reasoning.text", "text": "b", "signature": "t", "index": 1},
    ]
    assert kept(whole(message(content="x", reasoning_details=blocks))) == blocks


def test_a_signature_of_a_call_is_kept() -> None:
    signed = tool("{}", id="c", extra_content={"google": {"thought_signature": "c2ln"}})
    (call,) = whole(message("tool_calls", tool_calls=[signed])).message.tool_calls or ()
    assert call.signature == "c2ln"
    later = {"index": 0, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    chunks = [delta(tool_calls=[tool("", id="c", index=0)]), delta("tool_calls", tool_calls=[later])]
    (call,) = stream(*chunks)[1].message.tool_calls or ()
    assert (call.signature, call.arguments) == ("c2ln", "{}")
    odd = tool("{}", id="c", extra_content={"google": "odd"})
    (call,) = whole(message("tool_calls", tool_calls=[odd])).message.tool_calls or ()
    assert call.signature is None


def test_sound_is_put_together_from_pieces_that_were_encoded_apart() -> None:
    reply = OpenAIReply(FAILURES, "m", (), "audio/pcm")
    for piece in ({"id": "a"}, {"data": "AQ=="}, {"transcript": "Hi"}, {"data": "AgM="}, {"expires_at": 1}):
        reply.feed(b"", json.dumps(delta(audio=piece)).encode())
    reply.feed(b"", json.dumps(delta("stop")).encode())
    assert reply.finish().message.content == (
        TextPart("Hi"),
        AudioPart("data:audio/pcm;base64,AQID", "audio/pcm"),
    )
    with pytest.raises(MalformedReplyError, match="base64"):
        stream(delta(audio={"data": "A"}), delta("stop"))


@pytest.mark.parametrize(
    "images", [[{"image_url": {"url": ""}}], [{"image_url": 7}], [None], "odd", {"url": "x"}, [{}]]
)
def test_review_d5_pictures_that_are_none_are_no_reply(images: Any) -> None:
    with pytest.raises(MalformedReplyError, match="picture"):
        whole(message(content="x", images=images))


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "network_error", "abort"])
def test_a_service_that_gave_up_is_not_available(reason: str) -> None:
    with pytest.raises(ProviderUnavailableError, match=reason):
        whole(message(reason, content="half"))
    with pytest.raises(ProviderUnavailableError, match=reason):
        stream(delta(content="half"), delta(reason))


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("model_length", StopReason.CONTEXT_FULL),
        ("model_context_window_exceeded", StopReason.CONTEXT_FULL),
        ("sensitive", StopReason.CONTENT_FILTER),
        ("content_filter", StopReason.CONTENT_FILTER),
    ],
)
def test_reasons_of_vendors(reason: str, stop: StopReason) -> None:
    assert whole(message(reason, content="half")).stop_reason is stop
    half = delta(tool_calls=[tool('{"a":', id="b", index=0)])
    assert stream(half, delta(reason))[1].message.tool_calls is None


def test_usage_in_the_words_of_groq_and_in_the_total() -> None:
    counted = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert stream(delta("stop", content="x"), {"choices": [], "x_groq": {"usage": counted}})[1].usage == (
        Usage(9, 4)
    )
    hidden = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 113}
    assert whole(message(content="x") | {"usage": hidden, "model": "gemini-2.5-flash"}).usage == Usage(9, 104)
    details = {"completion_tokens_details": {"reasoning_tokens": 100}}  # xAI
    assert whole(message(content="x") | {"usage": {**hidden, **details}}).usage == Usage(9, 104)
    assert whole(message(content="x") | {"usage": {"total_tokens": 113}}).usage is None
    assert whole(message(content="x") | {"usage": {**counted, "cached_tokens": 2}}).usage == Usage(9, 4, 2)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        # Mistral: the total holds the sound, which was heard and not written.
        (
            {"prompt_audio_seconds": 42, "prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 635},
            Usage(627, 8, input_audio_tokens=623, input_audio_seconds=42),
        ),
        # Nobody says what the rest is.
        ({"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 635}, Usage(4, 8)),
        (
            {
                "prompt_tokens": 4,
                "completion_tokens": 8,
                "total_tokens": 635,
                "completion_tokens_details": {"reasoning_tokens": 5},  # part of the eight
            },
            Usage(4, 8),
        ),
        ({"prompt_tokens": 4, "total_tokens": 12}, Usage(4, 8)),
        ({"completion_tokens": 8, "total_tokens": 12}, Usage(4, 8)),
        ({"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 3}, Usage(4, 8)),
        ({"total_tokens": 12}, None),
    ],
)
def test_review_h3_what_is_only_in_the_total_is_not_output(usage: Any, counted: Usage | None) -> None:
    body = message(content="x") | {"usage": usage, "model": "voxtral-small"}
    assert whole(body).usage == counted
    assert stream(delta("stop", content="x"), {"choices": [], "usage": usage})[1].usage == counted
