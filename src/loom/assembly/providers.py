"""The way from a ``Model`` to a provider that can be asked.

The vendors are rows of ``vendors``. Keys and addresses come from the declaration first, then from the
environment; nothing is asked over the network here except, for ``Model.auto()``, whether a local Ollama is
there.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
from msgspec.structs import replace

from ..config.model import Model, Secret
from ..errors import AuthenticationError, ConfigError
from ..llm.catalog import find_model
from ..llm.catalog_names import meaning, stand_in
from ..llm.limits import Allowance
from .network import make_network
from .vendors import VENDORS, Vendor

if TYPE_CHECKING:
    from ..llm.base import LLMProvider

logger = logging.getLogger("loom.models")

DEFAULT_TIMEOUT = 120.0
DEFAULT_MAX_RETRIES = 2
# A local Ollama answers in a few milliseconds; more than this is not worth a user's wait.
PROBE_SECONDS = 0.3
_PROBE_BYTES = 1024 * 1024
_NO_MODEL = (
    "auto found no key in the environment and no local Ollama, and fell to the embedded offline model, which is a set "
    "of rules and can do very little: set a key such as ANTHROPIC_API_KEY, or name a model"
)
# Knobs of agents that travel in a model's extensions and are no vendor's body fields.
_NOT_FOR_THE_WIRE = frozenset({"stream", "expose_reasoning"})


def make_provider(
    model: Model, *, environ: Mapping[str, str] = os.environ, today: date | None = None
) -> LLMProvider:
    """The provider that serves ``model``, with the name ``settled`` on as its default.

    Raises AuthenticationError when there is no key, naming the variable to set, and ConfigError for a
    provider that is not in the table and for a model that has been retired.
    """
    model = settled(model, environ=environ, today=today)
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
    base_url, query = _address(model, vendor, environ, wire)
    official = base_url == vendor.base_url or (vendor.whole and base_url.endswith(vendor.whole))
    options: dict[str, Any] = {
        "base_url": base_url,
        "query": query,
        "api_key": _api_key(model, vendor, base_url, environ),
        "default_model": model.name,
        "timeout": DEFAULT_TIMEOUT if model.timeout is None else model.timeout,
        "max_retries": DEFAULT_MAX_RETRIES if model.max_retries is None else model.max_retries,
        "total_timeout": model.total_timeout,
        "network": make_network(
            base_url,
            proxy=model.proxy,
            ca_bundle=model.ca_bundle,
            trust_env=model.trust_env,
            environ=environ,
        ),
        "allowance": Allowance(max_concurrent=model.max_concurrent),
        "extensions": {k: v for k, v in model.extensions.items() if k not in _NOT_FOR_THE_WIRE},
        # Quirks are those of the vendor's usual wire.
        **(vendor.quirks if wire == vendor.wire else {}),
        **(vendor.official_quirks if wire == vendor.wire and official else {}),
        **(vendor.responses_quirks if wire == "responses" else {}),
    }
    if model.connect_timeout is not None:
        options["connect_timeout"] = model.connect_timeout
    if wire in ("openai", "responses"):
        options["organization"] = model.organization
    if wire == "openai":
        options |= _structured(model)
    if wire == "anthropic" and model.prompt_cache is not None:
        options |= {"prompt_caching": True, "cache_ttl": model.prompt_cache}
    return _adapter(wire)(**options)


def settled(model: Model, *, environ: Mapping[str, str] = os.environ, today: date | None = None) -> Model:
    """``model`` under the name it is asked for on ``today`` (UTC), and what ``auto`` means here and now.

    A name without a date whose model has been retired becomes that of its successor. A dated name is never
    replaced: ConfigError says what its vendor names instead. The catalogue speaks for the vendor's service,
    wherever a variable says that it is. At an address given with the model only a family's name, which no service
    takes, is replaced: that server's models are its own.

    A warning says once what was replaced, what ends within a month, and that ``auto`` found the offline model only.
    """
    day = today or _today()
    if model.provider == "auto":
        model = choose_model(environ, today=day)
        if model.provider == "offline":
            _warn_once(_NO_MODEL)
        return model
    vendor = VENDORS.get(model.provider)
    if vendor is None or (model.api_base is not None and model.name not in vendor.families):
        return model
    meant = meaning(model.provider, model.name, day)
    if meant.notice:
        _warn_once(meant.notice)
    return model if meant.name == model.name else replace(model, name=meant.name)


def _today() -> date:
    return datetime.now(UTC).date()


@cache
def _warn_once(notice: str) -> None:
    """Log ``notice``, once in a process: many agents are made of one model."""
    logger.warning(notice)


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


def choose_model(environ: Mapping[str, str] = os.environ, *, today: date | None = None) -> Model:
    """What ``Model.auto()`` means here and now.

    The first key found in the order of the table (ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or
    GOOGLE_API_KEY, DEEPSEEK_API_KEY, DASHSCOPE_API_KEY, MINIMAX_API_KEY, GROQ_API_KEY, MISTRAL_API_KEY,
    OPENROUTER_API_KEY, XAI_API_KEY, TOGETHER_API_KEY, FIREWORKS_API_KEY, ZAI_API_KEY); else the first model of
    an Ollama that answers within 0.3 seconds at OLLAMA_BASE_URL or on this machine; else the offline model.
    Blocks for at most that long.
    """
    for name, vendor in VENDORS.items():
        if vendor.default and any(environ.get(env, "").strip() for env in vendor.key_envs):
            return Model(name, stand_in(name, vendor.default, today or _today()))
    ollama, _ = _address(Model.ollama("any"), VENDORS["ollama"], environ)
    found = _first_ollama_model(ollama)
    return Model.ollama(found) if found else Model.offline()


def _structured(model: Model) -> dict[str, Any]:
    """How this model takes a schema on OpenAI's wire, where the catalogue knows better than the vendor's row."""
    info = find_model(model.provider, model.name)
    known = info is not None and info.structured in ("native", "json", "prompt")
    return {"structured": info.structured} if info is not None and known else {}


def _address(
    model: Model, vendor: Vendor, environ: Mapping[str, str], wire: str = ""
) -> tuple[str, dict[str, str]]:
    """The base URL, complete with what the vendor's addresses end in, and what goes with every request."""
    base_url = model.api_base or environ.get(vendor.base_url_env, "").strip() or vendor.base_url
    if not base_url:
        raise ConfigError(
            f"{model.identifier} needs an address: set {vendor.base_url_env}, or "
            f"Model.{model.provider}({model.name!r}, base_url=...)"
        )
    base_url = base_url.rstrip("/")
    if "://" not in base_url and vendor.base_url.startswith("http:"):
        base_url = f"http://{base_url}"  # a server on this machine, where nobody writes the scheme
    parts = urlsplit(base_url)
    if not vendor.path or parts.path.endswith(vendor.whole):
        return base_url, {}
    if wire == "responses" and vendor.whole:
        return urlunsplit(parts._replace(path=parts.path.rstrip("/") + vendor.whole)), {}
    query = {name: environ.get(env, "").strip() or usual for name, (env, usual) in vendor.query.items()}
    path = parts.path.rstrip("/") + vendor.path.format(model=quote(model.name, safe=""))
    return urlunsplit(parts._replace(path=path)), query


def _api_key(model: Model, vendor: Vendor, base_url: str, environ: Mapping[str, str]) -> str | None:
    if isinstance(model.api_key, Secret):
        return model.api_key.reveal()
    names = (model.api_key_env,) if model.api_key_env else vendor.key_envs
    for name in names:
        if key := environ.get(name, "").strip():
            return key
    # A server of one's own may want no key; the vendor's address does, and so does a variable named outright.
    foreign = vendor.base_url and base_url != vendor.base_url
    if not model.api_key_env and (vendor.keyless or foreign):
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
