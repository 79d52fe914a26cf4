"""The Gemini decoder: one message whole and streamed, nothing half returned, every reason to finish judged."""

import json
from typing import Any

import pytest
from gemini_chunks import END, Json, call, chunk, stream, whole

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
from loom.types import (
    AudioPart,
    CallPart,
    ChatMessage,
    FilePart,
    ImagePart,
    OpaquePart,
    Role,
    StopReason,
    TextPart,
    ThinkingPart,
    ToolCall,
    Usage,
)

# --- one message --------------------------------------------------------------------------------------

PARTS = [
    {"text": "let me", "thought": True},
    {"text": " see", "thought": True},
    {"text": "It is "},
    {"text": "four.", "thoughtSignature": "c2ln"},
    {**call("add", {"a": 1}, id="x1"), "thoughtSignature": "Y2FsbA=="},
    call("add", {}),
    {"text": "And so on."},
]
MESSAGE = ChatMessage(
    Role.ASSISTANT,
    (
        ThinkingPart("let me see", origin="gemini"),
        TextPart("It is four."),
        ThinkingPart("", "c2ln", origin="gemini"),
        CallPart(0),
        CallPart(1),
        TextPart("And so on."),
    ),
    tool_calls=(ToolCall("x1", "add", '{"a":1}', "Y2FsbA=="), ToolCall("call_2", "add", "{}")),
)


def test_a_whole_reply_a_stream_and_an_array_are_one_message() -> None:
    counted = {"usageMetadata": {"promptTokenCount": 3}, "modelVersion": "gemini-x"}
    body = chunk(*PARTS, finish="STOP", **counted)
    pieces = [*[chunk(part) for part in PARTS], {**END, **counted}]
    events, streamed = stream(*pieces)
    assert streamed.message == MESSAGE
    assert (streamed.usage, streamed.model) == (Usage(3), "gemini-x")
    assert streamed.stop_reason is StopReason.TOOL_USE
    assert whole(body) == streamed
    assert whole(json.dumps(body, indent=4).encode()) == streamed
    assert whole(pieces) == streamed
    assert stream(pieces)[1] == streamed
    assert "".join(e.delta for e in events if isinstance(e, ContentDeltaEvent)) == "It is four.And so on."
    assert ThinkingDeltaEvent("", "c2ln", None, "gemini") in events
    assert ToolCallDeltaEvent(1, "call_2", "add", "{}") in events


def test_an_empty_reply_is_an_empty_reply() -> None:
    for body in (END, chunk(finish="STOP"), {"candidates": [{"content": {}, "finishReason": "STOP"}]}):
        reply = whole(body)
        assert (reply.message.content, reply.stop_reason) == (None, StopReason.STOP)
        assert stream(body)[1] == reply


def test_parts_that_say_nothing_leave_nothing_behind() -> None:
    reply = whole(chunk({}, {"text": ""}, {"thought": True}, {"text": "", "thought": True}, finish="STOP"))
    assert reply.message.content is None


def test_a_signature_alone_is_kept() -> None:
    signed = (TextPart("a"), ThinkingPart("", "c2ln", origin="gemini"))
    for part in ({"text": "", "thoughtSignature": "c2ln"}, {"thoughtSignature": "c2ln"}):
        assert stream(chunk({"text": "a"}), chunk(part, finish="STOP"))[1].message.content == signed


def test_media_in_a_reply() -> None:
    blobs = [
        {"mimeType": "image/png", "data": "_-8="},
        {"mimeType": "AUDIO/wav", "data": "UklGRg"},
        {"mimeType": "application/pdf", "data": "JVBERi0="},
    ]
    parts: list[Json] = [{"text": "Here:"}, *({"inlineData": blob} for blob in blobs)]
    parts[1]["thoughtSignature"] = "c2ln"
    assert whole(chunk(*parts, finish="STOP")).message.content == (
        TextPart("Here:"),
        ImagePart("data:image/png;base64,/+8=", "image/png"),
        ThinkingPart("", "c2ln", origin="gemini"),
        AudioPart("data:audio/wav;base64,UklGRg==", "audio/wav"),
        FilePart("data:application/pdf;base64,JVBERi0=", "application/pdf"),
    )


