"""From what was declared as a model to something that can be asked, with the price of what it uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..config.model import Model
from ..config.models import AnyModel, FallbackModel, RoutedModel
from ..errors import ConfigError
from ..kernel.engine import no_price
from ..llm.base import LLMProvider, as_provider
from ..types import Usage
from .prices import pricer
from .providers import make_provider, settled


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A model ready to be asked.

    ``name`` is what to ask it for, None when it knows itself. ``price`` turns usage and the name of the model that
    used it into money, None when unknown. ``unpriced`` are the models whose price is not known.
    """

    provider: LLMProvider
    name: str | None
    price: Callable[[Usage, str], float | None]
    unpriced: tuple[str, ...]


def make_model(model: AnyModel, *, priced: bool = False) -> LiveModel:
    """Bring to life what was declared as a model; with ``priced`` at its list price where it declares none.

    Raises ConfigError for what is no model or has been retired, AuthenticationError when there is no key.
    """
    if isinstance(model, str):
        model = Model.parse(model)
    if isinstance(model, Model):
        return _single(settled(model), priced)
    if isinstance(model, FallbackModel | RoutedModel):
        from .several import Parts  # what most agents do without

        parts = Parts(priced)
        provider = parts.candidate(model).provider
        return LiveModel(provider, None, parts.price, parts.unpriced)
    if callable(getattr(model, "chat", None)):
        return LiveModel(as_provider(model), None, no_price, (type(model).__name__,))
    raise ConfigError(
        f"{model!r} is not a model: pass Model.anthropic(...), 'provider:name' or a provider object"
    )


def _single(model: Model, priced: bool) -> LiveModel:
    provider, price = make_provider(model), pricer(model, needed=priced)
    name: str = getattr(provider, "default_model", model.name)  # where the service wants another than we say
    if price is None:
        return LiveModel(provider, name, no_price, (model.identifier,))
    # What the service calls the model in its replies is its own business: there is only this one.
    return LiveModel(provider, name, lambda usage, name: price(usage), ())
