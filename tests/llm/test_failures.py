"""Waiting times, retry decisions and scrubbing, each on its own."""

import json
from typing import Any

import pytest

from loom.errors import (
    ContextOverflowError,
    InvalidRequestError,
    MalformedReplyError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.failures import FailureReader, read_complaint, retry_after
from loom.llm.redact import Hidden, Scrubber
from loom.llm.registry import ProviderRegistry
from loom.llm.retry import Patience, RetryPolicy
from loom.testing.scripted import ScriptedProvider


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 99999 00:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, clock=lambda: 10.0) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-reset-requests": "1s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.66s"}, 7.66),
        ({"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "7s"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        # Azure's numbers have no unit, so nobody knows what they mean.
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "500"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": ""}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "9s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "20s",
            },
            20.0,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "1970-01-01T00:00:40Z",
            },
            30.0,
        ),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "1970-01-01T00:00:01Z",
            },
            0.0,
        ),
    ],
)
def test_headers_say_when_an_allowance_is_there_again(headers: dict[str, str], seconds: float | None) -> None:
    reader = FailureReader("x", Scrubber(), clock=lambda: 10.0)
    error = reader.from_reply(429, headers, b"{}")
    assert isinstance(error, RateLimitError)
    assert error.retry_after == seconds
    told = reader.from_reply(429, {**headers, "retry-after": "3"}, b"{}")
    assert isinstance(told, RateLimitError)
    assert told.retry_after == 3.0
    broken = reader.from_reply(500, headers, b"{}")
    assert isinstance(broken, ProviderUnavailableError)
    assert broken.retry_after is None


def test_what_a_model_wrote_badly_may_be_asked_for_again() -> None:
    body = b'{"error":{"code":"tool_use_failed","message":"no call","failed_generation":"<tool>{oops"}}'
    error = FailureReader("groq", Scrubber()).from_reply(400, {}, body)
    assert isinstance(error, MalformedReplyError)
    assert (error.retryable, error.status, error.provider_code) == (True, 400, "tool_use_failed")
    assert "no call: <tool>{oops" in str(error)


def test_payment_is_asked_for_wherever_the_number_stands() -> None:
    reader, said = FailureReader("x", Scrubber()), {"code": 402, "message": "no credits"}
    in_a_stream = reader.from_error(said)
    for error in (reader.from_reply(402, {}, b"{}"), in_a_stream):
        assert type(error) is ProviderError
        assert (error.retryable, "asks for payment" in str(error)) == (False, True)


def test_a_conversation_that_is_too_long_has_the_name_of_its_request() -> None:
    error = FailureReader("x", Scrubber()).from_reply(413, {"request-id": "req_1"}, b"{}")
    assert isinstance(error, ContextOverflowError)
    assert error.request_id == "req_1"


def test_google_says_when_in_the_body() -> None:
    details = b'"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"48s"}]'
    body = b'{"error":{"code":429,"message":"quota",' + details + b"}}"
    error = FailureReader("gemini", Scrubber()).from_reply(429, {}, body)
    assert isinstance(error, RateLimitError)
    assert (error.retry_after, error.provider_code) == (48.0, "RESOURCE_EXHAUSTED")


def test_jitter_is_full_and_capped() -> None:
    error = ProviderUnavailableError("x")
    policy = RetryPolicy(10, rand=lambda: 1.0)
    assert [policy.delay(error, attempt) for attempt in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert RetryPolicy(10, rand=lambda: 0.0).delay(error, 3) == 0.0
    assert policy.delay(error, 10) is None
    assert policy.delay(InvalidRequestError("x"), 0) is None
    assert policy.delay(RateLimitError("x", retry_after=61), 0) is None
    assert policy.delay(RateLimitError("x", retry_after=60), 0) == 60.5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"plain words", "plain words"),
        (b'"json words"', "json words"),
        (b'{"message":"top"}', "top"),
        (b'{"error":{"message":"in"}}', "in"),
        (b'{"error":"text"}', "text"),
        (b'{"error":{"message":"in","metadata":{"raw":"deep"}}}', "in: deep"),
        (b'{"detail":"fast"}', "fast"),
        (b'{"error":{"message":{"a":1}}}', '{"a":1}'),
        (b'{"error":null,"message":"x"}', "x"),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", "��"),
    ],
)
def test_messages_are_found_in_any_shape(body: bytes, message: str) -> None:
    found = read_complaint(body).message
    assert found == message or found.startswith("[[[")


