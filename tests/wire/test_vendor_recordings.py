"""Vendors that speak OpenAI's chat completions in a way of their own: every recording, with their row's quirks."""

from __future__ import annotations

import pytest
from chat_replay import Make, chat_only, hear_as_they_do, replay_and_compare, vendor
from heard import in_scope, stale
from recordings import PIECES, Recording, recordings

from loom.assembly.vendors import VENDORS
from loom.errors import (
    AuthenticationError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    RateLimitError,
)
from loom.types import OpaquePart, StopReason, ThinkingPart

OUT_OF_SCOPE = {
    "cohere/test_request_simple_success_with_vcr": "Cohere's own API, which is not this wire",
    "deepseek/test_deepseek_responses_rejects_interleaved_function_calls": "the Responses API, another wire",
    "deepseek/test_deepseek_responses_text_stream": "the Responses API, another wire",
    "xai/chat_error_handling_with_xai_grok-4-1-fast-non-reasoning_raises_appropriate_auth_error": (
        "the Responses API, another wire"
    ),
}
SERVICES = (
    "cohere", "deepseek", "groq", "huggingface", "mistral", "ollama", "openrouter", "xai", "zai",
)  # fmt: skip
CASES = chat_only(in_scope(recordings(*SERVICES), OUT_OF_SCOPE))
REFUSED: dict[str, type[LoomError]] = {
    "authentication_error": AuthenticationError,
    "Unauthorized": AuthenticationError,
    "model_not_found": InvalidRequestError,
    "tool_use_failed": MalformedReplyError,
    "temporarily rate-limited": RateLimitError,
    "Token limit reached": InvalidRequestError,
}


def make_for(service: str) -> Make:
    """The adapter as a vendor's row makes it; Hugging Face has none and needs none."""
    return vendor(**(VENDORS[service].quirks if service in VENDORS else {}))


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("recording", CASES)
async def test_what_was_recorded_is_said_and_heard(recording: Recording, piece: int | None) -> None:
    responses = await replay_and_compare(recording, piece, make_for(recording.service), REFUSED)
    for response in responses:
        content = response.message.content
        for part in content if isinstance(content, tuple) else ():
            if isinstance(part, ThinkingPart | OpaquePart):
                assert part.origin == "openai_chat"
        assert response.stop_reason is not StopReason.UNKNOWN


@pytest.mark.parametrize("recording", CASES)
async def test_openais_own_client_hears_the_same(recording: Recording) -> None:
    await hear_as_they_do(recording)


def test_nothing_named_as_out_of_scope_is_gone() -> None:
    assert stale(OUT_OF_SCOPE, *SERVICES) == set()
