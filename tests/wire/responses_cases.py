"""Every recorded or written exchange over the Responses API, and ours and OpenAI's client to have it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from recordings import Exchange, Recording, recordings
from recordings import read as read_case
from responses_talk import asked, final

from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.types import ChatMessage, ChatResponse

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "openai_responses").glob("*.json"))
_RECORDED = recordings("openai_responses", "deepseek")
MISSING = [p for p in _RECORDED if p.values[0] is None]  # says why, when there are none
OURS = "openai_responses"


def wanted(exchange: Exchange) -> bool:
    """Whether this is a reply asked for and waited for."""
    return exchange.method == "POST" and exchange.path.endswith("/responses")


def exchanges(keep: Any) -> list[Any]:
    """The exchanges of all recordings and fixtures that ``keep`` wants, as parameters."""
    return [
        pytest.param(exchange, id=f"{case}-{number}")
        for case in all_cases()
        for number, exchange in enumerate(case.exchanges, 1)
        if keep(exchange)
    ] or MISSING


def all_cases() -> list[Recording]:
    return [*map(read_case, FIXTURES)] + [p.values[0] for p in _RECORDED if p.values[0] is not None]


def refused(exchange: Exchange) -> bool:
    return exchange.status != 200 or bool(final(exchange).get("error"))


def waits(exchange: Exchange) -> bool:
    return not exchange.streamed and json.loads(exchange.body).get("status") in ("queued", "in_progress")


REPLIES = exchanges(lambda e: wanted(e) and not refused(e) and not waits(e))
REFUSALS = exchanges(lambda e: wanted(e) and refused(e))
EVERY = exchanges(wanted)


def provider(url: str, **options: Any) -> OpenAIResponsesProvider:
    return OpenAIResponsesProvider(url + "/v1", "sk-test", "m", **{"max_retries": 0, **options})


async def ask(
    url: str, exchange: Exchange, *, messages: list[ChatMessage] | None = None, store: bool | None = None
) -> tuple[list[Any], ChatResponse]:
    """Ask as the recorded client did; what was shown on the way, and the reply."""
    request = asked(exchange.request)
    options = {"tools": request.tools, "model": exchange.request["model"], "settings": request.settings}
    async with provider(url, store=request.store if store is None else store) as ours:
        if not exchange.streamed:
            return [], await ours.chat(messages or request.messages, **options)
        events = [event async for event in ours.chat_stream(messages or request.messages, **options)]
        assert isinstance(events[-1], ChatResponse)
        return events[:-1], events[-1]
