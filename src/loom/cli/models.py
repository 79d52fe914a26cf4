"""``loom models``: which services can be asked from here, and what is known of their models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

import click
import msgspec
from msgspec import Struct

from ..assembly.providers import choose_model
from ..assembly.vendors import VENDORS, Vendor
from ..errors import ConfigError, how_to_install
from ..llm.catalog import ModelInfo, known_models
from ..llm.pricing import ListPrice, list_price, prices_installed
from .app import debug_option
from .text import printable_json

_INPUTS = ("vision", "audio", "pdf", "tools", "thinking")
_UNKNOWN = "unknown"


class ProviderLine(Struct, frozen=True, kw_only=True):
    """What is said of a provider. Of variables it is told whether they are set, never to what."""

    provider: str
    wire: str
    base_url: str | None
    base_url_variable: str
    base_url_set: bool
    key_variables: Sequence[str]
    key_set: bool
    key_needed: bool
    configured: bool
    auto: bool
    models: int


class ModelLine(Struct, frozen=True, kw_only=True):
    """A model of the catalogue with its price; None is unknown. ``ended`` says that it no longer answers."""

    model: ModelInfo
    price: ListPrice | None
    ended: bool


@click.command("models")
@click.argument("provider", required=False, metavar="[PROVIDER]")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON array.")
@debug_option
def command(provider: str | None, as_json: bool) -> None:
    """List the providers, or what is known of the models of one.

    Of a key it is only said whether it is set. Without PROVIDER this machine is asked for a local Ollama, to say what
    auto means; nobody else is asked. Prices are list prices in US dollars for a million tokens and need the extra
    pricing; what is not known is called unknown. ENDS is the first day without the model, where its vendor has named
    one, and what it names instead. Other models than those listed can be used just as well.

    \b
    Examples:
      loom models
      loom models anthropic
      loom models openai --json | jq -r '.[] | select(.model.vision) | .model.name'
    """
    if provider is None:
        _show_providers(as_json)
    elif provider in VENDORS:
        _show_models(provider, as_json)
    else:
        raise ConfigError(f"there is no provider {provider!r}; known: {', '.join(VENDORS)}")


# --- providers ----------------------------------------------------------------------------------------


def _show_providers(as_json: bool) -> None:
    chosen = choose_model()
    lines = [_provider_line(name, vendor, chosen.provider) for name, vendor in VENDORS.items()]
    if as_json:
        click.echo(printable_json(msgspec.json.encode(lines)))
        return
    rows = [
        (line.provider, line.wire, _address(line), _key(line), "auto" if line.auto else "") for line in lines
    ]
    _table(("PROVIDER", "WIRE", "BASE URL", "KEY", ""), rows)
    click.echo(f"\nauto is {chosen.identifier}")


def _provider_line(name: str, vendor: Vendor, chosen: str) -> ProviderLine:
    key_set = any(_is_set(env) for env in vendor.key_envs)
    base_url_set = _is_set(vendor.base_url_env)
    return ProviderLine(
        provider=name,
        wire=vendor.wire,
        base_url=vendor.base_url or None,
        base_url_variable=vendor.base_url_env,
        base_url_set=base_url_set,
        key_variables=vendor.key_envs,
        key_set=key_set,
        key_needed=not vendor.keyless,
        configured=(key_set or vendor.keyless) and bool(vendor.base_url or base_url_set),
        auto=name == chosen,
        models=len(known_models(name)),
    )


def _is_set(variable: str) -> bool:
    return bool(os.environ.get(variable, "").strip())


def _address(line: ProviderLine) -> str:
    if line.base_url_set:
        return f"from {line.base_url_variable}"
    return line.base_url or f"{line.base_url_variable} missing"


def _key(line: ProviderLine) -> str:
    if not line.key_variables:
        return "none needed"
    state = "set" if line.key_set else "missing" if line.key_needed else "not set, optional"
    return f"{' or '.join(line.key_variables)} {state}"


# --- models -------------------------------------------------------------------------------------------


def _show_models(provider: str, as_json: bool) -> None:
    today = datetime.now(UTC).date()
    lines = [
        ModelLine(model=info, price=list_price(provider, info.name), ended=info.ended(today))
        for info in known_models(provider)
    ]
    if as_json:
        click.echo(printable_json(msgspec.json.encode(lines)))
    elif not lines:
        click.echo(
            f"The catalogue has no models of {provider}. Any name that it knows can be used.", err=True
        )
    else:
        rows = [
            (
                line.model.name,
                _count(line.model.context_window),
                _count(line.model.max_output),
                _price(line.price),
                ", ".join(_capabilities(line.model)),
                end_of(line.model, today),
            )
            for line in lines
        ]
        _table(("MODEL", "CONTEXT", "OUTPUT", "$ PER MILLION", "CAPABILITIES", "ENDS"), rows)
        if not prices_installed():
            click.echo(f"\nPrices: {how_to_install('pricing')}", err=True)


def end_of(info: ModelInfo, today: date) -> str:
    """When a model ends or ended, and what its vendor names instead; empty while nothing is known of an end."""
    instead = f"use {info.successor}" if info.successor else ""
    if info.retires is None:
        return instead
    when = f"ended {info.retires}" if info.ended(today) else f"{info.retires}"
    return ", ".join(filter(None, (when, instead)))


def _count(tokens: int | None) -> str:
    return _UNKNOWN if tokens is None else f"{tokens:,}"


def _price(price: ListPrice | None) -> str:
    if price is None:
        return _UNKNOWN
    said = f"{price.input:g} in, {price.output:g} out"
    if price.cache_read is not None:
        said += f", {price.cache_read:g} cached"
    return f"{said}; long requests more" if price.tiered else said


def _capabilities(info: ModelInfo) -> Iterator[str]:
    """What a model can do; a question mark where that is unknown."""
    for name in _INPUTS:
        able: bool | None = getattr(info, name)
        if able is not False:
            yield name if able else f"{name}?"
    yield f"schema: {info.structured or _UNKNOWN}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
