"""The rows of the catalogue, as vendors documented their models in autumn 2026.

Read on the vendors' own pages: Claude 5 and later, and which Claude models take a schema (platform.claude.com),
GPT-6.2 (developers.openai.com), DeepSeek (api-docs.deepseek.com), MiniMax (platform.minimax.io), which Qwen models
take a schema (alibabacloud.com). The rest is from public lists that cite such pages (models.dev, genai-prices,
openrouter.ai), compared with each other: a rounded number gave way to an exact one, and where two contradict each
other the field stays None. Nothing is inferred from another model.

A family is a set of capabilities with the models that share it, the newest first. When a model ends, the page that
says so and the day on which it was read are in ``catalog_endings``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict, Unpack

from .catalog import ModelInfo, StructuredMode


class _Capabilities(TypedDict, total=False):
    vision: bool | None
    audio: bool | None
    pdf: bool | None
    tools: bool | None
    thinking: bool | None
    structured: StructuredMode | None


_NOTHING: _Capabilities = {}


def _family(
    provider: str,
    *models: tuple[str, int | None, int | None],
    base: _Capabilities = _NOTHING,
    **known: Unpack[_Capabilities],
) -> Iterator[ModelInfo]:
    """Models of one provider as (name, context window, longest reply). Every chat model here streams."""
    capabilities: _Capabilities = {**base, **known}
    for name, context_window, max_output in models:
        yield ModelInfo(
            provider=provider,
            name=name,
            context_window=context_window,
            max_output=max_output,
            streaming=True,
            **capabilities,
        )


_TEXT: _Capabilities = {"vision": False, "audio": False, "pdf": False, "tools": True}
_IMAGES: _Capabilities = {"vision": True, "audio": False, "pdf": None, "tools": True}
_DOCUMENTS: _Capabilities = {"vision": True, "audio": False, "pdf": True, "tools": True}
_EVERYTHING: _Capabilities = {"vision": True, "audio": True, "pdf": True, "tools": True}

_CLAUDE: _Capabilities = {**_DOCUMENTS, "thinking": True}
_OPEN_WEIGHTS: _Capabilities = {**_TEXT, "thinking": True}

MODELS: tuple[ModelInfo, ...] = (
    # --- anthropic: "1M" and "128K" are the documentation's round numbers
    *_family(
        "anthropic",
        ("claude-opus-5-5", 1_000_000, 128_000),
        ("claude-opus-5", 1_000_000, 128_000),
        ("claude-opus-4-8", 1_000_000, 128_000),
        ("claude-opus-4-7", 1_000_000, 128_000),
        ("claude-opus-4-6", 1_000_000, 128_000),
        ("claude-opus-4-5", 200_000, 64_000),
        ("claude-sonnet-5-5", 1_000_000, 128_000),
        ("claude-sonnet-4-6", 1_000_000, 64_000),
        ("claude-sonnet-4-5", 200_000, 64_000),
        ("claude-haiku-5-5", 1_000_000, 128_000),
        ("claude-haiku-4-5", 200_000, 64_000),
        base=_CLAUDE,
        structured="native",
    ),
    *_family(
        "anthropic",
        ("claude-fable-5-2", 1_000_000, None),
        ("claude-fable-5-1", 1_000_000, 128_000),
        ("claude-fable-5", 1_000_000, 128_000),
        ("claude-sonnet-5", 1_000_000, 128_000),
        base=_CLAUDE,
    ),
    *_family(
        "anthropic",
        ("claude-opus-4-1", 200_000, 32_000),
        ("claude-opus-4", 200_000, 32_000),
        ("claude-opus-4-0", 200_000, 32_000),
        ("claude-sonnet-4", 200_000, 64_000),
        ("claude-sonnet-4-0", 200_000, 64_000),
        ("claude-3-7-sonnet", 200_000, 64_000),
        base=_CLAUDE,
        structured="tool",
    ),
    *_family(
        "anthropic", ("claude-3-5-haiku", 200_000, 8_192), base=_DOCUMENTS, thinking=False, structured="tool"
    ),
    # --- openai: of the window of GPT-5 and later, 128,000 tokens are kept for the reply
    *_family(
        "openai",
        ("gpt-6.2-sol", 1_050_000, 128_000),
        ("gpt-6-astra", 1_050_000, 128_000),
        ("gpt-6-sol", 1_050_000, 128_000),
        ("gpt-6-luna", 1_050_000, 128_000),
        ("gpt-5.6-sol", 1_050_000, 128_000),
        ("gpt-5.5", 1_050_000, 128_000),
        ("gpt-5.4", 1_050_000, 128_000),
        ("o3", 200_000, 100_000),
        base=_DOCUMENTS,
        thinking=True,
        structured="native",
    ),
    *_family(
        "openai",
        ("gpt-6.1-sol", 1_050_000, 128_000),
        ("gpt-6.1-terra", 1_050_000, 128_000),
        ("gpt-5.6-terra", 1_050_000, 128_000),
        ("gpt-5.6-luna", 1_050_000, 128_000),
        ("gpt-5.4-mini", 400_000, None),
        ("gpt-5.4-nano", 400_000, None),
        ("gpt-5.2", 400_000, 128_000),
        ("gpt-5.1", 400_000, 128_000),
        ("gpt-5", 400_000, 128_000),
        ("gpt-5-mini", 400_000, 128_000),
        ("gpt-5-nano", 400_000, 128_000),
        ("o4-mini", 200_000, 100_000),
        base=_IMAGES,
        thinking=True,
        structured="native",
    ),
    *_family(
        "openai",
        ("gpt-4.1", 1_047_576, 32_768),
        ("gpt-4.1-mini", 1_047_576, 32_768),
        ("gpt-4o", 128_000, 16_384),
        ("gpt-4o-mini", 128_000, 16_384),
        base=_DOCUMENTS,
        thinking=False,
        structured="native",
    ),
    *_family(
        "openai", ("gpt-4.1-nano", 1_047_576, 32_768), base=_IMAGES, thinking=False, structured="native"
    ),
    # The first GPT-4o has neither the schema mode nor the long replies of those after it.
    *_family(
        "openai", ("gpt-4o-2024-05-13", 128_000, 4_096), base=_DOCUMENTS, thinking=False, structured="json"
    ),
    # --- gemini
    *_family(
        "gemini",
        ("gemini-3.8-flash", 1_048_576, 65_536),
        ("gemini-3.7-flash", 1_048_576, 65_536),
        ("gemini-3.6-flash", 1_048_576, 65_536),
        ("gemini-3.5-flash", 1_048_576, 65_536),
        ("gemini-3.1-pro-preview", 1_048_576, 65_536),
        ("gemini-3.1-flash-lite", 1_048_576, 65_536),
        ("gemini-3-flash-preview", 1_048_576, 65_536),
        ("gemini-2.5-pro", 1_048_576, 65_536),
        ("gemini-2.5-flash", 1_048_576, 65_536),
        ("gemini-2.5-flash-lite", 1_048_576, 65_536),
        base=_EVERYTHING,
        thinking=True,
        structured="native",
    ),
    *_family(
        "gemini", ("gemini-3.5-flash-lite", 1_048_576, None), vision=True, audio=True, pdf=None, tools=True
    ),
    # --- deepseek
    *_family(
        "deepseek", ("deepseek-flash", 1_000_000, 384_000), base=_IMAGES, thinking=True, structured="json"
    ),
    *_family(
        "deepseek", ("deepseek-v4-flash", 1_000_000, 384_000), tools=True, thinking=True, structured="json"
    ),
    *_family(
        "deepseek",
        ("deepseek-v4-pro", 1_000_000, 384_000),
        ("deepseek-reasoner", None, None),
        base=_TEXT,
        thinking=True,
        structured="json",
    ),
    *_family("deepseek", ("deepseek-chat", None, None), base=_TEXT, thinking=False, structured="json"),
    # --- qwen
    *_family(
        "qwen",
        ("qwen3.8-flash", 1_000_000, 131_072),
        ("qwen3.7-plus", 1_000_000, 65_536),
        base=_IMAGES,
        thinking=True,
        structured="json",
    ),
    *_family(
        "qwen",
        ("qwen3.7-max", 1_000_000, 131_072),
        ("qwen-plus", 1_000_000, 32_768),
        ("qwen-flash", 1_000_000, 32_768),
        base=_TEXT,
        thinking=True,
        structured="json",
    ),
    *_family(
        "qwen",
        ("qwen3-max", 262_144, 65_536),
        ("qwen3-coder-plus", 1_000_000, 65_536),
        base=_TEXT,
        thinking=False,
        structured="json",
    ),
    # --- minimax: of M3.1 two lengths of replies are told
    *_family("minimax", ("MiniMax-M3.1-Flash", 1_000_000, None), vision=True, tools=True, thinking=True),
    *_family(
        "minimax",
        ("MiniMax-M3", 1_000_000, None),
        vision=True,
        audio=False,
        tools=True,
        thinking=True,
        structured="json",
    ),
    *_family("minimax", ("MiniMax-M2.7", 204_800, 131_072), base=_OPEN_WEIGHTS, structured="json"),
    *_family("minimax", ("MiniMax-M2", None, 128_000), base=_OPEN_WEIGHTS, structured="json"),
    # --- groq
    *_family(
        "groq",
        ("openai/gpt-oss-120b", 131_072, 65_536),
        ("openai/gpt-oss-20b", 131_072, 65_536),
        base=_OPEN_WEIGHTS,
        structured="native",
    ),
    *_family("groq", ("llama-3.3-70b-versatile", None, None), base=_TEXT, thinking=False, structured="json"),
    # --- mistral: a reply may fill what is left of the window
    *_family(
        "mistral",
        ("mistral-medium-3-5", 262_144, None),
        ("mistral-small-2603", 256_000, None),
        ("mistral-small-latest", 256_000, None),
        base=_IMAGES,
        thinking=True,
        structured="native",
    ),
    *_family(
        "mistral",
        ("mistral-large-4", 1_048_576, None),
        vision=True,
        tools=True,
        thinking=True,
        structured="native",
    ),
    *_family(
        "mistral", ("mistral-large-2512", 262_144, None), base=_IMAGES, thinking=False, structured="native"
    ),
    *_family(
        "mistral",
        ("codestral-2508", 256_000, None),
        ("devstral-2512", 262_144, None),
        base=_TEXT,
        thinking=False,
        structured="native",
    ),
    # --- openrouter: the windows are those of the models; which host serves a request is theirs to choose
    *_family(
        "openrouter",
        ("openai/gpt-4o", 128_000, 16_384),
        base=_DOCUMENTS,
        thinking=False,
        structured="native",
    ),
    *_family(
        "openrouter", ("openai/gpt-5", 400_000, 128_000), base=_IMAGES, thinking=True, structured="native"
    ),
    *_family(
        "openrouter",
        ("anthropic/claude-opus-5.5", 1_000_000, 128_000),
        ("anthropic/claude-sonnet-5.5", 1_000_000, 128_000),
        base=_CLAUDE,
        structured="native",
    ),
    *_family(
        "openrouter",
        ("openai/gpt-5.6-terra", 1_050_000, None),
        base=_IMAGES,
        thinking=True,
        structured="native",
    ),
    # --- xai: no separate limit of replies is documented
    *_family(
        "xai",
        ("grok-4.7", 500_000, None),
        ("grok-4.6", 500_000, None),
        ("grok-4.5", 500_000, None),
        ("grok-4-fast", 2_000_000, None),
        base=_IMAGES,
        thinking=True,
        structured="native",
    ),
    *_family("xai", ("grok-4.3", 1_000_000, None), base=_IMAGES, thinking=True),
    *_family("xai", ("grok-4.20", 1_000_000, None), tools=True),
    *_family("xai", ("grok-4", 256_000, None), ("grok-4-0709", 256_000, None), tools=True, thinking=True),
    *_family("xai", ("grok-code-fast-1", 256_000, None), base=_TEXT, thinking=True, structured="native"),
    # --- together
    *_family("together", ("openai/gpt-oss-120b", 131_072, None), base=_OPEN_WEIGHTS, structured="native"),
    *_family(
        "together",
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", 131_072, None),
        base=_TEXT,
        thinking=False,
        structured="native",
    ),
    # --- fireworks
    *_family(
        "fireworks",
        ("accounts/fireworks/models/gpt-oss-120b", 131_072, None),
        ("accounts/fireworks/models/gpt-oss-20b", 131_072, None),
        base=_OPEN_WEIGHTS,
    ),
    # --- zai
    *_family(
        "zai",
        ("glm-5.3", 1_000_000, 131_072),
        ("glm-5.2", 1_000_000, None),
        ("glm-5.1", None, 131_072),
        ("glm-4.7", None, 131_072),
        ("glm-4.6", None, 131_072),
        ("glm-4.5", 131_072, 98_304),
        base=_OPEN_WEIGHTS,
        structured="json",
    ),
    *_family("zai", ("glm-5.3-flash", 1_000_000, 131_072), base=_DOCUMENTS, thinking=True, structured="json"),
)
