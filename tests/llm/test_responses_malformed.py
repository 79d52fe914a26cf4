"""What no reply of the Responses wire may be made of: nonsense, cut streams, failures told in the middle."""

import json
from typing import Any

import pytest
from responses_items import FAILURES, Json, added, completed, delta, done, response, stream, text, tool, whole

from loom.errors import (
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.openai_replay import items_of
from loom.llm.openai_responses_reply import ResponsesReply

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


BROKEN_ITEMS: list[Json] = [
    {},
    {"type": None},
    {"type": ["message"]},
    {"type": "message"},
    {"type": "message", "content": None},
    {"type": "message", "content": "text"},
    {"type": "message", "content": [None, 7, "x", {}, {"type": []}, {"type": "output_text"}]},
    {"type": "message", "content": [{"type": "output_text", "text": None}]},
    {"type": "reasoning", "id": 7, "summary": "x", "encrypted_content": {}},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": ["x"]}]},
    {"type": "image_generation_call", "result": ["x"], "output_format": 7},
]


@pytest.mark.parametrize("item", BROKEN_ITEMS, ids=json.dumps)
def test_review_d5_a_broken_item_of_a_known_kind_is_no_reply(item: Json) -> None:
    with pytest.raises(MalformedReplyError):
        whole(response(item, text("Yes."), tool()))
    with pytest.raises(MalformedReplyError):
        stream(added(item), done(item), completed(item, text("Yes."), tool()))


@pytest.mark.parametrize("item", [{"type": "reasoning"}, {"type": "image_generation_call"}], ids=json.dumps)
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
