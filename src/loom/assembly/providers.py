"""The table of model vendors, and the way from a ``Model`` to a provider that can be asked.

A vendor that speaks a known wire is one row. Keys and addresses come from the declaration first, then from
the environment; nothing is asked over the network here except, for ``Model.auto()``, whether a local Ollama
is there.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from ..config.model import Model, Secret
from ..errors import AuthenticationError, ConfigError

if TYPE_CHECKING:
    from ..llm.base import LLMProvider

DEFAULT_TIMEOUT = 120.0
DEFAULT_MAX_RETRIES = 2
# A local Ollama answers in a few milliseconds; more than this is not worth a user's wait.
PROBE_SECONDS = 0.3
_PROBE_BYTES = 1024 * 1024
# Knobs of agents that travel in a model's extensions and are no vendor's body fields.
_NOT_FOR_THE_WIRE = frozenset({"stream", "expose_reasoning"})


@dataclass(frozen=True, slots=True)
class Vendor:
    """One row: which wire, where, which variables, which oddities.

    ``default`` is the model that ``Model.auto()`` takes when it finds a key. ``quirks`` are arguments of the
    wire's provider. ``official_quirks`` hold only at the vendor's own address, not at servers that imitate
    it. ``aliases`` are names in common use that the vendor does not take. ``responses`` says that the vendor
    speaks OpenAI's Responses API too, for who asks for it.
    """

    wire: str
    base_url: str = ""
    base_url_env: str = ""
    key_envs: tuple[str, ...] = ()
    default: str = ""
    quirks: Mapping[str, Any] = field(default_factory=dict[str, Any])
    official_quirks: Mapping[str, Any] = field(default_factory=dict[str, Any])
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    responses: bool = False

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
        "claude-sonnet-4-20250514",
        aliases={"claude-sonnet-4": "claude-sonnet-4-20250514", "claude-opus-4": "claude-opus-4-20250514"},
    ),
    "openai": Vendor(
        "openai",
        "https://api.openai.com/v1",
        "OPENAI_BASE_URL",
        ("OPENAI_API_KEY",),
        "gpt-4o",
        official_quirks={"max_tokens_field": "max_completion_tokens"},
        responses=True,
    ),
    "gemini": Vendor(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_BASE_URL",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "gemini-2.5-flash",
    ),
    "deepseek": Vendor(
        "openai",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_BASE_URL",
        ("DEEPSEEK_API_KEY",),
        "deepseek-chat",
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
        "https://api.minimax.chat/v1",
        "MINIMAX_BASE_URL",
        ("MINIMAX_API_KEY",),
        "MiniMax-Text-01",
        quirks={"structured": "json"},
    ),
    "groq": Vendor(
        "openai",
        "https://api.groq.com/openai/v1",
        "GROQ_BASE_URL",
        ("GROQ_API_KEY",),
        "llama-3.3-70b-versatile",
        quirks={"structured": "json"},
    ),
    "mistral": Vendor(
        "openai",
        "https://api.mistral.ai/v1",
        "MISTRAL_BASE_URL",
        ("MISTRAL_API_KEY",),
        "mistral-small-latest",
        # Mistral counts streamed tokens unasked, and refuses fields it does not know.
        quirks={"include_usage": False, "reasoning_as": "parts"},
    ),
    "openrouter": Vendor(
        "openai",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_BASE_URL",
        ("OPENROUTER_API_KEY",),
        "openai/gpt-4o",
        quirks={"reasoning_as": "reasoning_details"},
        responses=True,
    ),
    "xai": Vendor(
        "openai", "https://api.x.ai/v1", "XAI_BASE_URL", ("XAI_API_KEY",), "grok-4", responses=True
    ),
    "ollama": Vendor(
        "openai",
        "http://localhost:11434/v1",
        "OLLAMA_BASE_URL",
        quirks={"reasoning_as": "reasoning"},
        responses=True,
    ),
    "compatible": Vendor("openai", "", "", ("LOOM_API_KEY",), responses=True),
    # A name for the wire, where a model is named by one word: on the command line, in a file.
    "openai-responses": Vendor(
        "responses", "https://api.openai.com/v1", "OPENAI_BASE_URL", ("OPENAI_API_KEY",)
    ),
}


def make_provider(model: Model, *, environ: Mapping[str, str] = os.environ) -> LLMProvider:
    """The provider that serves ``model``, with ``model.name`` as its default.

    Raises AuthenticationError when there is no key, naming the variable to set, and ConfigError for a
    provider that is not in the table.
    """
    if model.provider == "auto":
        model = choose_model(environ)
    if model.provider == "offline":
        from ..llm.offline import OfflineProvider

        return OfflineProvider()
    vendor = VENDORS.get(model.provider)
    if vendor is None:
        known = ", ".join([*VENDORS, "auto", "offline"])
        raise ConfigError(
            f"there is no provider {model.provider!r}; known: {known}. For another server that speaks "
            "OpenAI's chat completions use Model.compatible(name, base_url=...)"
        )
    wire = _wire(model, vendor)
    base_url = _base_url(model, vendor, environ)
    options: dict[str, Any] = {
        "base_url": base_url,
        "api_key": _api_key(model, vendor, base_url, environ),
        "default_model": vendor.aliases.get(model.name, model.name),
        "timeout": DEFAULT_TIMEOUT if model.timeout is None else model.timeout,
        "max_retries": DEFAULT_MAX_RETRIES if model.max_retries is None else model.max_retries,
        "extensions": {k: v for k, v in model.extensions.items() if k not in _NOT_FOR_THE_WIRE},
        # Quirks are those of the vendor's usual wire.
        **(vendor.quirks if wire == vendor.wire else {}),
        **(vendor.official_quirks if wire == vendor.wire and base_url == vendor.base_url else {}),
    }
    if wire in ("openai", "responses"):
        options["organization"] = model.organization
    return _adapter(wire)(**options)


def _wire(model: Model, vendor: Vendor) -> str:
    if model.wire is None:
        return vendor.wire
    if model.wire in vendor.wires:
        return vendor.wires[model.wire]
    known = ", ".join(map(repr, vendor.wires)) or "none to choose from"
    raise ConfigError(f"{model.provider} does not speak wire={model.wire!r}; it speaks: {known}")


def _adapter(wire: str) -> Callable[..., LLMProvider]:
    """The class that speaks ``wire``, imported when it is wanted."""
    if wire == "anthropic":
        from ..llm.anthropic import AnthropicProvider

        return AnthropicProvider
    if wire == "gemini":
        from ..llm.gemini import GeminiProvider

        return GeminiProvider
    if wire == "responses":
        from ..llm.openai_responses import OpenAIResponsesProvider

        return OpenAIResponsesProvider
    from ..llm.openai_compat import OpenAICompatibleProvider

    return OpenAICompatibleProvider


def choose_model(environ: Mapping[str, str] = os.environ) -> Model:
    """What ``Model.auto()`` means here and now.

    The first key found in the order of the table (ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or
    GOOGLE_API_KEY, DEEPSEEK_API_KEY, DASHSCOPE_API_KEY, MINIMAX_API_KEY, GROQ_API_KEY, MISTRAL_API_KEY,
    OPENROUTER_API_KEY, XAI_API_KEY); else the first model of an Ollama that answers within 0.3 seconds at
    OLLAMA_BASE_URL or on this machine; else the offline model. Blocks for at most that long.
    """
    for name, vendor in VENDORS.items():
        if vendor.default and any(environ.get(env, "").strip() for env in vendor.key_envs):
            return Model(name, vendor.default)
    found = _first_ollama_model(_with_v1(environ.get("OLLAMA_BASE_URL") or VENDORS["ollama"].base_url))
    return Model.ollama(found) if found else Model.offline()


def _base_url(model: Model, vendor: Vendor, environ: Mapping[str, str]) -> str:
    base_url = model.api_base or environ.get(vendor.base_url_env, "").strip() or vendor.base_url
    if not base_url:
        raise ConfigError(
            f"{model.identifier} needs an address: Model.compatible({model.name!r}, base_url=...)"
        )
    return _with_v1(base_url) if model.provider == "ollama" else base_url.rstrip("/")


def _with_v1(base_url: str) -> str:
    base_url = base_url.strip().rstrip("/")
    if "://" not in base_url:
        base_url = f"http://{base_url}"
    return base_url if urlsplit(base_url).path.endswith("/v1") else f"{base_url}/v1"


def _api_key(model: Model, vendor: Vendor, base_url: str, environ: Mapping[str, str]) -> str | None:
    if isinstance(model.api_key, Secret):
        return model.api_key.reveal()
    names = (model.api_key_env,) if model.api_key_env else vendor.key_envs
    for name in names:
        if key := environ.get(name, "").strip():
            return key
    # A server of one's own may want no key; the vendor's address does, and so does a variable named outright.
    if not model.api_key_env and (not vendor.key_envs or base_url != vendor.base_url):
        return None
    raise AuthenticationError(
        f"there is no API key for {model.identifier}: set {' or '.join(names)}, or pass api_key=... to the "
        "Model. Without a key, Model.offline() works, and Model.ollama(name) with a local Ollama"
    )


# --- a local Ollama ---------------------------------------------------------------------------------


def _first_ollama_model(base_url: str) -> str | None:
    """The first model of the Ollama at ``base_url`` that can chat; None when nobody answers in time."""
    parts = urlsplit(base_url)
    try:
        reply = _get(parts.hostname or "localhost", parts.port or 80, f"{parts.path}/models")
        listed = msgspec.json.decode(reply.partition(b"\r\n\r\n")[2], type=_Listed)
    except (OSError, ValueError):
        return None  # no Ollama here, which is an answer
    if not reply.partition(b"\r\n")[0].endswith(b"200 OK"):
        return None
    return next((model.id for model in listed.data or () if "embed" not in model.id), None)


class _ListedModel(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    data: list[_ListedModel] | None = None


def _get(host: str, port: int, path: str) -> bytes:
    """A GET in HTTP/1.0, whose reply ends where the connection does, so that one deadline bounds it all."""
    deadline = time.monotonic() + PROBE_SECONDS
    with socket.create_connection((host, port), timeout=PROBE_SECONDS) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode()
        )
        received = bytearray()
        while len(received) < _PROBE_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
    return bytes(received)