def test_parts_nobody_knows_are_kept_word_for_word() -> None:
    kept = '{"toolCall":{"id":"t","args":{"big":12345678901234567890123,"f":1.50}},"thoughtSignature":"c2ln"}'
    body = '{"candidates":[{"content":{"parts":[{"text":"a"}, %s ]},"finishReason":"STOP"}]}'
    spaced = kept.replace(":", " : ").replace(",", ",\n  ")
    assert whole((body % spaced).encode()).message.content == (TextPart("a"), OpaquePart("gemini", kept))
    drawn = {"inlineData": {"mimeType": "image/png", "data": "AA=="}, "thought": True}
    (part,) = whole(chunk(drawn, finish="STOP")).message.content or ()
    assert part == OpaquePart("gemini", json.dumps(drawn, separators=(",", ":")))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (b"", "{}"),
        (b',"args":null', "{}"),
        (b',"args":{}', "{}"),
        (b',"args":{ "b" : 1.50,\n "a":12345678901234567890123 }', '{"b":1.50,"a":12345678901234567890123}'),
        (b',"args":[1]', "[1]"),
        (b',"args":"x"', '"x"'),
    ],
)
def test_arguments_reach_the_kernel_as_the_text_the_model_wrote(args: bytes, text: str) -> None:
    body = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"%s}}]}}]}' % args
    assert whole(body).message.tool_calls == (ToolCall("call_1", "f", text),)


def test_missing_ids_are_stable_and_count_on_from_the_conversation() -> None:
    earlier = ChatMessage(Role.ASSISTANT, None, tool_calls=(ToolCall("x", "f"), ToolCall("y", "f")))
    body = chunk(call(), call(id=None), call(id="own"), call(id="own"), call(id=7), finish="STOP")
    ids = [item.id for item in whole(body, (earlier,)).message.tool_calls or ()]
    assert ids == ["call_3", "call_4", "own", "call_7"]
    assert whole(body, (earlier,)) == whole(body, (earlier,))


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 30}, Usage(9, 34)),
        ({"promptTokenCount": 9, "toolUsePromptTokenCount": 100, "totalTokenCount": 1}, Usage(109, 0)),
        ({"promptTokenCount": 9, "cachedContentTokenCount": 8}, Usage(9, 0, 8)),
        ({"promptTokenCount": None, "candidatesTokenCount": "4", "thoughtsTokenCount": -1}, None),
        ([], None),
        ("many", None),
        (None, None),
    ],
)
def test_usage(usage: Any, counted: Usage | None) -> None:
    assert whole({**END, "usageMetadata": usage}).usage == counted


def test_the_last_count_holds_and_none_is_lost() -> None:
    counts = [{"promptTokenCount": 5, "thoughtsTokenCount": 7}, {"promptTokenCount": 6}, {}]
    chunks = [{**chunk({"text": "a"}), "usageMetadata": count} for count in counts]
    assert stream(*chunks, {"usageMetadata": {"candidatesTokenCount": 2}}, END)[1].usage == Usage(6, 9)


def test_only_the_first_candidate_is_read() -> None:
    candidates = [
        {"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"},
        {"index": 0, "content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"},
    ]
    assert whole({"candidates": candidates}).message.content == "a"
    assert stream({"candidates": candidates[:1]}, {"candidates": candidates})[1].message.content == "a"


def test_what_follows_the_reason_to_finish_is_read_too() -> None:
    # Some models give a reason with every chunk.
    chunks = [chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, finish="STOP"), chunk(call())]
    reply = stream(*chunks)[1]
    assert (reply.message.text_content, reply.stop_reason) == ("ab", StopReason.TOOL_USE)


