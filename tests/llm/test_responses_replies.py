"""The Responses decoder against what servers send, what no reply may be made of, and what must go back."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom.errors import (
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.base import ContentDeltaEvent, ProviderEvent, ThinkingDeltaEvent, ToolCallDeltaEvent
from loom.llm.failures import FailureReader
from loom.llm.openai_replay import items_of
from loom.llm.openai_responses_reply import ResponsesReply
from loom.llm.redact import Scrubber
from loom.types import (
    CallPart,
    ChatMessage,
    ChatResponse,
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
OURS = "openai_responses"
Json = dict[str, Any]


def whole(body: Any, history: tuple[ChatMessage, ...] = ()) -> ChatResponse:
    reply = ResponsesReply(FAILURES, "m", history)
    reply.whole(body if isinstance(body, bytes) else json.dumps(body).encode())
    return reply.finish()


def stream(*events: Any) -> tuple[list[ProviderEvent], ChatResponse]:
    reply, shown = ResponsesReply(FAILURES, "m"), list[ProviderEvent]()
    for event in events:
        shown += reply.feed(b"", event if isinstance(event, bytes) else json.dumps(event).encode())
    return shown, reply.finish()


def response(*output: Json, status: Any = "completed", **fields: Any) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "output": list(output),
        "model": "m-1",
        **fields,
    }


def completed(*output: Json, **fields: Any) -> Json:
    return {"type": "response.completed", "response": response(*output, **fields)}


def incomplete(reason: str, *output: Json) -> Json:
    return response(*output, status="incomplete", incomplete_details={"reason": reason})


def text(said: str, **fields: Any) -> Json:
    piece = {"type": "output_text", "text": said, "annotations": [], "logprobs": []}
    return {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [piece],
        **fields,
    }


def refusal(said: str) -> Json:
    return text("", content=[{"type": "refusal", "refusal": said}])


def tool(arguments: Any = "{}", call_id: Any = "c", name: Any = "f", **fields: Any) -> Json:
    called = {"arguments": arguments, "call_id": call_id, "name": name, "status": "completed"}
    return {"type": "function_call", "id": "fc_1", **called, **fields}


def thought(*summaries: str, data: str | None = "enc", **fields: Any) -> Json:
    summary = [{"type": "summary_text", "text": said} for said in summaries]
    return {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": data, **fields}


def delta(kind: str, piece: str, place: int = 0) -> Json:
    return {"type": f"response.{kind}.delta", "output_index": place, "delta": piece}


def added(item: Json, place: int = 0) -> Json:
    return {"type": "response.output_item.added", "output_index": place, "item": item}


def done(item: Json, place: int = 0) -> Json:
    return {"type": "response.output_item.done", "output_index": place, "item": item}


# --- what a reply becomes -----------------------------------------------------------------------------


def test_text_alone_is_text() -> None:
    reply = whole(response(text("Paris."), usage={"input_tokens": 9, "output_tokens": 4}))
    assert reply == ChatResponse(ChatMessage(Role.ASSISTANT, "Paris."), Usage(9, 4), StopReason.STOP, "m-1")
    several = text(
        "", content=[{"type": "output_text", "text": "Par"}, {"type": "output_text", "text": "is."}]
    )
    assert whole(response(several)).message.content == "Paris."
    assert whole(response()).message.content is None


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (
            {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
                "output_tokens": 4,
                "output_tokens_details": {"reasoning_tokens": 2},
                "total_tokens": 13,
            },
            Usage(9, 4, 3, 2),
        ),
        ({"input_tokens": 9, "output_tokens": 4, "input_tokens_details": None}, Usage(9, 4)),
        ({"input_tokens": "9", "output_tokens": True}, Usage()),
        (None, Usage()),
        ([], Usage()),
        ("many", Usage()),
    ],
)
def test_usage_of_all_shapes(usage: Any, counted: Usage) -> None:
    assert whole(response(text("x"), usage=usage)).usage == counted
    assert stream(completed(text("x"), usage=usage))[1].usage == counted


@pytest.mark.parametrize(
    ("body", "stop"),
    [
        (response(text("x")), StopReason.STOP),
        (response(text("x"), tool()), StopReason.TOOL_USE),
        (response(refusal("No.")), StopReason.REFUSAL),
        (response(refusal("No."), tool()), StopReason.TOOL_USE),
        (incomplete("max_output_tokens", text("x")), StopReason.LENGTH),
        (incomplete("max_output_tokens", tool()), StopReason.LENGTH),
        (incomplete("content_filter", text("x")), StopReason.CONTENT_FILTER),
        (incomplete("something new", text("x")), StopReason.UNKNOWN),
        (response(text("x"), status="complete"), StopReason.UNKNOWN),
        (response(text("x"), status=None), StopReason.UNKNOWN),
        (response(tool(), status="odd"), StopReason.TOOL_USE),
    ],
)
def test_why_it_stopped(body: Json, stop: StopReason) -> None:
    assert whole(body).stop_reason is stop


def test_a_refusal_is_its_text() -> None:
    assert whole(response(refusal("I will not."))).message.content == "I will not."
    shown, reply = stream(
        delta("refusal", "I will"), delta("refusal", " not."), completed(refusal("I will not."))
    )
    assert (reply.message.content, reply.stop_reason) == ("I will not.", StopReason.REFUSAL)
    assert shown == [ContentDeltaEvent("I will"), ContentDeltaEvent(" not.")]


def test_reasoning_keeps_its_id_and_what_is_encrypted() -> None:
    reply = whole(response(thought("Hm."), tool('{"a":1}')))
    thinking, head = reply.message.content or ()
    assert thinking == ThinkingPart("Hm.", "rs_1", "enc", OURS)
    assert isinstance(head, OpaquePart)
    assert json.loads(head.data) == {"type": "function_call", "id": "fc_1", "status": "completed"}
    assert reply.message.tool_calls == (ToolCall("c", "f", '{"a":1}'),)


def test_an_image_is_seen_and_goes_back() -> None:
    item = {
        "type": "image_generation_call",
        "id": "ig_1",
        "status": "completed",
        "output_format": "webp",
        "result": "UklG",
    }
    reply = whole(response(item, text("Here.")))
    (image,) = [part for part in reply.message.content or () if isinstance(part, ImagePart)]
    assert image == ImagePart("data:image/webp;base64,UklG", "image/webp")
    assert "UklG" not in "".join(
        part.data for part in reply.message.content or () if isinstance(part, OpaquePart)
    )
    assert items_of(reply.message)[0] == item


# --- what goes back is what came ----------------------------------------------------------------------


def cleaned(value: Any) -> Any:
    """Without what says nothing: nulls, empty lists, and the odds of tokens."""
    if isinstance(value, dict):
        return {k: cleaned(v) for k, v in value.items() if v not in (None, []) and k != "logprobs"}
    return [cleaned(item) for item in value] if isinstance(value, list) else value


def again(*items: Json) -> list[Json]:
    message = whole(response(*items)).message
    stored = msgspec.json.decode(msgspec.json.encode(message), type=ChatMessage)
    assert stored == message
    return items_of(stored)


SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "q"},
}
CITED = {
    "type": "output_text",
    "text": "See.",
    "annotations": [{"type": "url_citation", "url": "https://x.example"}],
}
ROUND_TRIPS: dict[str, list[Json]] = {
    "reasoning and call": [thought("Hm."), tool('{"a": 1}')],
    "reasoning without summary": [thought(), tool()],
    "several summaries": [thought("**One**\n\nfirst", "**Two**\n\n"), text("Yes.")],
    "not encrypted": [thought("Hm.", data=None), text("Yes.")],
    "raw reasoning": [thought(content=[{"type": "reasoning_text", "text": "We need"}]), text("Yes.")],
    "raw reasoning with a summary": [
        thought("Sum", content=[{"type": "reasoning_text", "text": "a"}, {"type": "reasoning_text", "text": "b"}]),
        text("Yes."),
    ],
    "reasoning of an empty summary": [thought(""), text("Yes.")],
    "reasoning with a status": [thought("Hm.", status="incomplete"), text("Yes.")],
    "interleaved": [
        thought("1"),
        tool("{}", "a"),
        thought("2", id="rs_2"),
        text("Now", phase="commentary"),
        tool("{}", "b", id="fc_2"),
        thought("3", id="rs_3"),
        text("Done", id="msg_2", phase="final_answer"),
    ],
    "searched": [thought(), SEARCH, thought(id="rs_2"), text("", content=[CITED])],
    "refused after thought": [thought("Hm."), refusal("No.")],
    "text and refusal": [
        thought(), text("", content=[{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}]),
    ],
    "compacted": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}, thought(), text("Yes.")],
    "failed image": [
        thought(), {"type": "image_generation_call", "id": "ig", "status": "failed", "result": None}, text("No."),
    ],
    "called from a program": [thought(), tool(caller={"type": "program", "caller_id": "p"}, namespace="n")],
    "what does not exist yet": [thought(), {"type": "dream_call", "id": "d_1", "content": [{"type": "x"}]}, text("Y")],
    "a message of no text": [thought(), text("", content=[{"type": "output_audio", "id": "au_1"}])],
}  # fmt: skip


@pytest.mark.parametrize("items", ROUND_TRIPS.values(), ids=ROUND_TRIPS.keys())
def test_what_goes_back_is_what_came(items: list[Json]) -> None:
    assert cleaned(again(*items)) == cleaned(items)


texts = st.text(min_size=1, max_size=12)
reasoning = st.builds(
    lambda summaries, raw, data, n: (
        thought(*summaries, data=data, id=f"rs_{n}")
        | ({"content": [{"type": "reasoning_text", "text": said} for said in raw]} if raw else {})
    ),
    st.lists(texts, max_size=3),
    st.lists(texts, max_size=2),
    st.one_of(st.none(), texts),
    st.integers(0, 99),
)
messages = st.builds(
    lambda said, phase: text("", content=[{"type": "output_text", "text": t} for t in said]) | phase,
    st.lists(texts, min_size=1, max_size=3),
    st.sampled_from([{}, {"phase": "commentary"}]),
)
calls = st.builds(lambda n: tool(json.dumps({"n": n}), f"call_{n}"), st.integers())
others = st.sampled_from([SEARCH, {"type": "mcp_call", "id": "mcp_1", "output": "x"}])


@given(
    st.lists(st.one_of(reasoning, messages, calls, others), max_size=6),
    st.one_of(messages, calls),
)
def test_any_reasoned_reply_goes_back_as_it_came(before: list[Json], end: Json) -> None:
    items = [thought("Hm."), *before, end]
    names = [item["call_id"] for item in items if item["type"] == "function_call"]
    if len(set(names)) == len(names):
        assert cleaned(again(*items)) == cleaned(items)


# --- streams ------------------------------------------------------------------------------------------


def test_what_is_shown_and_what_is_said() -> None:
    call = tool('{"a":1}')
    events = [
        {"type": "response.created", "response": response(status="in_progress")},
        added(thought(data="half"), 0),
        delta("reasoning_summary_text", "Hm.", 0),
        {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 1},
        delta("reasoning_summary_text", "So.", 0),
        done(thought("Hm.", "So.", data="nearly"), 0),
        added(tool("", status="in_progress"), 1),
        delta("function_call_arguments", '{"a"', 1),
        delta("function_call_arguments", ":1}", 1),
        {"type": "response.function_call_arguments.done", "output_index": 1, "arguments": '{"a":1}'},
        done(call, 1),
        completed(thought("Hm.", "So.", data="whole"), call, usage={"input_tokens": 1, "output_tokens": 2}),
    ]
    shown, reply = stream(*events)
    assert reply == whole(events[-1]["response"])
    assert reply.message.content[:2] == (  # type: ignore[index]
        ThinkingPart("Hm.", origin=OURS),
        ThinkingPart("So.", "rs_1", "whole", OURS),
    )
    thoughts = [event for event in shown if isinstance(event, ThinkingDeltaEvent)]
    assert "".join(event.delta for event in thoughts) == "Hm.\n\nSo."
    assert [event for event in shown if isinstance(event, ToolCallDeltaEvent)] == [
        ToolCallDeltaEvent(0, "c", "f"),
        ToolCallDeltaEvent(0, None, None, '{"a"'),
        ToolCallDeltaEvent(0, None, None, ":1}"),
    ]


def test_what_was_not_streamed_is_shown_when_it_is_whole() -> None:
    items = [thought("Hm."), text("Yes."), tool('{"a":1}')]
    shown, reply = stream(*(done(item, place) for place, item in enumerate(items)), completed(*items))
    expected = [
        ThinkingDeltaEvent("Hm.", "rs_1", "enc", OURS),
        ContentDeltaEvent("Yes."),
        ToolCallDeltaEvent(0, "c", "f"),
        ToolCallDeltaEvent(0, None, None, '{"a":1}'),
    ]
    assert shown == expected
    assert reply == whole(response(*items))
    decoder = ResponsesReply(FAILURES, "m")
    assert list(decoder.whole(json.dumps(response(*items)).encode())) == expected


def test_items_told_one_by_one_are_the_reply_when_the_end_holds_none() -> None:
    for end in (completed(), {"type": "response.completed", "response": {"status": "completed"}}):
        _, reply = stream(done(tool("{}", "b"), 1), done(tool("{}", "a"), 0), end)
        assert [call.id for call in reply.message.tool_calls or ()] == ["a", "b"]


def test_the_end_of_a_stream_knows_best() -> None:
    _, reply = stream(done(thought(id="rs_tmp_1")), completed(thought(id="rs_2"), text("4")))
    assert [part.signature for part in reply.message.content or () if isinstance(part, ThinkingPart)] == [
        "rs_2"
    ]


def test_unknown_events_keep_alives_and_names_are_passed_over() -> None:
    events = [
        b"",
        b"  ",
        b"{}",
        {"type": "response.web_search_call.searching"},
        {"type": "response.new"},
        {"x": 1},
    ]
    assert stream(*events, completed(text("a")))[1].message.content == "a"
    reply = ResponsesReply(FAILURES, "m")
    reply.feed(b"response.completed", json.dumps({"response": response(text("by name"))}).encode())
    assert reply.finish().message.content == "by name"


def test_deltas_without_a_place_are_shown() -> None:
    events = [{"type": "response.output_text.delta", "delta": "Hi"}, completed(text("Hi"))]
    assert stream(*events)[0] == [ContentDeltaEvent("Hi")]
    odd = [{"type": "response.output_text.delta", "delta": "Hi", "output_index": [1]}, completed(text("Hi"))]
    assert stream(*odd)[0] == [ContentDeltaEvent("Hi")]


def test_a_stream_may_go_on_after_its_end_with_done() -> None:
    reply = ResponsesReply(FAILURES, "m")
    reply.feed(b"", json.dumps(completed(text("a"))).encode())
    assert reply.done
    reply.feed(b"", b"[DONE]")
    assert reply.finish().message.content == "a"


# --- tool calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [({"a": 1}, '{"a":1}'), (None, "{}"), ("", "{}"), ('{"a": 1', '{"a": 1'), ([1], "[1]"), (3, "3")],
)
def test_arguments_of_all_shapes_reach_the_kernel_as_text(arguments: Any, kept: str) -> None:
    assert whole(response(tool(arguments))).message.tool_calls == (ToolCall("c", "f", kept),)


def test_missing_ids_are_stable_and_count_on_from_the_conversation() -> None:
    body = response(tool(call_id=None), tool(call_id=""), tool(call_id="own"), tool(call_id=7))
    earlier = ChatMessage(Role.ASSISTANT, None, tool_calls=(ToolCall("x", "f"), ToolCall("y", "f")))
    ids = [call.id for call in whole(body, (earlier,)).message.tool_calls or ()]
    assert ids == ["call_3", "call_4", "own", "call_6"]
    assert whole(body, (earlier,)) == whole(body, (earlier,))


def test_ids_given_twice_become_unique() -> None:
    body = response(*(tool(call_id=name) for name in ("a", "a", "a_2", "a")))
    ids = [call.id for call in whole(body).message.tool_calls or ()]
    assert (ids[0], len(set(ids))) == ("a", 4)


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
@pytest.mark.parametrize(
    "half",
    [
        tool('{"a":', "b"),
        tool("", "b"),
        tool('{"a":1}', "b", status="incomplete"),
        tool('{"a":1}', "b", name=""),
        tool("[1]", "b"),
    ],
)
def test_half_a_call_at_the_limit_is_dropped_and_whole_ones_kept(reason: str, half: Json) -> None:
    reply = whole(incomplete(reason, text("Let me look."), tool("{}", "a"), half))
    assert [call.id for call in reply.message.tool_calls or ()] == ["a"]
    reply = whole(incomplete(reason, thought("Hm."), half))
    assert reply.message.tool_calls is None
    assert items_of(reply.message) == []  # and the reasoning that led to it does not go back alone


def test_calls_keep_their_places_between_texts() -> None:
    reply = whole(response(text("One."), tool("{}", "a"), text("Two."), tool("{}", "b")))
    assert reply.message.content == (TextPart("One."), CallPart(0), TextPart("Two."))
    assert [call.id for call in reply.message.tool_calls or ()] == ["a", "b"]


# --- what is no reply ---------------------------------------------------------------------------------

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
    b'{"output"',
    b'{"output":null}',
    b'{"output":{}}',
    b'{"output":"text"}',
    b'{"output":[null]}',
    b'{"output":["text"]}',
    b'{"output":[{"type":"message","content":"\xff\xfe"}]}',
    b'{"output":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    b'{"output":[]} {}',
    b'{"choices":[{"message":{"content":"a chat completion"}}]}',
    b'{"type":"message","content":[{"type":"text","text":"claude"}]}',
    b'{"object":"list","data":[]}',
    b'{"status":"completed","output":[{"type":"function_call","call_id":"c","arguments":"{}"}]}',
    b'{"status":"completed","output":[{"type":"function_call","call_id":"c","name":["f"],"arguments":"{}"}]}',
    b'{"status":"completed","output":[{"type":"function_call","name":"f","status":"incomplete","arguments":"{"}]}',
    b'{"status":"failed","output":[],"error":null}',
    b'{"status":"cancelled","output":[]}',
    b'{"status":"queued","output":[],"background":true}',
    b'{"status":"in_progress","output":[{"type":"message","content":[]}]}',
]


@pytest.mark.parametrize("body", NOT_A_REPLY, ids=[repr(body[:70]) for body in NOT_A_REPLY])
def test_what_is_no_reply_is_an_error(body: bytes) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        whole(body)
    assert len(str(caught.value)) <= 500


ODD_ITEMS: list[Json] = [
    {},
    {"type": None},
    {"type": ["message"]},
    {"type": "message"},
    {"type": "message", "content": None},
    {"type": "message", "content": "text"},
    {"type": "message", "content": [None, 7, "x", {}, {"type": []}, {"type": "output_text"}]},
    {"type": "message", "content": [{"type": "output_text", "text": None}]},
    {"type": "reasoning"},
    {"type": "reasoning", "id": 7, "summary": "x", "encrypted_content": {}},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": ["x"]}]},
    {"type": "image_generation_call"},
    {"type": "image_generation_call", "result": ["x"], "output_format": 7},
]


@pytest.mark.parametrize("item", ODD_ITEMS, ids=json.dumps)
def test_odd_items_neither_break_a_reply_nor_the_next_request(item: Json) -> None:
    reply = whole(response(item, text("Yes."), tool()))
    assert reply.message.text_content == "Yes."
    assert stream(added(item), done(item), completed(item, text("Yes."), tool()))[1] == reply
    assert "Yes." in json.dumps(items_of(reply.message))


NOT_A_STREAM: list[tuple[Any, ...]] = [
    (),
    (b"[DONE]",),
    (b"{",),
    (b"ping",),
    (b"7",),
    ({"type": "response.created", "response": response(status="in_progress")},),
    (delta("output_text", "a"),),
    (delta("output_text", "a"), b"[DONE]"),
    (added(tool("")), delta("function_call_arguments", '{"a":')),
    (added(tool("{}")), done(tool("{}"))),
    (added(text("")), delta("output_text", "a"), completed()),
    (delta("output_text", "a"), {"type": "response.failed", "response": response(status="failed")}),
    ({"type": "response.cancelled"},),
    ({"choices": [{"delta": {"content": "a chat completion"}}]}, b"[DONE]"),
    ({"type": "response.completed", "response": "x"},),
    ({"type": "response.completed"},),
]


@pytest.mark.parametrize("events", NOT_A_STREAM, ids=range(len(NOT_A_STREAM)))
def test_a_stream_that_ends_early_or_in_nonsense_is_an_error_that_may_be_retried(
    events: tuple[Any, ...],
) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        stream(*events)
    assert caught.value.retryable


FAILED: list[tuple[Any, type[LoomError]]] = [
    ({"code": "server_error", "message": "oops"}, ProviderUnavailableError),
    ({"code": "rate_limit_exceeded", "message": "slow down"}, RateLimitError),
    ({"code": "invalid_prompt", "message": "no"}, InvalidRequestError),
    ({"code": "invalid_image_url", "message": "no"}, InvalidRequestError),
    ({"code": "context_length_exceeded", "message": "too long"}, ContextOverflowError),
    ({"code": "image_content_policy_violation", "message": "no"}, LoomError),
    ("something", LoomError),
]


@pytest.mark.parametrize(("error", "kind"), FAILED)
def test_a_failed_reply_is_that_error(error: Any, kind: type[LoomError]) -> None:
    with pytest.raises(kind):
        whole(response(status="failed", error=error))
    failed = {"type": "response.failed", "response": response(text("half"), status="failed", error=error)}
    with pytest.raises(kind):
        stream(delta("output_text", "a"), failed)
    with pytest.raises(kind):
        stream(delta("output_text", "a"), {"type": "error", "error": error})
    with pytest.raises(kind):
        stream(delta("output_text", "a"), {"error": error})
    if isinstance(error, dict):
        with pytest.raises(kind, match=error["message"]):
            stream(delta("output_text", "a"), {"type": "error", "param": None, "sequence_number": 3, **error})


def test_a_named_error_event_is_an_error() -> None:
    reply = ResponsesReply(FAILURES, "m")
    with pytest.raises(LoomError, match="no credit"):
        reply.feed(b"error", b'{"message":"no credit","code":"insufficient_quota"}')
    with pytest.raises(LoomError, match="plain words"):
        reply.feed(b"error", b"plain words")


def test_background_mode_is_named() -> None:
    with pytest.raises(MalformedReplyError, match=r"status queued.*background mode"):
        whole(response(status="queued"))
