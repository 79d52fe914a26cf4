"""When models end, and what their vendors name instead. Data, and one function that adds it to the rows.

Each table names the page it follows and the last day on which that page is known to have said so; the pages were
read in public records of them. Nothing is inferred: a model whose vendor names no day has None, and so has one whose
day only others name. Vendors of which no such page was found were compared with the table of prices, which lists
what can be bought.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import NamedTuple

from msgspec.structs import replace

from .catalog import ModelInfo


class FactSource(NamedTuple):
    """Where the rows of a provider were read, and on which day they were last compared with it; None is never."""

    page: str
    checked: date | None


class Ending(NamedTuple):
    """The first day without the model, None when no day is named; its successor; whether it is never replaced."""

    retires: date | None
    successor: str | None
    pinned: bool = False


_SOLD = FactSource("genai-prices 0.2.3", date(2026, 11, 29))

SOURCES: Mapping[str, FactSource] = {
    "anthropic": FactSource(
        "https://platform.claude.com/docs/en/about-claude/model-deprecations", date(2026, 11, 26)
    ),
    "openai": FactSource("https://developers.openai.com/api/docs/deprecations", date(2026, 11, 22)),
    "gemini": FactSource("https://ai.google.dev/gemini-api/docs/deprecations", date(2026, 11, 10)),
    "deepseek": FactSource("https://api-docs.deepseek.com/updates", date(2026, 9, 14)),
    # Resellers report qwen3-max and qwen3-coder-plus withdrawn in October 2026; the notices found name others.
    "qwen": FactSource("https://help.aliyun.com/en/model-studio/model-depreciation", date(2026, 10, 11)),
    "minimax": FactSource("https://platform.minimax.io/docs/guides/text-generation", date(2026, 10, 19)),
    "groq": FactSource("https://console.groq.com/docs/deprecations", date(2026, 7, 31)),
    "mistral": _SOLD,
    "openrouter": _SOLD,
    "xai": FactSource("https://docs.x.ai/developers/migration/may-15-retirement", date(2026, 5, 15)),
    "together": _SOLD,
    "fireworks": _SOLD,
    "zai": _SOLD,
}

_NOWHERE = FactSource("", None)
"""Of a provider that is missing above, which the tests do not let pass."""

_CLAUDE_4 = date(2026, 6, 15)
_GPT_4 = date(2026, 10, 23)
_GPT_5 = date(2026, 12, 11)
_GPT_4O = date(2027, 1, 14)
_GPT_5_1 = date(2027, 4, 1)
_GROK_4 = date(2026, 5, 15)

ENDINGS: Mapping[str, Mapping[str, Ending]] = {
    "anthropic": {
        "claude-opus-4-5": Ending(date(2027, 1, 22), "claude-opus-5-5"),
        "claude-sonnet-4-5": Ending(date(2026, 11, 30), "claude-sonnet-5-5"),
        "claude-opus-4-1": Ending(date(2026, 8, 5), "claude-opus-4-8"),
        "claude-opus-4": Ending(_CLAUDE_4, "claude-opus-4-8"),
        "claude-opus-4-0": Ending(_CLAUDE_4, "claude-opus-4-8"),
        "claude-sonnet-4": Ending(_CLAUDE_4, "claude-sonnet-4-6"),
        "claude-sonnet-4-0": Ending(_CLAUDE_4, "claude-sonnet-4-6"),
        "claude-3-7-sonnet": Ending(date(2026, 2, 19), "claude-sonnet-4-6"),
        "claude-3-5-haiku": Ending(date(2026, 2, 19), "claude-haiku-4-5"),
        "claude-3-5-sonnet": Ending(date(2025, 10, 28), "claude-sonnet-4-6"),
        "claude-3-opus": Ending(date(2026, 1, 5), "claude-opus-4-8"),
        "claude-3-haiku": Ending(date(2026, 4, 20), "claude-haiku-4-5"),
    },
    "openai": {
        "gpt-5.4-nano": Ending(_GPT_5_1, "gpt-6-luna"),
        "gpt-5.1": Ending(_GPT_5_1, "gpt-6-sol"),
        "gpt-5": Ending(_GPT_5, "gpt-6.1-sol"),
        "gpt-5-mini": Ending(_GPT_5, "gpt-6.1-terra"),
        "gpt-5-nano": Ending(_GPT_5, "gpt-6-luna"),
        "o3": Ending(_GPT_5, "gpt-6.1-sol"),
        "gpt-4o": Ending(_GPT_4O, "gpt-6-luna"),
        "gpt-4o-mini": Ending(_GPT_4O, "gpt-6-luna"),
        "gpt-4.1": Ending(_GPT_4O, "gpt-6-luna"),
        "gpt-4.1-mini": Ending(_GPT_4O, "gpt-6-luna"),
        "gpt-4.1-nano": Ending(_GPT_4, "gpt-5.6-luna"),
        "gpt-4o-2024-05-13": Ending(_GPT_4, "gpt-5.6-sol"),
        "o4-mini": Ending(_GPT_4, "gpt-5.6-terra"),
        "o3-mini": Ending(_GPT_4, "gpt-5.6-sol"),
        "o1": Ending(_GPT_4, "gpt-5.6-sol"),
        "gpt-4-turbo": Ending(_GPT_4, "gpt-5.6-sol"),
        "gpt-4": Ending(_GPT_4, "gpt-5.6-sol"),
        "gpt-3.5-turbo": Ending(_GPT_4, "gpt-5.6-terra"),
    },
    # "The earliest possible dates". From their last day on, Google itself answers with the successor.
    "gemini": {
        "gemini-3.7-flash": Ending(None, "gemini-3.8-flash"),
        "gemini-3.5-flash": Ending(None, "gemini-3.6-flash"),
        "gemini-3-flash-preview": Ending(None, "gemini-3.5-flash"),
        "gemini-3.1-flash-lite": Ending(date(2027, 5, 7), "gemini-3.5-flash-lite"),
        "gemini-2.5-pro": Ending(date(2026, 12, 1), "gemini-3.8-flash"),
        "gemini-2.5-flash": Ending(date(2026, 12, 1), "gemini-3.5-flash-lite"),
        "gemini-2.0-flash": Ending(date(2026, 6, 1), "gemini-3.6-flash"),
        "gemini-2.0-flash-lite": Ending(date(2026, 6, 1), "gemini-3.1-flash-lite"),
    },
    # The two of V4 are names that still answer, with the model that deepseek-flash is.
    "deepseek": {
        "deepseek-v4-flash": Ending(None, "deepseek-flash"),
        "deepseek-v4-pro": Ending(None, "deepseek-flash"),
        "deepseek-chat": Ending(date(2026, 7, 24), "deepseek-v4-flash"),
        "deepseek-reasoner": Ending(date(2026, 7, 24), "deepseek-v4-flash"),
    },
    "minimax": {"MiniMax-M2.7": Ending(date(2026, 11, 18), "MiniMax-M3.1-Flash")},
    # The weights of others under their own names: another maker's model is no living member of the family.
    "groq": {
        "llama-3.3-70b-versatile": Ending(date(2026, 8, 16), "openai/gpt-oss-120b", pinned=True),
        "llama-3.1-8b-instant": Ending(date(2026, 8, 16), "openai/gpt-oss-20b", pinned=True),
    },
    # Deprecated on 2026-05-22; no last day was found.
    "mistral": {"devstral-2512": Ending(None, "mistral-medium-3-5")},
    "xai": {
        "grok-4": Ending(_GROK_4, "grok-4.3"),
        "grok-4-0709": Ending(_GROK_4, "grok-4.3"),
        "grok-4-fast": Ending(_GROK_4, "grok-4.3"),
        "grok-code-fast-1": Ending(_GROK_4, "grok-4.3"),
        "grok-3": Ending(_GROK_4, "grok-4.3"),
    },
}


def with_endings(models: Iterable[ModelInfo]) -> Iterator[ModelInfo]:
    """``models`` with their ends and sources, then those of which nothing but the end is known."""
    left = {(provider, name) for provider, endings in ENDINGS.items() for name in endings}
    for info in models:
        left.discard((info.provider, info.name))
        yield _completed(info)
    for provider, endings in ENDINGS.items():
        yield from (
            _completed(ModelInfo(provider=provider, name=name))
            for name in endings
            if (provider, name) in left
        )


def _completed(info: ModelInfo) -> ModelInfo:
    ending = ENDINGS.get(info.provider, {}).get(info.name, Ending(None, None))
    source = SOURCES.get(info.provider, _NOWHERE)
    return replace(
        info,
        retires=ending.retires,
        successor=ending.successor,
        pinned=ending.pinned,
        source=source.page,
        checked=source.checked,
    )