# --- reasons to stop ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("STOP", StopReason.STOP),
        ("MAX_TOKENS", StopReason.LENGTH),
        ("TOO_MANY_TOOL_CALLS", StopReason.LENGTH),
        ("CONTINUATION", StopReason.LENGTH),
        ("SAFETY", StopReason.CONTENT_FILTER),
        ("RECITATION", StopReason.CONTENT_FILTER),
        ("BLOCKLIST", StopReason.CONTENT_FILTER),
        ("PROHIBITED_CONTENT", StopReason.CONTENT_FILTER),
        ("SPII", StopReason.CONTENT_FILTER),
        ("IMAGE_SAFETY", StopReason.CONTENT_FILTER),
        ("IMAGE_PROHIBITED_CONTENT", StopReason.CONTENT_FILTER),
        ("IMAGE_RECITATION", StopReason.CONTENT_FILTER),
        ("MODEL_ARMOR", StopReason.CONTENT_FILTER),
        ("ESCALATION", StopReason.CONTENT_FILTER),
        ("LANGUAGE", StopReason.CONTENT_FILTER),
        ("OTHER", StopReason.UNKNOWN),
        ("NO_IMAGE", StopReason.UNKNOWN),
        ("FINISH_REASON_UNSPECIFIED", StopReason.UNKNOWN),
        ("BRAND_NEW", StopReason.UNKNOWN),
    ],
)
def test_stop_reasons(reason: str, stop: StopReason) -> None:
    reply = whole(chunk({"text": "a"}, finish=reason))
    assert (reply.stop_reason, reply.message.content) == (stop, "a")
    assert stream(chunk({"text": "a"}), chunk(finish=reason))[1] == reply
    bare = whole({"candidates": [{"finishReason": reason}]})
    assert (bare.stop_reason, bare.message.content) == (stop, None)


@pytest.mark.parametrize("reason", ["STOP", "FINISH_REASON_UNSPECIFIED"])
def test_calls_of_a_reply_that_ended_in_order_are_its_reason(reason: str) -> None:
    reply = whole(chunk(call(), finish=reason))
    assert (len(reply.message.tool_calls or ()), reply.stop_reason) == (1, StopReason.TOOL_USE)


def test_review_d4_calls_do_not_outvote_why_a_reply_ended() -> None:
    assert whole(chunk(call(), finish="SAFETY")).stop_reason is StopReason.CONTENT_FILTER
    for reason in ("OTHER", "BRAND_NEW"):
        with pytest.raises(MalformedReplyError, match=reason):
            whole(chunk(call(), finish=reason))


def test_calls_at_the_limit_are_not_said_to_be_all() -> None:
    assert whole(chunk(call(), finish="MAX_TOKENS")).stop_reason is StopReason.LENGTH


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"])
def test_a_reply_the_service_could_not_read_may_be_asked_for_again(reason: str) -> None:
    candidate = {"finishReason": reason, "finishMessage": "Malformed function call: print(f(x=1"}
    for chunks in ([{"candidates": [candidate]}], [chunk(call()), {"candidates": [candidate]}]):
        with pytest.raises(MalformedReplyError, match=r"Malformed function call: print\(f\(x=1") as caught:
            stream(*chunks)
        assert caught.value.retryable
    with pytest.raises(MalformedReplyError, match=reason) as caught:
        whole({"candidates": [{"finishReason": reason}]})
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("MISSING_THOUGHT_SIGNATURE", InvalidRequestError), ("PUP_LIMITED_DISABLED", AuthenticationError)],
)
def test_a_reason_that_blames_the_request_is_that_error(reason: str, kind: type[LoomError]) -> None:
    with pytest.raises(kind, match=reason):
        whole({"candidates": [{"finishReason": reason}]})
    with pytest.raises(kind, match="said so"):
        stream({"candidates": [{"finishReason": reason, "finishMessage": "said so"}]})


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "PROHIBITED_CONTENT", "MODEL_ARMOR", "BRAND_NEW"])
def test_a_blocked_prompt_is_a_filtered_reply(reason: str) -> None:
    body = {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 4}}
    reply = whole(body)
    assert (reply.stop_reason, reply.message.content, reply.usage) == (
        StopReason.CONTENT_FILTER,
        None,
        Usage(4),
    )
    assert stream(body)[1] == reply
    # Blocked after it had begun: what was said is not the whole of it, and calls are not to be run.
    reply = stream(chunk({"text": "a"}), chunk(call()), body)[1]
    assert reply.stop_reason is StopReason.CONTENT_FILTER


