"""Several models as one: the providers behind a ``FallbackModel`` or ``RoutedModel``, and what each costs."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.model import Model
from ..config.models import AnyModel, FallbackModel, RoutedModel
from ..errors import AuthenticationError
from ..llm.base import GOAL, as_provider
from ..llm.fallback import Candidate, FallbackProvider, KeylessProvider, goes_on
from ..llm.routed import Choose, RoutedProvider
from ..policies.routing import best_model
from ..types import ChatMessage, Role, Usage
from .prices import Pricer, pricer
from .providers import make_provider, settled


class Parts:
    """Makes the providers of a declaration, each model under a label of its own, and collects their prices.

    With ``priced`` a model that declares no price has its list price.
    """

    def __init__(self, priced: bool = False) -> None:
        self.prices: dict[str, Pricer | None] = {}
        self._priced = priced

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The labels of the models whose price is not known."""
        return tuple(label for label, known in self.prices.items() if known is None)

    def price(self, usage: Usage, label: str) -> float | None:
        """What ``usage`` of that model costs; None when its price is not known."""
        known = self.prices.get(label)
        return known(usage) if known else None

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
        if isinstance(model, str):
            return self._single(Model.parse(model), spare)
        live = as_provider(model)
        return Candidate(live, label=self._label(Candidate(live).name, None))

    def _single(self, model: Model, spare: bool) -> Candidate:
        model = settled(model)
        label = self._label(model.identifier, pricer(model, needed=self._priced))
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

    def _label(self, name: str, price: Pricer | None) -> str:
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
    """What the user said last: of the run's task the task alone, without the context that stands beside it."""
    last = next((message for message in reversed(messages) if message.role is Role.USER), None)
    text, goal = (last.text_content if last else None) or "", GOAL.get()
    return goal if goal and goal in text else text
