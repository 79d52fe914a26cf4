"""Declarations: which model, how to sample, what it is told to be. Pure values; assembly makes providers.

Nothing here knows a vendor's address or reads the environment. Keys given here are boxed: no repr, no error,
no dump and no pickle of a declaration holds one.
"""

from __future__ import annotations

import hmac
import math
from os import PathLike, fspath
from typing import Any, Literal, Self, TypedDict, TypeGuard, Unpack

from msgspec import Struct
from msgspec.structs import force_setattr

from ..errors import ConfigError
from ..safety.declared import instance, several
from ..safety.network import read_proxy
from ..types import Usage

__all__ = ["Generation", "Instructions", "Model", "Price", "Secret"]


class Secret:
    """Text that shows itself to nobody who does not call ``reveal``. It cannot be pickled or encoded."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled; name an environment variable with api_key_env instead")


class Price(Struct, frozen=True, omit_defaults=True):
    """What a million tokens cost, in any one currency, and ``web_search`` what one search of the web costs.

    None for the cache means the price of input (for what stays an hour: that of other writes), for sound and
    pictures that of other input or output. None for searches means that their price is not known. Raises
    ConfigError for what is no number from 0: a limit on cost could not be held by it.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    input_audio: float | None = None
    input_image: float | None = None
    output_audio: float | None = None
    output_image: float | None = None
    web_search: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value: Any = getattr(self, name)
            if value is None and name not in ("input", "output"):
                continue
            if not (_is_number(value) and 0 <= value < math.inf):
                raise ConfigError(f"the price {name} must be a number from 0, not {value!r:.80}")

    def cost(self, usage: Usage) -> float | None:
        """What ``usage`` costs. None when it has searches without a price, or what other models used."""
        if usage.advisors or (usage.web_searches and self.web_search is None):
            return None
        lasting = usage.cache_write_1h_tokens
        read, written = usage.cache_read_tokens, usage.cache_write_tokens - lasting
        # Sound that was read from a cache is priced with what else was read.
        heard, seen = usage.input_audio_tokens - usage.cache_audio_read_tokens, usage.input_image_tokens
        spoken, drawn = usage.output_audio_tokens, usage.output_image_tokens
        write = _or(self.cache_write, self.input)
        per_million = (
            max(0, usage.input_tokens - read - written - lasting - heard - seen) * self.input
            + read * _or(self.cache_read, self.input)
            + written * write
            + lasting * _or(self.cache_write_1h, write)
            + heard * _or(self.input_audio, self.input)
            + seen * _or(self.input_image, self.input)
            + max(0, usage.output_tokens - spoken - drawn) * self.output
            + spoken * _or(self.output_audio, self.output)
            + drawn * _or(self.output_image, self.output)
        )
        return per_million / 1_000_000 + usage.web_searches * (self.web_search or 0.0)


def _or(price: float | None, otherwise: float) -> float:
    return otherwise if price is None else price


class ModelOptions(TypedDict, total=False):
    """What every factory of ``Model`` takes besides the name; see ``Model``. ``base_url`` is ``api_base``."""

    api_base: str | None
    base_url: str | None
    organization: str | None
    api_key: str | Secret | None
    api_key_env: str | None
    timeout: float | None
    max_retries: int | None
    max_concurrent: int | None
    total_timeout: float | None
    price: Price | Literal["auto"] | None
    extensions: dict[str, Any] | None
    context_window: int | None
    wire: str | None
    prompt_cache: Literal["5m", "1h"] | None
    connect_timeout: float | None
    proxy: str | Secret | None
    ca_bundle: str | PathLike[str] | None
    trust_env: bool


