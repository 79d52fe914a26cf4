"""From what a declaration says about a model to what its use costs, and to what is known about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from ..config.model import Model, Price
from ..llm.catalog import ModelInfo, find_model
from ..llm.pricing import list_price, price_of
from ..types import Usage

Pricer = Callable[[Usage], float | None]


def pricer(model: Model, *, needed: bool = False) -> Pricer | None:
    """What turns usage of ``model`` into money; None when there is no way to know a price.

    The declared price comes first. The list price is looked up for ``"auto"``, and without being asked when it
    is ``needed``: then, and only then, an unknown one shows now rather than after the first reply.
    """
    if isinstance(model.price, Price):
        return model.price.cost
    if model.price is None and not needed:
        return None
    if needed and list_price(model.provider, model.name) is None:
        return None
    return partial(price_of, model.provider, model.name)


def model_info(model: Model) -> ModelInfo:
    """What is known about ``model``: the catalogue's row, with what the declaration says in its place."""
    info = find_model(model.provider, model.name) or ModelInfo(provider=model.provider, name=model.name)
    return info if model.context_window is None else replace(info, context_window=model.context_window)
