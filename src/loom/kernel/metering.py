"""What model calls used and cost: as the service counted it, else estimated, and told apart.

A count of nothing for something is no count: a service that reports no usage, or zeros, would lift every limit
on tokens and money. The estimate itself comes with the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from msgspec.structs import replace

from ..errors import LoomError, MalformedReplyError
from ..events import ErrorRaised, ReplyCut
from ..llm.base import ProviderEvent, ReplyBuilder
from ..safety.display import encodable
from ..types import Attempt, ChatMessage, ChatResponse, Usage
from .engine import Scope


@dataclass(frozen=True, slots=True)
class Spent:
    """What one model call used, its failed attempts apart, and what all of that cost.

    ``cost`` is None when not all of it is known; ``estimated_cost`` is then the price of estimates, None without
    a price.
    """

    usage: Usage
    attempts: tuple[Attempt, ...]
    cost: float | None
    estimated_cost: float | None = None

    @property
    def total(self) -> Usage:
        """The usage, failed attempts included."""
        total = self.usage
        for attempt in self.attempts:
            if attempt.error is not None and attempt.usage is not None:
                total += attempt.usage
        return total


def spent_on_reply(scope: Scope, messages: Sequence[ChatMessage], reply: ChatResponse) -> Spent:
    """What ``reply`` to ``messages`` used and cost; what its service left out is estimated."""
    usage = reply.usage
    if usage is None or not usage.total_tokens:
        usage = _estimated(scope, messages, reply.message)
    attempts = reply.attempts
    if not attempts:
        return _priced(scope, usage, reply.model, ())
    metered = tuple(_metered(scope, messages, attempt) for attempt in attempts)
    return _priced(scope, usage, attempts[-1].model, metered)


def spent_in_vain(
    scope: Scope, messages: Sequence[ChatMessage], said: Sequence[ProviderEvent], error: LoomError
) -> ErrorRaised:
    """The event for a model call that failed, with what it had used if its service had begun to answer."""
    attempts: tuple[Attempt, ...] = tuple(getattr(error, "attempts", ()))
    begun = bool(said) or isinstance(error, MalformedReplyError)
    used = any(attempt.usage is None or attempt.usage.total_tokens for attempt in attempts)
    if not (begun or used):
        return ErrorRaised(error=error.info())
    usage = Usage()
    if begun:
        usage = _counted(scope, messages, said)
    # Of several attempts the last is this one: it is priced as its own model, not as the one before it.
    model, before = (attempts[-1].model, attempts[:-1] if begun else attempts) if attempts else ("", ())
    metered = tuple(_metered(scope, messages, attempt) for attempt in before)
    spent = _priced(scope, usage, model or scope.engine.model or "", metered)
    cost = spent.cost if spent.cost is not None else spent.estimated_cost
    scope.budget.charge(usage=spent.total, cost=cost)
    return ErrorRaised(error=error.info(), usage=spent.total, estimated_cost=cost)


def spent_on_cut(
    scope: Scope, messages: Sequence[ChatMessage], said: Sequence[ProviderEvent], iteration: int
) -> ReplyCut | None:
    """The event for a reply that was broken off by us, with what it had used; None when nothing of it had come."""
    if not said:
        return None
    usage = _counted(scope, messages, said)
    spent = _priced(scope, usage, scope.engine.model or "", ())
    cost = spent.cost if spent.cost is not None else spent.estimated_cost
    scope.budget.charge(usage=usage, cost=cost)
    text = encodable(_put_together(said).message.text_content or "")
    return ReplyCut(iteration=iteration, text=text, usage=usage, estimated_cost=cost)


def _counted(scope: Scope, messages: Sequence[ChatMessage], said: Sequence[ProviderEvent]) -> Usage:
    """What a broken stream used: as it counted by then, else estimated. A count of nothing is none."""
    partial = _put_together(said)
    if partial.usage is None or not partial.usage.total_tokens:
        return _estimated(scope, messages, partial.message)
    return partial.usage


def _put_together(said: Sequence[ProviderEvent]) -> ChatResponse:
    builder = ReplyBuilder()
    for event in said:
        if not isinstance(event, ChatResponse):
            builder.add(event)
    return builder.build()


def _estimated(scope: Scope, messages: Sequence[ChatMessage], message: ChatMessage | None) -> Usage:
    """An estimate of the request, and of the reply if it says anything."""
    if getattr(scope.engine.provider, "unmetered", False):
        return Usage()
    sent, written = scope.engine.estimate(messages, scope.engine.tools.specs()), 0
    if message is not None and (message.content or message.tool_calls):
        written = scope.engine.estimate([message], ())
    return Usage(input_tokens=sent, output_tokens=written, estimated=True)


def _metered(scope: Scope, messages: Sequence[ChatMessage], attempt: Attempt) -> Attempt:
    if attempt.usage is not None:
        return attempt
    return replace(attempt, usage=_estimated(scope, messages, None))


def _priced(scope: Scope, usage: Usage, model: str, attempts: tuple[Attempt, ...]) -> Spent:
    """What the reply and the attempts that failed before it cost."""
    price = scope.engine.price
    cost, estimated = _money(price(usage, model)), usage.estimated
    for attempt in attempts:
        counted = attempt.usage
        if attempt.error is not None and counted is not None and counted.total_tokens:
            more = _money(price(counted, attempt.model))
            cost = None if cost is None or more is None else cost + more
            estimated = estimated or counted.estimated
    return Spent(usage, attempts, None, cost) if estimated else Spent(usage, attempts, cost)


def _money(cost: Any) -> float | None:
    """A price as a number; one that is none is unknown, which is not zero."""
    try:
        amount = None if cost is None or isinstance(cost, str | bool) else float(cost)
    except (TypeError, ValueError):
        return None
    return amount if amount is not None and isfinite(amount) and amount >= 0 else None