class Model(Struct, frozen=True, omit_defaults=True):
    """A reference to a model of a provider.

    ``api_base`` replaces the provider's address. The key is ``api_key``, else the variable ``api_key_env``,
    else the provider's usual variables. ``timeout`` is the longest silence in seconds; ``max_retries`` counts
    tries after the first, and ``total_timeout`` bounds all tries of a request together, in seconds.
    ``max_concurrent`` is how many requests one agent has under way at once; more wait their turn. ``price`` lets
    runs report and limit money; ``"auto"`` takes the list price in US dollars from the extra ``pricing``, where
    that knows the model. ``extensions`` go into every request body as they are. ``context_window`` is in tokens,
    for a model of which the catalogue does not know it, or knows better. ``wire`` chooses where a provider speaks
    both of OpenAI's: ``"chat"``, its usual one, or ``"responses"``. ``prompt_cache`` asks Anthropic to keep what
    stays the same between requests for five minutes or an hour: read at a tenth of the price, written for a quarter
    more, or twice as much for the hour; the other services do it unasked.

    ``connect_timeout`` is the longest time to reach the service, in seconds (10). ``proxy`` is the way there,
    ``"http://user:password@host:port"``; one with a password is boxed like a key. With ``trust_env`` and no ``proxy``
    the one that the environment names is taken (HTTPS_PROXY, NO_PROXY); otherwise the environment plays no part.
    ``ca_bundle`` is a file of certificates (PEM) to trust in place of the system's. Raises ConfigError for values
    that cannot work.
    """

    provider: str
    name: str
    api_base: str | None = None
    organization: str | None = None
    api_key_env: str | None = None
    extensions: dict[str, Any] = {}
    api_key: Secret | str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    price: Price | Literal["auto"] | None = None
    context_window: int | None = None
    wire: str | None = None
    max_concurrent: int | None = None
    total_timeout: float | None = None
    prompt_cache: Literal["5m", "1h"] | None = None
    connect_timeout: float | None = None
    proxy: str | Secret | None = None
    ca_bundle: str | None = None
    trust_env: bool = False

    def __post_init__(self) -> None:
        _check_network(self)
        if not self.provider or not self.name:
            raise ConfigError("a Model needs a provider and a name, such as Model.openai('gpt-5.6-terra')")
        if self.api_key is not None and not isinstance(self.api_key, Secret):
            # The one write a frozen value gets, before anyone has seen it.
            _box(self, self.api_key)
        if "api_key" in self.extensions:
            raise ConfigError("extensions go into the request body; pass the key as Model's own api_key")
        if self.prompt_cache not in (None, "5m", "1h"):
            raise ConfigError(f"Model prompt_cache must be '5m' or '1h', not {self.prompt_cache!r}")
        if self.wire not in (None, "chat", "responses"):
            raise ConfigError(f"Model wire must be 'chat' or 'responses', not {self.wire!r}")
        for name in ("timeout", "total_timeout", "connect_timeout"):
            seconds: float | None = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise ConfigError(f"Model {name} must be seconds above 0, not {seconds!r}")
        if self.max_concurrent is not None and not _is_count(self.max_concurrent):
            raise ConfigError(f"Model max_concurrent must be 1 or more, not {self.max_concurrent!r}")
        if self.max_retries is not None and self.max_retries < 0:
            raise ConfigError(f"Model max_retries must be 0 or more, not {self.max_retries!r}")
        if not _is_price(self.price):
            raise ConfigError(f"Model price must be a Price or 'auto', not {self.price!r}")
        if self.context_window is not None and not _is_count(self.context_window):
            raise ConfigError(f"Model context_window must be tokens above 0, not {self.context_window!r}")

    @property
    def identifier(self) -> str:
        """``"provider:name"``, as ``parse`` reads it."""
        return f"{self.provider}:{self.name}"

    @property
    def base_url(self) -> str | None:
        """The same as ``api_base``."""
        return self.api_base

    @classmethod
    def parse(cls, identifier: str, **options: Unpack[ModelOptions]) -> Self:
        """The model of ``"provider:name"``; ``"auto"`` and ``"offline"`` stand alone. Raises ConfigError."""
        provider, colon, name = identifier.strip().partition(":")
        if not colon and provider in ("auto", "offline"):
            name = provider
        if not provider or not name:
            raise ConfigError(
                f"a model is named 'provider:name', such as 'openai:gpt-5.6-terra', not {identifier!r}"
            )
        return cls._declare(provider, name, **options)

    @classmethod
    def auto(cls) -> Self:
        """Whatever is at hand: a key in the environment, else a local Ollama, else, warned of, the offline model."""
        return cls("auto", "auto")

    @classmethod
    def offline(cls) -> Self:
        """The embedded model: no key, no network, deterministic. What it cannot do fails the run with OfflineError."""
        return cls("offline", "offline")

    @classmethod
    def compatible(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model of any server that speaks OpenAI's chat completions; give its ``base_url``, or LOOM_BASE_URL.

        Key, if it wants one: LOOM_API_KEY.
        """
        return cls._declare("compatible", name, **options)

    @classmethod
    def anthropic(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A Claude model. Key: ANTHROPIC_API_KEY."""
        return cls._declare("anthropic", name, **options)

    @classmethod
    def openai(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model of OpenAI. Key: OPENAI_API_KEY."""
        return cls._declare("openai", name, **options)

    @classmethod
    def gemini(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A Gemini model. Key: GEMINI_API_KEY, then GOOGLE_API_KEY."""
        return cls._declare("gemini", name, **options)

    @classmethod
    def qwen(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A Qwen model on DashScope. Key: DASHSCOPE_API_KEY."""
        return cls._declare("qwen", name, **options)

    @classmethod
    def deepseek(cls, name: str = "deepseek-flash", **options: Unpack[ModelOptions]) -> Self:
        """A DeepSeek model. Key: DEEPSEEK_API_KEY."""
        return cls._declare("deepseek", name, **options)

    @classmethod
    def minimax(cls, name: str = "MiniMax-M3", **options: Unpack[ModelOptions]) -> Self:
        """A MiniMax model. Key: MINIMAX_API_KEY."""
        return cls._declare("minimax", name, **options)

    @classmethod
    def ollama(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model of a local Ollama; no key."""
        return cls._declare("ollama", name, **options)

    @classmethod
    def groq(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model on Groq. Key: GROQ_API_KEY."""
        return cls._declare("groq", name, **options)

    @classmethod
    def mistral(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model of Mistral. Key: MISTRAL_API_KEY."""
        return cls._declare("mistral", name, **options)

    @classmethod
    def openrouter(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model through OpenRouter. Key: OPENROUTER_API_KEY."""
        return cls._declare("openrouter", name, **options)

    @classmethod
    def xai(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A Grok model. Key: XAI_API_KEY."""
        return cls._declare("xai", name, **options)

    @classmethod
    def together(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model on Together AI. Key: TOGETHER_API_KEY."""
        return cls._declare("together", name, **options)

    @classmethod
    def fireworks(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model on Fireworks AI, such as ``accounts/fireworks/models/...``. Key: FIREWORKS_API_KEY."""
        return cls._declare("fireworks", name, **options)

    @classmethod
    def zai(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A GLM model of Z.ai. Key: ZAI_API_KEY."""
        return cls._declare("zai", name, **options)

    @classmethod
    def azure(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A deployment on Azure OpenAI, by its name. Key: AZURE_OPENAI_API_KEY; address: AZURE_OPENAI_ENDPOINT.

        The address of the resource is asked at its deployments, with OPENAI_API_VERSION; one that ends in
        ``/openai/v1`` as it is.
        """
        return cls._declare("azure", name, **options)

    @classmethod
    def vllm(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model of a vLLM server, this machine's unless VLLM_BASE_URL says otherwise; VLLM_API_KEY if any."""
        return cls._declare("vllm", name, **options)

    @classmethod
    def lmstudio(cls, name: str, **options: Unpack[ModelOptions]) -> Self:
        """A model of LM Studio, this machine's unless LMSTUDIO_BASE_URL says otherwise; LMSTUDIO_API_KEY if any."""
        return cls._declare("lmstudio", name, **options)

    @classmethod
    def _declare(cls, provider: str, name: str, **options: Unpack[ModelOptions]) -> Self:
        unknown = options.keys() - ModelOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"Model.{provider}() got an unexpected keyword argument {sorted(unknown)[0]!r}")
        api_base, base_url = options.get("api_base"), options.get("base_url")
        if api_base and base_url and api_base != base_url:
            raise TypeError("api_base and base_url are two names of one thing; they differ")
        return cls(
            provider,
            name,
            api_base=api_base or base_url,
            organization=options.get("organization"),
            api_key_env=options.get("api_key_env"),
            extensions=options.get("extensions") or {},
            api_key=options.get("api_key"),
            timeout=options.get("timeout"),
            max_retries=options.get("max_retries"),
            max_concurrent=options.get("max_concurrent"),
            total_timeout=options.get("total_timeout"),
            price=options.get("price"),
            context_window=options.get("context_window"),
            wire=options.get("wire"),
            prompt_cache=options.get("prompt_cache"),
            connect_timeout=options.get("connect_timeout"),
            proxy=options.get("proxy"),
            ca_bundle=_path(options.get("ca_bundle")),
            trust_env=options.get("trust_env", False),
        )


def _box(model: Model, key: str) -> None:
    force_setattr(model, "api_key", Secret(key))


def _path(given: str | PathLike[str] | None) -> str | None:
    return None if given is None else fspath(given)


def _as_given(model: Model, name: str) -> object:
    """A field as it was given: frozen values do not check their types."""
    return getattr(model, name)


def _check_network(model: Model) -> None:
    """Raise ConfigError for a way to the service that cannot be; box a proxy that has a password."""
    proxy, bundle, trusting = (
        _as_given(model, "proxy"),
        _as_given(model, "ca_bundle"),
        _as_given(model, "trust_env"),
    )
    if isinstance(proxy, str):
        if read_proxy(proxy).user is not None:
            force_setattr(model, "proxy", Secret(proxy))
    elif isinstance(proxy, Secret):
        read_proxy(proxy.reveal())
    elif proxy is not None:
        raise ConfigError(f"Model proxy must be an address such as 'http://host:port', not {proxy!r}")
    if bundle is not None and not (isinstance(bundle, str) and bundle):
        raise ConfigError(f"Model ca_bundle must be the name of a file, not {bundle!r}")
    if not isinstance(trusting, bool):
        raise ConfigError(f"Model trust_env must be True or False, not {trusting!r}")
    if model.provider == "offline" and (proxy or bundle or trusting):
        raise ConfigError("the offline model asks nobody: it takes no proxy, ca_bundle or trust_env")


class Generation(Struct, frozen=True, omit_defaults=True):
    """How the model samples. None leaves it to the service: some models refuse to be told a temperature.

    ``temperature`` is 0 to 2, ``max_output_tokens`` 1 or more; ``extensions`` go into the request body as
    they are. Raises ConfigError otherwise.
    """

    temperature: float | None = None
    max_output_tokens: int | None = None
    extensions: dict[str, Any] = {}

    def __post_init__(self) -> None:
        heat, limit = self.temperature, self.max_output_tokens
        if heat is not None and not (_is_number(heat) and 0 <= heat <= 2):
            raise ConfigError(f"Generation temperature must be a number from 0 to 2, not {heat!r}")
        if limit is not None and not _is_count(limit):
            raise ConfigError(f"Generation max_output_tokens must be a whole number above 0, not {limit!r}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_price(value: object) -> bool:
    return value is None or value == "auto" or isinstance(value, Price)


def _is_count(value: object) -> bool:
    return _is_number(value) and value >= 1 and value % 1 == 0


class Instructions(Struct, frozen=True, omit_defaults=True):
    """A system prompt in pieces. Empty pieces are left out."""

    role: str = ""
    style: str = ""
    constraints: list[str] = []
    content: str = ""

    def __post_init__(self) -> None:
        for name in ("role", "style", "content"):
            instance(f"{name} of Instructions", getattr(self, name), str)
        several("constraints of Instructions", self.constraints, str, 'write ["..."], also for a single one')

    def render(self) -> str:
        """The prompt: role, style, constraints as bullets, then the content, a blank line between."""
        bullets = "\n".join(f"- {constraint}" for constraint in self.constraints)
        pieces = (
            f"Role: {self.role}" if self.role else "",
            f"Style: {self.style}" if self.style else "",
            f"Constraints:\n{bullets}" if bullets else "",
            self.content,
        )
        return "\n\n".join(piece for piece in pieces if piece)
