"""From what was declared as a model to something that can be asked, with the price of what it uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config.model import Model, Price
from ..config.models import AnyModel, FallbackModel, RoutedModel
from ..errors import AuthenticationError, ConfigError
from ..llm.base import LLMProvider
from ..llm.fallback import Candidate, FallbackProvider, KeylessProvider, goes_on
from ..llm.routed import Choose, RoutedProvider
from ..policies.routing import best_model
from ..types import ChatMessage, Role, Usage
from .providers import choose_model, make_provider


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


def make_model(model: AnyModel) -> LiveModel:
    """Bring to life what was declared as a model.

    Raises ConfigError for what is no model, AuthenticationError when there is no key.
    """
    if isinstance(model, str):
        model = Model.parse(model)
    if isinstance(model, Model) and model.provider == "auto":
        model = choose_model()
    parts = _Parts()
    candidate = parts.candidate(model)
    several = isinstance(model, FallbackModel | RoutedModel)
    # The replies of several carry attempts, which name the model; those of one may call it anything.
    price = parts.price if several else parts.only_price
    name = model.name if isinstance(model, Model) else None
    unpriced = tuple(label for label, known in parts.prices.items() if known is None)
    return LiveModel(candidate.provider, name, price, unpriced)


class _Parts:
    """Makes the providers of a declaration, each model under a label of its own, and collects their prices."""

    def __init__(self) -> None:
        self.prices: dict[str, Price | None] = {}

    def price(self, usage: Usage, label: str) -> float | None:
        known = self.prices.get(label)
        return known.cost(usage) if known else None

    def only_price(self, usage: Usage, name: str) -> float | None:
        return self.price(usage, next(iter(self.prices)))

    def candidate(self, model: AnyModel, *, spare: bool = False) -> Candidate:
        """``model`` as one that can be asked. With ``spare``, one without a key only fails when it is."""
        if isinstance(model, Model):
            return self._single(model, spare)
        if isinstance(model, FallbackModel):
            return self._fallback(model, spare)
        if isinstance(model, RoutedModel):
            routes = {name: self.candidate(one, spare=spare) for name, one in model.models.items()}
            provider = RoutedProvider(routes, model.choose or _chooser(model), default=model.default)
            return Candidate(provider, label=model.identifier)
        if not isinstance(model, str) and callable(getattr(model, "chat", None)):
            return Candidate(model, label=self._label(Candidate(model).name, None))
        raise ConfigError(
            f"{model!r} is not a model: pass Model.anthropic(...), 'provider:name' or a provider object"
        )

    def _single(self, model: Model, spare: bool) -> Candidate:
        if model.provider == "auto":
            model = choose_model()
        label = self._label(model.identifier, model.price)
        try:
            return Candidate(make_provider(model), label=label)
        except AuthenticationError as error:
            if not spare:
                raise
            return Candidate(KeylessProvider(error), label=label)

    def _fallback(self, model: FallbackModel, spare: bool) -> Candidate:
        keyless_goes_on = goes_on(AuthenticationError(""), model.on)
        candidates = [self.candidate(one, spare=spare or keyless_goes_on) for one in model.models]
        missing = [one.provider for one in candidates if isinstance(one.provider, KeylessProvider)]
        if len(missing) == len(candidates) and not spare:
            raise missing[-1].error
        return Candidate(FallbackProvider(candidates, on=model.on), label=model.identifier)

    def _label(self, name: str, price: Price | None) -> str:
        """``name``, numbered when it is taken: the same model may be there twice, at two prices."""
        label, number = name, 1
        while label in self.prices:
            number += 1
            label = f"{name}#{number}"
        self.prices[label] = price
        return label


def _chooser(model: RoutedModel) -> Choose:
    names, strengths, default = tuple(model.models), model.strengths, model.default
    return lambda messages: best_model(_question(messages), names, strengths, default)


def _question(messages: Sequence[ChatMessage]) -> str:
    """What the user said last, without what ``kernel.state.task_text`` put before and after it."""
    last = next((message for message in reversed(messages) if message.role is Role.USER), None)
    text = (last.text_content if last else None) or ""
    return text.rpartition("</earlier>\n\n")[2].partition("\n\n<context>\n")[0]
