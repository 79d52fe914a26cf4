"""The Responses decoder against what servers send, what no reply may be made of, and what must go back."""

import json
from typing import Any

import pytest
from responses_items import (
    FAILURES,
    OURS,
    Json,
    added,
    completed,
    delta,
    done,
    incomplete,
    refusal,
    response,
    stream,
    text,
    thought,
    tool,
    whole,
)

from loom.llm.base import ContentDeltaEvent, ThinkingDeltaEvent, ToolCallDeltaEvent
from loom.llm.openai_replay import items_of
from loom.llm.openai_responses_reply import ResponsesReply
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
        ({"input_tokens": "9", "output_tokens": True}, None),
        (None, None),
        ([], None),
        ("many", None),
    ],
)
def test_usage_of_all_shapes(usage: Any, counted: Usage | None) -> None:
    assert whole(response(text("x"), usage=usage)).usage == counted
    assert stream(completed(text("x"), usage=usage))[1].usage == counted


@pytest.mark.parametrize(
    ("body", "stop"),
    [
        (response(text("x")), StopReason.STOP),
        (response(text("x"), tool()), StopReason.TOOL_USE),
        (response(refusal("No.")), StopReason.REFUSAL),
        (response(refusal("No."), tool()), StopReason.REFUSAL),
        (incomplete("max_output_tokens", text("x")), StopReason.LENGTH),
        (incomplete("max_output_tokens", tool()), StopReason.LENGTH),
        (incomplete("content_filter", text("x")), StopReason.CONTENT_FILTER),
        (incomplete("something new", text("x")), StopReason.LENGTH),
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


def test_review_e1_a_call_told_twice_is_one() -> None:
    body = response(*(tool(call_id=name) for name in ("a", "a", "a_2", "a")))
    ids = [call.id for call in whole(body).message.tool_calls or ()]
    assert ids == ["a", "a_2"]


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
