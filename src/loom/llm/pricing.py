"""What a model's list price is, from the extra ``pricing`` (genai-prices), in US dollars.

The package and its table cost a sixth of a second to load, so nothing here is loaded before it is asked for.
Only the table inside the package is read: nothing is asked over the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct

from ..types import Usage, without_advisors

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, Provider, TieredPrices

# Our names of the services whose prices the table knows. Servers of one's own have none, and a deployment on
# Azure has a name of the user's own, which says nothing about the model behind it.
_SERVICES: Mapping[str, str] = {
    "anthropic": "anthropic",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "openai": "openai",
    "openai-responses": "openai",
    "openrouter": "openrouter",
    "together": "together",
    "xai": "x-ai",
    "zai": "zai",
}


class ListPrice(Struct, frozen=True, kw_only=True):
    """US dollars for a million tokens of text; None for what the table does not price apart.

    ``tiered`` says that longer requests cost more than this.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    tiered: bool = False


def price_of(provider: str, model: str, usage: Usage) -> float | None:
    """What ``usage`` costs today; None when that is unknown, which is not zero.

    Unknown is a model that the table does not have, and every model while the extra is not installed. What was read
    from and written to a cache, sound, pictures and video cost what the table says for these, else what other
    input or output costs; searches of the web have their own price or none that is known. What a service asked
    other models costs what these cost.
    """
    found = _find(provider, model)
    if found is None:
        return None
    from genai_prices.types import Usage as Counted

    service, info = found
    total = 0.0
    for advice in usage.advisors:
        price = price_of(provider, advice.model, advice.usage)
        if price is None:
            return None
        total += price
    own, prices = without_advisors(usage), info.get_prices(datetime.now(UTC))
    if own.web_searches and prices.web_searches_kcount is None:
        return None  # they cost something, and the table does not say what
    counts = _counts(own)
    if own.input_audio_seconds and prices.input_audio_hours is not None:  # by the hour, not by the token
        counts["input_tokens"] -= counts.pop("input_audio_tokens")
    try:
        counted = Counted(**{name: count for name, count in counts.items() if count})
        return total + float(info.calc_price(counted, service).total_price)
    except ValueError:  # counts that contradict each other cannot be priced
        return None


def _counts(usage: Usage) -> dict[str, int]:
    """The counts by their names in the table."""
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return {
        "input_tokens": max(usage.input_tokens, cached),  # a service that counts them apart
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "cache_audio_read_tokens": usage.cache_audio_read_tokens,
        "output_tokens": usage.output_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "input_image_tokens": usage.input_image_tokens,
        "input_video_tokens": usage.input_video_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "output_image_tokens": usage.output_image_tokens,
        "output_video_tokens": usage.output_video_tokens,
        "input_audio_seconds": usage.input_audio_seconds,
        "audio_seconds": usage.input_audio_seconds,
        "web_searches": usage.web_searches,
    }


def list_price(provider: str, model: str) -> ListPrice | None:
    """Today's price of a million tokens; None when it is unknown, as for ``price_of``."""
    found = _find(provider, model)
    if found is None:
        return None
    prices = found[1].get_prices(datetime.now(UTC))
    listed = {
        "input": prices.input_mtok,
        "output": prices.output_mtok,
        "cache_read": prices.cache_read_mtok,
        "cache_write": prices.cache_write_mtok,
    }
    plain = {name: _plain(price) for name, price in listed.items() if price is not None}
    return ListPrice(tiered=any(hasattr(price, "tiers") for price in listed.values()), **plain)


def prices_installed() -> bool:
    """Whether the extra is there; loads it."""
    return _table() is not None


def _plain(price: Decimal | TieredPrices) -> float:
    return float(price if isinstance(price, Decimal) else price.base)


def _find(provider: str, model: str) -> tuple[Provider, ModelInfo] | None:
    service = _SERVICES.get(provider)
    table = _table() if service else None
    if table is None:
        return None
    try:
        found = table.find_provider_model(model, None, service, None)
    except LookupError:
        return None
    prices = found[1].get_prices(datetime.now(UTC))
    return None if prices.input_mtok is None or prices.output_mtok is None else found


@cache
def _table() -> DataSnapshot | None:
    """The table in the package; None when it is not installed."""
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        return None
    return get_snapshot()
