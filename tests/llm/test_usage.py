"""What each service counts, by modality, cache and tool, and what that costs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loom.assembly.prices import pricer
from loom.config.model import Model, Price
from loom.kernel.reply import sound_reply
from loom.llm.pricing import price_of
from loom.llm.usage import of_anthropic, of_chat, of_gemini, of_response
from loom.types import ChatMessage, ChatResponse, ModelUsage, Role, Usage, without_advisors

M = 1_000_000


def modal(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name.upper(), "tokenCount": count} for name, count in counts.items()]


GEMINI: list[tuple[dict[str, Any], Usage]] = [
    (
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 1120,
            "candidatesTokensDetails": modal(image=1120),
            "promptTokensDetails": modal(text=10),
        },
        Usage(10, 1120, output_image_tokens=1120),
    ),
    (
        {"promptTokenCount": 100, "promptTokensDetails": modal(audio=60, image=30, document=5, video=2)},
        Usage(100, input_audio_tokens=60, input_image_tokens=35, input_video_tokens=2),
    ),
    (
        {
            "promptTokenCount": 100,
            "promptTokensDetails": modal(audio=60),
            "cachedContentTokenCount": 50,
            "cacheTokensDetails": modal(audio=40, text=10),
        },
        Usage(100, 0, 50, input_audio_tokens=60, cache_audio_read_tokens=40),
    ),
    # Parts that exceed the whole, or are no counts.
    (
        {"promptTokenCount": 5, "promptTokensDetails": modal(audio=60, image=9)},
        Usage(5, input_audio_tokens=5),
    ),
    ({"promptTokenCount": 5, "promptTokensDetails": [7, {"modality": 3}], "cacheTokensDetails": 2}, Usage(5)),
    (
        {"promptTokenCount": 5, "thoughtsTokenCount": 7, "candidatesTokensDetails": modal(image=3)},
        Usage(5, 7),
    ),
]


@pytest.mark.parametrize(("usage", "counted"), GEMINI)
def test_review_h2_gemini_counts_by_modality(usage: dict[str, Any], counted: Usage) -> None:
    assert of_gemini(usage, None, "gemini-x") == counted


@pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-flash", 1), ("gemini-3-flash-preview", 2)])
def test_review_h2_gemini_searches(model: str, searches: int) -> None:
    grounding = {"webSearchQueries": ["a", "b", ""]}
    assert of_gemini({"promptTokenCount": 5}, grounding, model) == Usage(5, web_searches=searches)
    assert of_gemini({"promptTokenCount": 5}, {"webSearchQueries": 7}, model) == Usage(5)


def test_review_h2_anthropic_counts_caches_searches_and_advice() -> None:
    usage = {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 9},
        "iterations": [
            {"type": "message", "input_tokens": 10, "output_tokens": 20},
            {"type": "advisor_message", "model": "claude-opus-4-5", "input_tokens": 100, "output_tokens": 50},
            {"type": "advisor_message", "model": "claude-opus-4-5"},
        ],
    }
    advice = Usage(100, 50)
    assert of_anthropic(usage) == Usage(
        120, 70, 3, 7,
        cache_write_1h_tokens=5,
        web_searches=2,
        advisors=(ModelUsage("claude-opus-4-5", advice),),
    )  # fmt: skip
    more = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 3,
        "cache_creation": {"ephemeral_1h_input_tokens": 9},
    }
    assert of_anthropic(more) == Usage(4, 0, 0, 3, cache_write_1h_tokens=3)


def test_review_h2_chat_counts_by_modality_and_tool() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 100,
        "prompt_tokens_details": {
            "audio_tokens": 60,
            "image_tokens": 10,
            "cached_tokens": 4,
            "cache_write_tokens": 5,
        },
        "completion_tokens_details": {"audio_tokens": 70, "image_tokens": 500},
        "server_side_tool_usage_details": {"web_search_calls": 2},
        "server_tool_use": {"web_search_requests": 1},
    }
    assert of_chat(usage, "m") == Usage(
        100, 100, 4, 5,
        input_audio_tokens=60,
        input_image_tokens=10,
        output_audio_tokens=70,
        output_image_tokens=30,
        web_searches=3,
    )  # fmt: skip


def test_review_h2_responses_count_their_searches() -> None:
    items: list[dict[str, Any]] = [
        {"type": "web_search_call", "status": "completed", "action": {"type": "search"}},
        {"type": "web_search_call", "status": "completed"},
        {"type": "web_search_call", "status": "completed", "action": {"type": "open_page"}},
        {"type": "web_search_call", "status": "failed", "action": {"type": "search"}},
        {"type": "message"},
    ]
    assert of_response({"input_tokens": 5, "output_tokens": 6}, items) == Usage(5, 6, web_searches=2)


# --- sums and codecs --------------------------------------------------------------------------------


def test_review_h2_a_sum_has_every_count() -> None:
    counts = [name for name in Usage.__struct_fields__ if name not in ("estimated", "advisors")]
    one = Usage(**{name: place for place, name in enumerate(counts, 1)})  # type: ignore[arg-type]
    two = one + one + Usage(estimated=True)
    assert [getattr(two, name) for name in counts] == [2 * place for place, _ in enumerate(counts, 1)]
    assert two.estimated
    advised = Usage(5, 5, advisors=(ModelUsage("a", Usage(2, 1)),))
    total = advised + advised + Usage(1, 1, advisors=(ModelUsage("b", Usage(1, 1)),))
    assert total.advisors == (ModelUsage("a", Usage(4, 2)), ModelUsage("b", Usage(1, 1)))
    assert without_advisors(total) == Usage(6, 8)
    assert msgspec.json.decode(msgspec.json.encode(total), type=Usage) == total


def test_review_h2_usage_of_0_9_0_still_reads() -> None:
    old = b'{"input_tokens":5,"output_tokens":6,"cache_read_tokens":1,"cache_write_tokens":2}'
    assert msgspec.json.decode(old, type=Usage) == Usage(5, 6, 1, 2)
    assert msgspec.json.encode(Usage(5, 6, 1, 2)) == old


def test_review_h2_counts_of_foreign_code_are_checked() -> None:
    usage: Any = Usage(5, 6, web_searches=-1, output_image_tokens="many", advisors=("x",))  # type: ignore[arg-type]
    reply = sound_reply(ChatResponse(ChatMessage(Role.ASSISTANT, "x"), usage), 1)
    assert reply.usage == Usage(5, 6)
    kept = Usage(5, 6, advisors=(ModelUsage("a", Usage(1)),))
    assert sound_reply(ChatResponse(ChatMessage(Role.ASSISTANT, "x"), kept), 1).usage == kept


# --- prices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "usage", "cost"),
    [
        # A picture of 1,120 tokens was 0.0028 at the price of text.
        (
            "gemini",
            "gemini-2.5-flash-image",
            Usage(2000, 1120, output_image_tokens=1120),
            2000 * 0.3 + 1120 * 30,
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            Usage(1000, 100, cache_write_tokens=500, cache_write_1h_tokens=300, web_searches=2),
            500 * 3 + 200 * 3.75 + 300 * 6 + 100 * 15 + 2 * 10_000,
        ),
        (
            "openai",
            "gpt-audio",
            Usage(100, 100, input_audio_tokens=60, output_audio_tokens=70),
            40 * 2.5 + 60 * 32 + 30 * 10 + 70 * 64,
        ),
        (
            "mistral",
            "voxtral-small-latest",
            Usage(635, 8, input_audio_tokens=623, input_audio_seconds=36),
            12 * 0.1 + 8 * 0.4 + 0.24 * M / 100,
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            Usage(1100, 150, advisors=(ModelUsage("claude-opus-4-5", Usage(100, 50)),)),
            1000 * 3 + 100 * 15 + 100 * 5 + 50 * 25,
        ),
    ],
)
def test_review_h2_each_count_has_its_price(provider: str, model: str, usage: Usage, cost: float) -> None:
    pytest.importorskip("genai_prices")
    assert price_of(provider, model, usage) == pytest.approx(cost / M)


def test_review_h2_what_the_table_cannot_price_is_unknown() -> None:
    pytest.importorskip("genai_prices")
    assert price_of("deepseek", "deepseek-chat", Usage(5, 5, web_searches=1)) is None
    strange = Usage(5, 5, advisors=(ModelUsage("unheard-of", Usage(1, 1)),))
    assert price_of("anthropic", "claude-sonnet-4-5", strange) is None
    assert price_of("openai", "gpt-audio", Usage(5, 5, output_audio_tokens=9)) is None, "more than there is"


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (Price(1, 2), Usage(10, 10, input_audio_tokens=4, output_image_tokens=4), 10 + 20),
        (Price(1, 2, input_audio=5), Usage(10, 10, input_audio_tokens=4), 6 + 20 + 20),
        (Price(1, 2, input_image=5), Usage(10, 10, input_image_tokens=4), 6 + 20 + 20),
        (Price(1, 2, output_audio=5), Usage(10, 10, output_audio_tokens=4), 10 + 12 + 20),
        (Price(1, 2, output_image=5), Usage(10, 10, output_image_tokens=4), 10 + 12 + 20),
        (Price(1, 2, cache_write=3), Usage(10, 0, 0, 5, cache_write_1h_tokens=2), 5 + 15),
        (
            Price(1, 2, cache_write=3, cache_write_1h=4),
            Usage(10, 0, 0, 5, cache_write_1h_tokens=2),
            5 + 9 + 8,
        ),
        (
            Price(1, 2, cache_read=0.5, input_audio=5),
            Usage(10, 0, 5, input_audio_tokens=4, cache_audio_read_tokens=3),
            5 * 0.5 + 4 + 5,
        ),
        (Price(1, 2, web_search=0.01), Usage(10, 10, web_searches=2), 30 + 20_000),
    ],
)
def test_review_h2_a_declared_price_has_them_too(price: Price, usage: Usage, cost: float) -> None:
    assert price.cost(usage) == pytest.approx(cost / M)


def test_review_h2_a_declared_price_does_not_know_searches_and_advice() -> None:
    declared = pricer(Model.anthropic("m", price=Price(1, 2)))
    assert declared is not None
    assert declared(Usage(1, 1, web_searches=1)) is None
    assert declared(Usage(1, 1, advisors=(ModelUsage("b", Usage(1)),))) is None