def test_feedback_that_blocks_nothing_is_no_reason() -> None:
    rated = {"promptFeedback": {"safetyRatings": []}}
    assert whole({**END, **rated}).stop_reason is StopReason.STOP
    with pytest.raises(MalformedReplyError):
        whole(rated)


# --- strict where it matters --------------------------------------------------------------------------

NOT_A_REPLY: list[Any] = [
    b"",
    b" ",
    b"null",
    b"{}",
    b'"ok"',
    b"42",
    b"not json",
    b"<html></html>",
    b'{"candidates"',
    b'{"candidates":[]}',
    b'{"candidates":null}',
    b'{"candidates":{}}',
    b'{"candidates":[null]}',
    b'{"candidates":["text"]}',
    b'{"candidates":[{}]}',
    b'{"candidates":[{"index":1,"content":{"parts":[{"text":"b"}]}}]}',
    b'{"candidates":[{"content":"text"}]}',
    b'{"candidates":[{"content":{"parts":"text"}}]}',
    b'{"candidates":[{"content":{"parts":[null]}}]}',
    b'{"candidates":[{"content":{"parts":["text"]}}]}',
    b'{"candidates":[{"content":{"parts":[{"text":7}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"other":"\xff"}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"text":"a","thoughtSignature":7}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall":"f"}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":["f"],"args":{}}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":"\xff"}}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{a}}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","willContinue":true}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","partialArgs":[]}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png"}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"AA=="}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"png","data":"AA=="}}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"inlineData":"AA=="}]}}]}',
    b'{"candidates":[{"content":{"parts":[{"text":"a"}]}}]} {"candidates":[]}',
    b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":' + b"[" * 100_000,
    b'{"modelVersion":"m","usageMetadata":{"promptTokenCount":1}}',
    b'{"promptFeedback":"no"}',
]


@pytest.mark.parametrize("body", NOT_A_REPLY, ids=[repr(body[:70]) for body in NOT_A_REPLY])
def test_what_is_no_reply_is_an_error(body: bytes) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        whole(body)
    assert len(str(caught.value)) <= 500


NOT_A_STREAM: list[tuple[Any, ...]] = [
    (),
    (b"", b"  "),
    ({},),
    ([],),
    ({"candidates": []},),
    (b"{",),
    (b"ping",),
    (chunk({"text": "a"}),),
    (chunk({"text": "a"}), b'{"candidates":[{"content":{"parts":[{"text":"b'),
    (chunk({"text": "a"}), {"usageMetadata": {"promptTokenCount": 1}}),
    (chunk(call(args={"a": 1})),),
    (chunk(call("")), END),
    (chunk({"text": "a"}), {"candidates": [{"finishReason": 7}]}),
    (chunk({"functionCall": 1}), END),
]


@pytest.mark.parametrize("chunks", NOT_A_STREAM, ids=range(len(NOT_A_STREAM)))
def test_a_stream_that_is_not_complete_is_an_error_that_may_be_retried(chunks: tuple[Any, ...]) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        stream(*chunks)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 503, "message": "high demand", "status": "UNAVAILABLE"}, ProviderUnavailableError),
        ({"code": 500, "message": "An internal error", "status": "INTERNAL"}, ProviderUnavailableError),
        ({"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}, RateLimitError),
        ({"code": 403, "message": "not yours", "status": "PERMISSION_DENIED"}, AuthenticationError),
        ({"code": 404, "message": "no model", "status": "NOT_FOUND"}, InvalidRequestError),
        ({"message": "The input token count (9) exceeds the maximum"}, ContextOverflowError),
        ("text", LoomError),
    ],
)
def test_an_error_in_the_middle_is_that_error(error: Any, kind: type[LoomError]) -> None:
    for told in ({"error": error}, [{"error": error}]):
        with pytest.raises(kind):
            stream(chunk({"text": "a"}), told)
        with pytest.raises(kind):
            stream(END, told)
        with pytest.raises(kind):
            whole(told)