def test_errors_are_capped_and_of_one_line() -> None:
    error = FailureReader("x", Scrubber()).from_reply(500, {}, b"word \n" * 10_000)
    assert len(str(error)) <= 500
    assert "\n" not in str(error)


# --- secrets ------------------------------------------------------------------------------------------


def test_hidden_shows_nothing() -> None:
    import copy
    import pickle

    box = Hidden("hush")
    assert "hush" not in repr(box) + str([box])
    with pytest.raises(TypeError):
        pickle.dumps(box)
    with pytest.raises(TypeError):
        copy.copy(box)
    assert box.reveal() == "hush"


# --- the registry -------------------------------------------------------------------------------------


def test_the_registry_resolves_lists_and_defaults() -> None:
    registry = ProviderRegistry()
    assert registry.default_model is None
    one, two = ScriptedProvider(), ScriptedProvider()
    registry.register("fast", one, "model-1")
    registry.register("good", two, "model-2")
    assert registry.resolve("good") == (two, "model-2")
    assert registry.list_models() == ["fast", "good"]
    assert registry.default_model == "fast"
    registry.default_model = "good"
    assert registry.default_model == "good"
    with pytest.raises(KeyError, match="registered: fast, good"):
        registry.resolve("none")
    with pytest.raises(KeyError):
        registry.default_model = "none"
    assert registry.default_model == "good"


@pytest.mark.parametrize(
    "error",
    [
        {"message": "too many tokens in the prompt", "type": "too_many_prompt_tokens", "code": 400},
        {"message": "[too_many_prompt_tokens] shorten it"},
        {"message": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."},
        {"message": "Prompt exceeds max length", "code": "1261"},
        {"message": "Invalid request: Your request exceeded model token limit: 8192"},
        {"message": "Range of input length should be [1, 30720]"},
        {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097"},
        {"message": "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000"},
        {
            "message": "prompt token count of 9000 exceeds the limit of 8000",
            "code": "model_max_prompt_tokens_exceeded",
        },
        {
            "message": "Request body too large for gpt-4o model. Max size: 8000 tokens.",
            "code": "tokens_limit_reached",
        },
    ],
    ids=lambda error: str(error["message"])[:30],
)
def test_review_k_what_vendors_say_of_a_conversation_that_is_too_long(error: dict[str, Any]) -> None:
    body = json.dumps({"error": error}).encode()
    failure = FailureReader("test", Scrubber()).from_reply(400, {}, body)
    assert isinstance(failure, ContextOverflowError)


def test_patience_is_over_with_its_tries_or_with_its_time() -> None:
    now = [100.0]
    error = ProviderUnavailableError("down")
    endless = Patience(RetryPolicy(1, rand=lambda: 1.0), None, lambda: now[0])
    assert endless.left() is None
    assert (endless.delay(error), endless.delay(error)) == (0.5, None)
    bounded = Patience(RetryPolicy(9, rand=lambda: 1.0), 2.0, lambda: now[0])
    assert bounded.left() == 2.0
    assert bounded.delay(error) == 0.5
    now[0] = 101.5
    assert bounded.left() == 0.5
    assert bounded.delay(error) is None  # the wait alone would take what is left
    now[0] = 110.0
    assert bounded.left() == 0.001


def test_review_l_a_wait_that_the_body_names_holds_against_the_allowance() -> None:
    error = {"status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [{"retryDelay": "48s"}]}
    body = json.dumps({"error": error}).encode()
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5s"}
    failure = FailureReader("test", Scrubber()).from_reply(429, headers, body)
    assert isinstance(failure, RateLimitError)
    assert failure.retry_after == 48.0


def test_review_l_an_empty_purse_is_not_asked_again() -> None:
    body = json.dumps({"error": {"code": "insufficient_quota", "message": "pay"}}).encode()
    assert not FailureReader("test", Scrubber()).from_reply(429, {}, body).retryable
    assert FailureReader("test", Scrubber()).from_reply(429, {}, b"{}").retryable


def test_review_l_a_service_that_says_whether_to_ask_again_is_heeded() -> None:
    reader = FailureReader("test", Scrubber())
    assert not reader.from_reply(503, {"x-should-retry": "false"}, b"{}").retryable
    assert reader.from_reply(400, {"x-should-retry": "true"}, b"{}").retryable
    assert reader.from_reply(503, {"x-should-retry": "perhaps"}, b"{}").retryable
