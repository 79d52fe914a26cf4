"""Counting tokens: estimates that say so, that learn, and that look at a message once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom.errors import ProviderUnavailableError
from loom.llm.gemini import GeminiProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.tokens import Scale, TokenCount, TokenEstimator, count_tokens, estimate_text
from loom.testing import ScriptedProvider
from loom.testing.model_server import ModelServer, served
from loom.types import (
    CallPart,
    ChatMessage,
    FilePart,
    ImagePart,
    OpaquePart,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolSpec,
    Usage,
)

ENGLISH = "The kernel is a pure machine over that log: an event changes the state, the state names the step. "
PYTHON = "    def spent(self, usage: Usage) -> int:\n        return self.total + usage.input_tokens  # all\n"
CHINESE = "今天天气很好。我们一起去公园散步。然后在附近的咖啡馆坐了一个下午。"
RUSSIAN = "Сегодня хорошая погода, и мы вместе пошли гулять в парк. "
JSON = '{"id": 4711, "name": "loom", "tags": ["a", "b"], "ratio": 0.25, "nested": {"ok": true}}\n'
BASE64 = "TG9vbSBpcyBhbiBlbWJlZGRhYmxlIFB5dGhvbiBhZ2VudCBydW50aW1lLCBkdXJhYmxlIGFuZCBnb3Zlcm5lZA"


def said(text: str, role: Role = Role.USER) -> ChatMessage:
    return ChatMessage(role, text)


def tokens(*messages: ChatMessage, **options: Any) -> int:
    count = TokenEstimator().count(messages, **options)
    assert count.exact is False
    return count.tokens


# --- texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [  # characters a token
        (ENGLISH, 3.8, 5.2),
        (PYTHON, 2.6, 4.2),
        (JSON, 1.7, 3.2),
        (CHINESE, 1.0, 1.8),
        (RUSSIAN, 1.7, 3.2),
        (BASE64, 1.2, 2.2),
        ("🙂🎉🚀", 0.3, 1.0),
    ],
    ids=["english", "python", "json", "chinese", "russian", "base64", "emoji"],
)
def test_kinds_of_text_have_their_own_density(text: str, least: float, most: float) -> None:
    assert least <= len(text) / estimate_text(text) <= most
    assert estimate_text(text * 50) == pytest.approx(50 * estimate_text(text), rel=0.01)


def test_nothing_costs_nothing() -> None:
    assert estimate_text("") == 0
    assert tokens() == 0


@given(st.text(), st.text())
def test_an_estimate_is_never_negative_and_a_longer_text_costs_no_less(one: str, two: str) -> None:
    assert 0 <= estimate_text(one) <= estimate_text(f"{one} {two}") + 1e-6


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_estimated(text: str) -> None:
    assert 0 <= estimate_text(text) <= 3 * len(text)


# --- messages -----------------------------------------------------------------------------------------


def test_everything_in_a_message_counts() -> None:
    plain = tokens(said(ENGLISH))
    assert plain > estimate_text(ENGLISH), "a message costs something itself"
    assert tokens(said(ENGLISH), said(ENGLISH)) == pytest.approx(2 * plain, abs=1)
    call = ToolCall("1", "look_around", '{"where": "everywhere"}')
    assert tokens(ChatMessage(Role.ASSISTANT, ENGLISH, tool_calls=[call])) > plain + 5
    parts = [TextPart(ENGLISH), ThinkingPart(ENGLISH), OpaquePart("x", ENGLISH), CallPart(0)]
    assert tokens(ChatMessage(Role.ASSISTANT, parts)) == pytest.approx(3 * estimate_text(ENGLISH), rel=0.15)
    assert tokens(ChatMessage(Role.USER, None)) > 0


def test_media_cost_what_media_cost_and_not_their_bytes() -> None:
    small = ChatMessage(Role.USER, [ImagePart("data:image/png;base64,AAAA")])
    large = ChatMessage(Role.USER, [ImagePart("data:image/png;base64," + "A" * 4_000_000)])
    assert tokens(small) == tokens(large) > 100
    assert tokens(ChatMessage(Role.USER, [FilePart("a.pdf")])) > 100


def test_tools_count_each_once_and_by_what_they_say() -> None:
    few = ToolSpec("look", "Look around.")
    many = ToolSpec("look", "Look around. " * 50, {"type": "object", "properties": {"a": {"type": "string"}}})
    assert 0 < tokens(tools=[few]) < tokens(tools=[many])
    assert tokens(tools=[few, few]) == pytest.approx(2 * tokens(tools=[few]), abs=1)
    # Specs made and forgotten take each other's place in memory; their estimates must not.
    counts = [tokens(tools=[ToolSpec("look", "some words " * number)]) for number in range(1, 200)]
    assert all(one < two for one, two in pairwise(counts))
    for number in range(3_000):
        tokens(tools=[ToolSpec(f"tool_{number}")])
    assert tokens(tools=[many]) == tokens(tools=[ToolSpec(many.name, many.description, many.parameters)])


def test_a_message_is_looked_at_once() -> None:
    message = said(ENGLISH)
    first = tokens(message)
    (name,) = vars(message)
    vars(message)[name] = 1_000.0
    assert tokens(message) == 1_000, "the second time it is only added up"
    assert tokens(said(ENGLISH)) == first
    assert message == said(ENGLISH), "what is kept is no part of the value"


# --- learning -----------------------------------------------------------------------------------------


def grown(estimator: TokenEstimator, ratio: float, steps: int = 12, **options: Any) -> TokenEstimator:
    """The estimator after a conversation whose service counts ``ratio`` times what is estimated."""
    messages: list[ChatMessage] = []
    for _ in range(steps):
        messages.append(said(ENGLISH * 40))
        usage = Usage(input_tokens=round(tokens(*messages) * ratio))
        estimator = estimator.observed(messages, usage, **options)
    return estimator


@pytest.mark.parametrize("ratio", [0.6, 0.8, 1.0, 1.3, 1.9])
def test_it_learns_what_a_model_makes_of_the_same_text(ratio: float) -> None:
    estimator = grown(TokenEstimator(), ratio, model="mine")
    message = said(PYTHON * 300)
    count = estimator.count([message], model="mine")
    assert count.tokens == pytest.approx(tokens(message) * ratio, rel=0.05)
    assert count.exact is False, "however much it has learned"


def test_what_was_learned_of_one_model_says_nothing_of_another() -> None:
    estimator = grown(TokenEstimator(), 1.5, model="mine")
    assert estimator.count([said(ENGLISH)], model="other") == TokenEstimator().count([said(ENGLISH)])
    both = grown(estimator, 0.7, model="other")
    assert both.scales["mine"] == estimator.scales["mine"]


def test_a_short_conversation_moves_little_and_a_later_one_more() -> None:
    # A service's own prompt of 400 tokens, of which nothing is seen: most of a short request, little of a long one.
    short = [said("Hello")]
    estimator = TokenEstimator().observed(short, Usage(tokens(*short) + 400))
    assert estimator.count([said(ENGLISH * 2_000)]).tokens < 1.5 * tokens(said(ENGLISH * 2_000))
    long = [said(ENGLISH * 2_000)]
    estimator = estimator.observed(long, Usage(tokens(*long) + 400))
    assert estimator.count(long).tokens == pytest.approx(tokens(*long), rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 2_000)), max_size=20))
def test_reports_of_any_kind_keep_it_within_bounds(reports: Sequence[tuple[int, int]]) -> None:
    estimator = TokenEstimator()
    for reported, words in reports:
        estimator = estimator.observed([said("word " * words)], Usage(reported))
    message = said(ENGLISH * 100)
    assert 0.49 * tokens(message) <= estimator.count([message]).tokens <= 2.01 * tokens(message)


def test_a_service_that_reports_nothing_teaches_nothing() -> None:
    estimator = TokenEstimator()
    assert estimator.observed([said(ENGLISH)], Usage()) is estimator
    assert estimator.observed([], Usage(100)) is estimator


def test_it_is_a_value_that_can_be_kept() -> None:
    estimator = TokenEstimator()
    later = grown(estimator, 1.3, steps=2, model="mine")
    assert estimator == TokenEstimator(), "observing makes a new one"
    again = msgspec.json.decode(msgspec.json.encode(later), type=TokenEstimator)
    assert again == later
    assert again.count([said(ENGLISH)], model="mine") == later.count([said(ENGLISH)], model="mine")
    assert Scale().ratio == 1.0


# --- asking the service -------------------------------------------------------------------------------


class Counting(ScriptedProvider):
    """A provider whose service counts."""

    def __init__(self, answer: int | Exception) -> None:
        super().__init__([])
        self.answer = answer
        self.asked: list[Any] = []

    async def count_tokens(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
    ) -> int:
        self.asked.append((messages, tools, model))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_service_that_counts_is_asked_and_exact() -> None:
    provider, tools = Counting(4_711), [ToolSpec("look")]
    messages = [said(ENGLISH)]
    counted = await count_tokens(provider, messages, tools=tools, model="mine")
    assert counted == TokenCount(4_711, exact=True)
    assert provider.asked == [(messages, tools, "mine")]


async def test_a_service_that_fails_to_count_is_not_replaced_by_a_guess() -> None:
    with pytest.raises(ProviderUnavailableError):
        await count_tokens(Counting(ProviderUnavailableError("down")), [said(ENGLISH)])


async def test_a_service_that_cannot_count_is_estimated_and_says_so() -> None:
    provider = OpenAICompatibleProvider("http://127.0.0.1:9/v1")
    messages = [said(ENGLISH * 40)]
    assert await count_tokens(provider, messages) == TokenCount(tokens(*messages), exact=False)
    learned = grown(TokenEstimator(), 1.5, model="mine")
    count = await count_tokens(provider, messages, model="mine", estimator=learned)
    assert count == learned.count(messages, model="mine")
    assert count.tokens > tokens(*messages)


async def test_gemini_counts_over_its_own_endpoint() -> None:
    async with ModelServer([served(body=b'{"totalTokens": 31}')]) as server:
        provider = GeminiProvider("k", base_url=server.base_url)
        assert await count_tokens(provider, [said(ENGLISH)], model="mine") == TokenCount(31, exact=True)
        assert server.requests[0].path.endswith("/models/mine:countTokens")
        await provider.aclose()
