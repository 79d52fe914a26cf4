"""Which kind of question a text is, and which model suits the kind. Pure: from text and numbers to a name.

A text is judged by evidence. The shape of code (a definition, a call, a stack trace, a file of code) decides by
itself; words do in company, because most words of programmers are everybody's: flights have classes, dinners
have plans. The words are in ``routing_words``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from ..safety.declared import number

READ_CHARS = 8_000
"""How much of a text is read: what it is about stands at its beginning, and the work stays bounded."""

SHORT = 80
"""Up to this length a text without evidence is trivial, above it balanced."""

ENOUGH = 3
"""Evidence that decides: one thing that means nothing else, or several that often do."""

_WIDE = 0x2E80
"""From here on a character is about a word's half: Chinese, Japanese, Korean say more in 80 of them."""


class MessageCategory(StrEnum):
    """What a message asks of a model."""

    CODING = "coding"
    REASONING = "reasoning"
    TRIVIAL = "trivial"
    BALANCED = "balanced"


class ModelStrengths(Struct, frozen=True):
    """What a model is good at, each from 1 to 10: more ``speed``, ``reasoning`` and ``coding`` is better.

    ``cost`` runs the other way: 1 is cheap, 10 is expensive, and among equals the cheaper one is chosen. Raises
    ConfigError for anything that is not a number from 1 to 10.
    """

    speed: float = 5
    cost: float = 5
    reasoning: float = 5
    coding: float = 5

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            number(f"ModelStrengths {name}", getattr(self, name), least=1, most=10)

    def score(self, category: MessageCategory) -> float:
        """How well the model suits ``category``: ten times its strength there, plus ``10 - cost``.

        That is a bonus for cheapness of a tenth of a point each, in whole numbers so that ties are ties.
        """
        if category is MessageCategory.CODING:
            strength = 10 * self.coding
        elif category is MessageCategory.REASONING:
            strength = 10 * self.reasoning
        elif category is MessageCategory.TRIVIAL:
            strength = 10 * self.speed
        else:
            strength = 5 * (self.reasoning + self.coding)
        return strength + 10 - self.cost


def classify_message(text: str) -> MessageCategory:
    """What ``text`` asks for, judged by its first 8,000 characters in time that grows with them alone.

    Coding and reasoning need evidence, and the stronger wins (coding when they are even). Without any, a text
    of less than 80 characters is trivial and a longer one balanced. The words are English, with the commonest
    of a few other languages; code is recognised whatever is spoken around it.

    >>> classify_message("Fix this TypeError in def foo()").value
    'coding'
    >>> classify_message("what class is my flight?").value
    'trivial'
    """
    # Compiling its tables takes milliseconds, and most programs route nothing.
    from .routing_words import CODING, REASONING, evidence

    text = text[:READ_CHARS].strip()
    coding, reasoning = evidence(text, CODING), evidence(text, REASONING)
    if coding >= ENOUGH and coding >= reasoning:
        return MessageCategory.CODING
    if reasoning >= ENOUGH:
        return MessageCategory.REASONING
    return MessageCategory.TRIVIAL if _length(text) < SHORT else MessageCategory.BALANCED


def best_model(
    message: str,
    names: Sequence[str],
    strengths: Mapping[str, ModelStrengths] | None = None,
    default: str | None = None,
) -> str | None:
    """The name of the model that suits ``message`` best; ``default`` when there are no names.

    A name without strengths has 5 in everything. Among equals ``default`` wins, then the first.
    """
    if len(names) < 2:
        return names[0] if names else default
    category = classify_message(message)
    known, middling = strengths or {}, ModelStrengths()
    scores = {name: known.get(name, middling).score(category) for name in names}
    best = max(scores.values())
    if default is not None and scores.get(default) == best:
        return default
    return next(name for name in names if scores[name] == best)


def _length(text: str) -> int:
    """Characters, wide ones twice; as much as it takes to know."""
    start = text[:SHORT]
    return len(text) + sum(1 for character in start if ord(character) >= _WIDE)
