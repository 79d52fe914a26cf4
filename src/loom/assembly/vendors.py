"""The table of model vendors: one row each, read by ``providers``. Data only.

A vendor that speaks a known wire is one row: where it is, which variables lead to it, what it does otherwise.
Addresses, the version of Azure's API and defaults are facts about the world, from the vendors' documentation. The
defaults and MiniMax's address were read again in autumn 2026, the other addresses were not. A default is a model that
the catalogue knows to live; the tests fail when one is about to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Vendor:
    """One row: which wire, where, which variables, which oddities.

    ``default`` is the model that ``Model.auto()`` takes when it finds a key. ``quirks`` are arguments of the
    wire's provider. ``official_quirks`` hold only at the vendor's own address (``base_url``, or one that ends
    in ``whole``), not at servers that imitate it. ``families`` are names in common use that the vendor does not
    take: a living member of the family is asked for. ``keyless`` says that it may be asked without a key,
    ``responses`` that it speaks OpenAI's Responses API too, for who asks for it, with ``responses_quirks``; below
    ``whole``, where there is one.

    ``path`` belongs at the end of an address, ``{model}`` in it being the model's name; it is added, and
    ``query`` with it (parameter -> variable and default), to an address that does not end in ``whole``.
    """

    wire: str
    base_url: str = ""
    base_url_env: str = ""
    key_envs: tuple[str, ...] = ()
    default: str = ""
    quirks: Mapping[str, Any] = field(default_factory=dict[str, Any])
    official_quirks: Mapping[str, Any] = field(default_factory=dict[str, Any])
    families: tuple[str, ...] = ()
    keyless: bool = False
    path: str = ""
    whole: str = ""
    query: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    responses: bool = False
    responses_quirks: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def wires(self) -> dict[str, str]:
        """The wires of this vendor by the names that ``Model`` has for them."""
        chat = {"chat": "openai"} if self.wire == "openai" else {}
        return chat | ({"responses": "responses"} if self.responses or self.wire == "responses" else {})


# The order is the order in which Model.auto() looks for keys.
VENDORS: dict[str, Vendor] = {
    "anthropic": Vendor(
        "anthropic",
        "https://api.anthropic.com",
        "ANTHROPIC_BASE_URL",
        ("ANTHROPIC_API_KEY",),
        "claude-sonnet-4-6",
        families=("claude-sonnet-4", "claude-opus-4"),
    ),
    "openai": Vendor(
        "openai",
        "https://api.openai.com/v1",
        "OPENAI_BASE_URL",
        ("OPENAI_API_KEY",),
        "gpt-5.6-terra",
        official_quirks={"max_tokens_field": "max_completion_tokens"},
        responses=True,
    ),
    "gemini": Vendor(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_BASE_URL",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "gemini-3.5-flash-lite",
    ),
    "deepseek": Vendor(
        "openai",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_BASE_URL",
        ("DEEPSEEK_API_KEY",),
        "deepseek-flash",
        # In thinking mode DeepSeek refuses a conversation with tools in which a reply lacks the field.
        quirks={"structured": "json", "reasoning_as": "reasoning_content", "reasoning_required": True},
        responses=True,
    ),
    "qwen": Vendor(
        "openai",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_BASE_URL",
        ("DASHSCOPE_API_KEY",),
        "qwen-plus",
        quirks={"structured": "json"},
    ),
    "minimax": Vendor(
        "openai",
        "https://api.minimax.io/v1",
        "MINIMAX_BASE_URL",
        ("MINIMAX_API_KEY",),
        "MiniMax-M3",
        quirks={"structured": "json"},
    ),
    "groq": Vendor(
        "openai",
        "https://api.groq.com/openai/v1",
        "GROQ_BASE_URL",
        ("GROQ_API_KEY",),
        "openai/gpt-oss-120b",
        quirks={"structured": "json"},
        responses=True,
        responses_quirks={"encrypted_reasoning": False},
    ),
    "mistral": Vendor(
        "openai",
        "https://api.mistral.ai/v1",
        "MISTRAL_BASE_URL",
        ("MISTRAL_API_KEY",),
        "mistral-small-latest",
        # Mistral counts streamed tokens unasked, and refuses fields it does not know.
        quirks={
            "include_usage": False,
            "reasoning_as": "parts",
            "documents_as": "document_url",
            "short_call_ids": True,
        },
    ),
    "openrouter": Vendor(
        "openai",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_BASE_URL",
        ("OPENROUTER_API_KEY",),
        "openai/gpt-5.6-terra",
        quirks={"reasoning_as": "reasoning_details"},
        responses=True,
    ),
    "xai": Vendor(
        "openai", "https://api.x.ai/v1", "XAI_BASE_URL", ("XAI_API_KEY",), "grok-4.7", responses=True
    ),
    "together": Vendor(
        "openai",
        "https://api.together.ai/v1",
        "TOGETHER_BASE_URL",
        ("TOGETHER_API_KEY",),
        "openai/gpt-oss-120b",
    ),
    "fireworks": Vendor(
        "openai",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_BASE_URL",
        ("FIREWORKS_API_KEY",),
        "accounts/fireworks/models/gpt-oss-120b",
    ),
    "zai": Vendor(
        "openai",
        "https://api.z.ai/api/paas/v4",
        "ZAI_BASE_URL",
        ("ZAI_API_KEY",),
        "glm-5.3",
        quirks={"structured": "json", "reasoning_as": "reasoning_content"},
    ),
    # A resource with deployments, whose names are the user's own; so there is no model to choose for auto.
    "azure": Vendor(
        "openai",
        "",
        "AZURE_OPENAI_ENDPOINT",
        ("AZURE_OPENAI_API_KEY",),
        quirks={"key_header": "api-key"},
        official_quirks={"max_tokens_field": "max_completion_tokens"},
        path="/openai/deployments/{model}",
        whole="/openai/v1",
        query={"api-version": ("OPENAI_API_VERSION", "2024-10-21")},
        responses=True,
        responses_quirks={"key_header": "api-key"},
    ),
    "ollama": Vendor(
        "openai",
        "http://localhost:11434/v1",
        "OLLAMA_BASE_URL",
        quirks={"reasoning_as": "reasoning"},
        keyless=True,
        path="/v1",
        whole="/v1",
        responses=True,
    ),
    "vllm": Vendor(
        "openai", "http://localhost:8000/v1", "VLLM_BASE_URL", ("VLLM_API_KEY",), keyless=True, responses=True
    ),
    "lmstudio": Vendor(
        "openai",
        "http://localhost:1234/v1",
        "LMSTUDIO_BASE_URL",
        ("LMSTUDIO_API_KEY",),
        keyless=True,
        responses=True,
    ),
    "compatible": Vendor("openai", "", "LOOM_BASE_URL", ("LOOM_API_KEY",), keyless=True, responses=True),
    # A name for the wire, where a model is named by one word: on the command line, in a file.
    "openai-responses": Vendor(
        "responses", "https://api.openai.com/v1", "OPENAI_BASE_URL", ("OPENAI_API_KEY",)
    ),
}
