"""Waiting times, retry decisions and scrubbing, each on its own."""

import pytest

from loom.errors import InvalidRequestError, ProviderUnavailableError, RateLimitError
from loom.llm.failures import FailureReader, read_complaint, retry_after
from loom.llm.redact import Hidden, Scrubber
from loom.llm.registry import ProviderRegistry
from loom.llm.retry import RetryPolicy
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
