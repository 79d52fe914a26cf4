"""The Gemini decoder: one message whole and streamed, nothing half returned, every reason to finish judged."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from wires import HELLO, Waits, gemini, keep, last

from loom import Agent, RunState, tool
from loom.errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.base import ContentDeltaEvent, ProviderEvent, ThinkingDeltaEvent, ToolCallDeltaEvent
from loom.llm.failures import FailureReader
from loom.llm.gemini_reply import GeminiReply
from loom.llm.redact import Scrubber
from loom.testing.model_server import ModelServer, served
from loom.testing.scripted import call as tool_call
from loom.testing.scripted import say
from loom.types import (
    AudioPart,
    CallPart,
    ChatMessage,
    ChatResponse,
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

FAILURES = FailureReader("test", Scrubber())
Json = dict[str, Any]


def chunk(*parts: Any, finish: str | None = None, **more: Any) -> Json:
    candidate: Json = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **more}


def raw(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def whole(body: Any, history: tuple[ChatMessage, ...] = ()) -> ChatResponse:
    reply = GeminiReply(FAILURES, "m", history)
    reply.whole(raw(body))
    return reply.finish()


def stream(*chunks: Any) -> tuple[list[ProviderEvent], ChatResponse]:
    reply, events = GeminiReply(FAILURES, "m"), list[ProviderEvent]()
    for item in chunks:
        events += reply.feed(b"", raw(item))
    assert not reply.done  # the end of the body is the end: errors have come after the reason to finish
    return events, reply.finish()


def call(name: Any = "f", args: Any = None, **more: Any) -> Json:
    function = {"name": name, **({"args": args} if args is not None else {}), **more}
    return {"functionCall": function}


END = chunk({"text": ""}, finish="STOP")


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
    assert ids == ["call_3", "call_4", "own", "own_2", "call_7"]
    assert whole(body, (earlier,)) == whole(body, (earlier,))


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 30}, Usage(9, 34)),
        ({"promptTokenCount": 9, "toolUsePromptTokenCount": 100, "totalTokenCount": 1}, Usage(109, 0)),
        ({"promptTokenCount": 9, "cachedContentTokenCount": 8}, Usage(9, 0, 8)),
        ({"promptTokenCount": None, "candidatesTokenCount": "4", "thoughtsTokenCount": -1}, Usage()),
        ([], Usage()),
        ("many", Usage()),
        (None, Usage()),
    ],
)
def test_usage(usage: Any, counted: Usage) -> None:
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
        ("LANGUAGE", StopReason.UNKNOWN),
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


@pytest.mark.parametrize("reason", ["STOP", "OTHER", "SAFETY", "BRAND_NEW"])
def test_calls_count_whatever_the_reason_says(reason: str) -> None:
    reply = whole(chunk(call(), finish=reason))
    assert (len(reply.message.tool_calls or ()), reply.stop_reason) == (1, StopReason.TOOL_USE)


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


async def test_a_blocked_prompt_ends_a_run_with_its_own_error() -> None:
    item = served(body=raw({"promptFeedback": {"blockReason": "SAFETY"}}))
    async with ModelServer([item]) as server, gemini(server.base_url) as provider:
        result = await Agent(model=provider).run("Hello")
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "content_filter"


@tool(read_only=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_run_with_tools_gives_every_signature_back(streamed: bool) -> None:
    script = [
        say("", replace(tool_call("add", a=1, b=2), signature="c2lnMQ=="), tool_call("add", a=3, b=4)),
        say("", replace(tool_call("add", a=3, b=7), signature="c2lnMg==")),
        "Ten.",
    ]
    async with ModelServer(script, chunk=2) as server, gemini(server.base_url) as provider:
        agent = Agent(model=provider, tools=[add])
        if streamed:
            async for _ in agent.stream("Add."):
                pass
        else:
            assert (await agent.run("Add.")).output == "Ten."
        *_, request = server.requests
    signatures = [
        part.get("thoughtSignature")
        for content in request.body["contents"]
        for part in content["parts"]
        if "functionCall" in part
    ]
    assert signatures == ["c2lnMQ==", None, "c2lnMg=="]
    answered = [
        (part["functionResponse"]["id"], part["functionResponse"]["response"])
        for content in request.body["contents"]
        for part in content["parts"]
        if "functionResponse" in part
    ]
    assert answered == [
        ("call_1", {"result": "3"}),
        ("call_2", {"result": "7"}),
        ("call_3", {"result": "10"}),
    ]
    assert [content["role"] for content in request.body["contents"]] == [
        "user",
        "model",
        "user",
        "model",
        "user",
    ]


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
    b'{"candidates":[{"content":{"parts":[{"text":"\\ud800"}]}}]}',
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


# --- over a socket ------------------------------------------------------------------------------------

HIGH_DEMAND = (
    b'{\n  "error": {\n    "code": 503,\n    "message": "high demand",\n    "status": "UNAVAILABLE"\n  }\n}\n'
)


def sse(*chunks: Any, after: bytes = b"") -> Any:
    body = b"".join(b"data: " + raw(item) + b"\r\n\r\n" for item in chunks) + after
    return served(body=body, headers={"Content-Type": "text/event-stream"}, piece=5)


async def test_an_error_written_into_the_stream_as_it_is_is_not_overlooked() -> None:
    # Told by users of the service: it gives up without the form of an event, even after a STOP.
    async with (
        ModelServer([sse(chunk({"text": "Okay"}), END, after=HIGH_DEMAND)]) as server,
        gemini(server.base_url) as provider,
    ):
        events: list[Any] = []
        with pytest.raises(ProviderUnavailableError, match="high demand"):
            await keep(events, provider)
    assert events == [ContentDeltaEvent("Okay")]


async def test_an_error_before_any_text_is_asked_again() -> None:
    waits = Waits()
    script = [
        sse(after=HIGH_DEMAND),
        served(body=b"[" + HIGH_DEMAND + b"]"),
        sse(chunk({"text": "Okay"}), END),
    ]
    async with ModelServer(script) as server, gemini(server.base_url, sleep=waits) as provider:
        assert (await last(provider)).message.content == "Okay"
    assert len(waits) == 2


async def test_a_reply_cut_by_the_service_itself_is_asked_again() -> None:
    broken = served(body=raw({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}))
    async with ModelServer([broken, broken, "ok"]) as server, gemini(server.base_url) as provider:
        assert (await provider.chat(HELLO)).message.content == "ok"
        assert len(server.requests) == 3


REFUSALS: list[tuple[int, Json, type[LoomError], str]] = [
    (
        400,
        {
            "code": 400,
            "message": "API key expired. Please renew the API key.",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
        },
        AuthenticationError,
        "expired",
    ),
    (
        400,
        {
            "code": 400,
            "message": "Der API-Schlüssel ist ungültig.",
            "status": "INVALID_ARGUMENT",
            "details": [{"reason": "API_KEY_INVALID"}],
        },
        AuthenticationError,
        "ungültig",
    ),
    (
        400,
        {
            "code": 400,
            "message": "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
            "status": "INVALID_ARGUMENT",
        },
        ContextOverflowError,
        "1200293",
    ),
    (
        400,
        {
            "code": 400,
            "message": "User location is not supported for the API use.",
            "status": "FAILED_PRECONDITION",
        },
        InvalidRequestError,
        "location",
    ),
    (
        400,
        {
            "code": 400,
            "message": "Function call is missing a thought_signature in functionCall parts.",
            "status": "INVALID_ARGUMENT",
        },
        InvalidRequestError,
        "thought_signature",
    ),
    (
        403,
        {"code": 403, "message": "Method doesn't allow unregistered callers.", "status": "PERMISSION_DENIED"},
        AuthenticationError,
        "unregistered",
    ),
    (
        404,
        {"code": 404, "message": "models/x is not found for API version v1beta", "status": "NOT_FOUND"},
        InvalidRequestError,
        "not found",
    ),
]


@pytest.mark.parametrize(
    ("status", "error", "kind", "said"), REFUSALS, ids=[error["message"][:30] for _, error, _, _ in REFUSALS]
)
@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
async def test_refusals_in_googles_words(
    status: int, error: Json, kind: type[LoomError], said: str, array: bool, streamed: bool
) -> None:
    body = raw([{"error": error}] if array else {"error": error})
    async with (
        ModelServer([served(status=status, body=body)]) as server,
        gemini(server.base_url) as provider,
    ):
        with pytest.raises(kind, match=said):
            await (last(provider) if streamed else provider.chat(HELLO))


async def test_the_wait_google_names_is_obeyed() -> None:
    waits = Waits()
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}
    error = {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [detail]}
    script = [served(status=429, body=raw({"error": error})), "ok"]
    async with (
        ModelServer(script) as server,
        gemini(server.base_url, sleep=waits, rand=lambda: 0.0) as provider,
    ):
        assert (await provider.chat(HELLO)).message.content == "ok"
    assert waits == [7.5]
