"""Chat completions against what OpenAI and Azure said: every recording and every fixture, served from a socket.

Our request must mean what the recorded one means, our reply must say what the recorded one says, wherever the
bytes are cut; and OpenAI's own client must have heard the same.
"""

from __future__ import annotations

from typing import Any

import pytest
from chat_replay import chat_only, hear_as_they_do, replay_and_compare, vendor
from heard import FIXTURES_OF, fixtures, in_scope, notes, stale
from recordings import PIECES, Recording, recordings

from loom.errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.types import AudioPart, ImagePart

FIXTURES = FIXTURES_OF / "openai_chat"
OUT_OF_SCOPE = {
    "openai_chat/test_parallel_chat_error_return_mode": "asks the Responses API, another wire",
}
CASES = chat_only(in_scope(fixtures("openai_chat") + recordings("openai_chat", "azure"), OUT_OF_SCOPE))
REFUSED: dict[str, type[LoomError]] = {
    "RateLimitReached": RateLimitError,
    "unsupported_value": InvalidRequestError,
    "not supported with this model": InvalidRequestError,
    "context_length_exceeded": ContextOverflowError,
    "rate_limit_exceeded": RateLimitError,
    "insufficient_quota": RateLimitError,
    "invalid_api_key": AuthenticationError,
    "ResponsibleAIPolicyViolation": InvalidRequestError,
    "tool_use_failed": MalformedReplyError,
    "credits": ProviderError,
    "insufficient_system_resource": ProviderUnavailableError,
    "overloaded": ProviderUnavailableError,
}


def told(recording: Recording) -> dict[str, Any]:
    """What our own case says of itself; a recording says nothing."""
    own = FIXTURES / f"{recording.case}.json"
    return notes("openai_chat", recording.case) if own.is_file() else {}


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("recording", CASES)
async def test_what_was_recorded_is_said_and_heard(recording: Recording, piece: int | None) -> None:
    case = told(recording)
    make = vendor(**case.get("options", {}))
    responses = await replay_and_compare(recording, piece, make, REFUSED, case.get("wait"))
    if media := case.get("media"):
        parts = responses[-1].message.content or ()
        found = [part for part in parts if isinstance(part, ImagePart | AudioPart)]
        assert [[part.media_type, part.source] for part in found] == media


@pytest.mark.parametrize("recording", CASES)
async def test_their_own_client_hears_the_same(recording: Recording) -> None:
    if not told(recording).get("not_for_their_client"):
        await hear_as_they_do(recording)


def test_nothing_named_as_out_of_scope_is_gone() -> None:
    assert stale(OUT_OF_SCOPE, "openai_chat", "azure") == set()


@pytest.mark.parametrize("recording", fixtures("openai_chat"))
def test_a_fixture_says_where_it_is_from(recording: Recording) -> None:
    said_of_itself = told(recording)
    assert said_of_itself["documented"].startswith("https://")
    assert isinstance(said_of_itself["recorded_elsewhere"], bool)
