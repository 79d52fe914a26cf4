"""How many tokens a conversation is: counted by the service when asked, else estimated, and told apart.

An estimate is of bytes: the kinds of characters in a text, each kind at the price it has on average in the
vocabularies in use. It needs no vocabulary, so it works without a network and for every model, and it learns from
what services report. It is never exact and never says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct
from msgspec.structs import replace

from ..types import (
    AudioPart,
    ChatMessage,
    FilePart,
    ImagePart,
    OpaquePart,
    Part,
    TextPart,
    ThinkingPart,
    ToolSpec,
    Usage,
    VideoPart,
)
from .encoding import encode, parameters

# Where a message keeps its estimate, before any model's scale.
_KEY = "tokens"
# What a message costs beside its text: who speaks, where it begins and ends.
_MESSAGE = 4.0
_CALL = 8.0
_MEDIA: Mapping[type[Part], float] = {
    ImagePart: 1_000.0,
    AudioPart: 1_000.0,
    FilePart: 2_500.0,
    VideoPart: 5_000.0,
}

# Tokens for a character of each kind; spaces come with the word after them. Letters, digits, signs and line ends
# were fitted to recorded traffic of OpenAI, Anthropic, Gemini, Mistral and others, as far as text and usage are
# both in it (tests/wire/test_token_estimates.py holds how well). The scripts beyond ASCII follow what vendors
# document: 0.55 to 0.67 tokens for a Chinese character (Qwen, DeepSeek) and about one in older vocabularies. A
# character is counted at its first byte: from it follows how many there are.
_LETTERS = bytes([*range(0x41, 0x5B), *range(0x61, 0x7B)])
_DIGITS = b"0123456789"
_ASCII: tuple[tuple[bytes, float], ...] = (
    (_LETTERS, 1 / 4.2),
    (_DIGITS, 0.7),
    (bytes(byte for byte in range(0x21, 0x7F) if byte not in _LETTERS + _DIGITS), 0.75),
    (b"\n\t\r", 0.3),
)
_UTF8 = (
    *_ASCII,
    (bytes(range(0xC2, 0xE0)), 0.5),  # two bytes: Latin with marks, Greek, Cyrillic, Hebrew, Arabic
    (bytes(range(0xE0, 0xF0)), 0.8),  # three: Chinese, Japanese, Korean, Indic scripts, typographic signs
    (bytes(range(0xF0, 0xF5)), 2.0),  # four: emoji, rare ideographs
)
# Keys, hashes and encoded files: a vocabulary of words has no words for them.
_RANDOM, _RANDOM_BYTES = 0.65, 48
_RANDOM_RUN = re.compile(rb"[A-Za-z0-9+/=]{%d,}" % _RANDOM_BYTES)

# How far reported usage may move an estimate, and how much of it there must be. A tokenizer is never twice as
# fine as another; what moves an estimate further is not the text (hidden prompts, media) and would mislead.
_LEAST, _MOST = 0.5, 2.0
_TRUST = 1_000.0
_MEMORY = 0.9


class TokenCount(Struct, frozen=True):
    """A number of input tokens. ``exact`` is True only for what the service itself counted."""

    tokens: int
    exact: bool


class Scale(Struct, frozen=True):
    """What was estimated for a model and what its service reported for the same, older calls weighing less."""

    estimated: float = 0.0
    reported: float = 0.0

    @property
    def ratio(self) -> float:
        """What to multiply an estimate with, from 0.5 to 2. Short conversations move it little."""
        return min(_MOST, max(_LEAST, (_TRUST + self.reported) / (_TRUST + self.estimated)))


class TokenEstimator(Struct, frozen=True):
    """Estimates input tokens, better the more usage it has seen. A value: ``observed`` returns the next one.

    Before a model's first reply an estimate may be a third off (Claude 4.7 and later count about 30 percent more
    tokens for the same text than those before), and services add prompts of their own for tools.
    ``scales`` holds what was learned, by model. A message is looked at once, however often it is counted.
    """

    scales: Mapping[str, Scale] = {}

    def count(
        self, messages: Iterable[ChatMessage], *, tools: Sequence[ToolSpec] | None = None, model: str = ""
    ) -> TokenCount:
        """The input tokens of ``messages`` with ``tools``, for ``model`` as far as its usage was observed."""
        scale = self.scales.get(model)
        estimate = _estimate(messages, tools) * (scale.ratio if scale else 1.0)
        return TokenCount(round(estimate), exact=False)

    def observed(
        self,
        messages: Iterable[ChatMessage],
        usage: Usage,
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str = "",
    ) -> TokenEstimator:
        """This estimator with what a service reported for a request it was sent: these messages, these tools."""
        estimated = _estimate(messages, tools)
        if usage.input_tokens <= 0 or estimated <= 0:
            return self  # nothing was reported, or nothing was asked
        before = self.scales.get(model, Scale())
        scale = Scale(before.estimated * _MEMORY + estimated, before.reported * _MEMORY + usage.input_tokens)
        return replace(self, scales={**self.scales, model: scale})


@runtime_checkable
class CountsTokens(Protocol):
    """A provider whose service counts tokens without running the request."""

    async def count_tokens(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
    ) -> int:
        """How many input tokens the service counts in this request."""
        ...


async def count_tokens(
    provider: object,
    messages: Sequence[ChatMessage],
    *,
    tools: Sequence[ToolSpec] | None = None,
    model: str | None = None,
    estimator: TokenEstimator | None = None,
) -> TokenCount:
    """The input tokens of a request: counted where ``provider`` has an endpoint for it, else estimated.

    Raises ProviderError when the endpoint is there and fails: an estimate in its place would not be what was
    asked for.
    """
    if isinstance(provider, CountsTokens):
        return TokenCount(await provider.count_tokens(messages, tools=tools, model=model), exact=True)
    return (estimator or TokenEstimator()).count(messages, tools=tools, model=model or "")


def estimate_text(text: str) -> float:
    """Tokens in ``text``, for no model in particular."""
    data = text.encode("utf-8", "replace")
    tokens = 0.0
    if max(map(len, data.split()), default=0) >= _RANDOM_BYTES:
        words = _RANDOM_RUN.sub(b"", data)
        tokens += (len(data) - len(words)) * _RANDOM
        data = words
    kinds = _ASCII if data.isascii() else _UTF8
    return tokens + sum((len(data) - len(data.translate(None, kind))) * price for kind, price in kinds)


def _estimate(messages: Iterable[ChatMessage], tools: Sequence[ToolSpec] | None) -> float:
    total = 0.0
    for message in messages:
        known: float | None = message.__dict__.get(_KEY)
        if known is None:
            known = vars(message)[_KEY] = _of_message(message)
        total += known
    return total + (_of_tools(tools) if tools else 0.0)


def _of_message(message: ChatMessage) -> float:
    content = message.content or ()
    tokens = _MESSAGE + (estimate_text(content) if isinstance(content, str) else sum(map(_of_part, content)))
    for call in message.tool_calls or ():
        tokens += _CALL + estimate_text(call.name) + estimate_text(call.arguments)
    return tokens


def _of_part(part: Part) -> float:
    if isinstance(part, TextPart | ThinkingPart):
        return estimate_text(part.text)
    if isinstance(part, OpaquePart):
        return estimate_text(part.data)
    return _MEDIA.get(type(part), 0.0)


def _of_tools(tools: Sequence[ToolSpec]) -> float:
    total = 0.0
    for tool in tools:
        kept = _tools.get(id(tool))
        if kept is None:
            if len(_tools) >= _KEPT_TOOLS:
                _tools.clear()
            shown = {"name": tool.name, "description": tool.description, "parameters": parameters(tool)}
            # The spec is kept with its estimate, so that its id is no other's.
            kept = _tools[id(tool)] = (tool, _CALL + estimate_text(encode(shown).decode()))
        total += kept[1]
    return total


_KEPT_TOOLS = 1024
_tools: dict[int, tuple[ToolSpec, float]] = {}
