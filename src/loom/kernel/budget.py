"""One budget for a run and all the runs below it.

The state of a run knows what it spent itself (``folds/state.py``); this live object lets a tree of
concurrent runs see what all of them have spent together, before each spends more.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from time import monotonic

from ..folds.state import Phase, State
from ..types import Limits, Usage
from .steps import Stop


class Budget:
    """What a run may spend, drawn from its parent's budget. Charging one charges all above it.

    ``deepest`` is how deep (0 is a run without a parent) runs below this one may be; None is no limit.
    """

    __slots__ = (
        "_rested",
        "_resting",
        "_since",
        "_taken_over",
        "cost",
        "deepest",
        "estimated",
        "iterations",
        "limits",
        "parent",
        "tokens",
        "tool_calls",
        "unpriced",
    )

    def __init__(self, limits: Limits, parent: Budget | None = None, *, depth: int = 0) -> None:
        above = parent.deepest if parent else None
        own = None if limits.max_depth is None else depth + limits.max_depth
        self.deepest: int | None = above if own is None else own if above is None else min(own, above)
        self.limits = limits
        self.parent = parent
        self.iterations = 0
        self.tool_calls = 0
        self.tokens = 0
        self.cost = 0.0
        self.estimated = False
        self.unpriced = False
        self._resting = 0
        self._since = 0.0
        self._rested = 0.0
        self._taken_over: set[str] = set()

    @classmethod
    def of(cls, state: State, limits: Limits, parent: Budget | None = None, *, depth: int = 0) -> Budget:
        """The budget of a run that stands as ``state`` says; what it spent before is drawn from above, once."""
        budget = cls(limits, parent, depth=depth)
        under_way = sum(1 for call in state.calls if call.attempt and call.phase is not Phase.FINISHED)
        budget.iterations = state.iterations + state.child_iterations
        budget.tool_calls = state.tool_calls + under_way
        budget.tokens = state.usage.total_tokens
        budget.estimated = state.usage.estimated
        budget.cost, budget.unpriced = state.spent_cost, state.unpriced
        budget._taken_over = {child for call in state.calls for child in call.children}
        if parent is not None:
            parent.take_over(state.run_id, budget)
        return budget

    def take_over(self, run_id: str, spent: Budget) -> None:
        """Charge what a child of that id has spent so far, here and above, unless it was charged already."""
        if run_id in self._taken_over:
            return
        self._taken_over.add(run_id)
        here: Budget | None = self
        while here is not None:
            here.iterations += spent.iterations
            here.tool_calls += spent.tool_calls
            here.tokens += spent.tokens
            here.estimated = here.estimated or spent.estimated
            here.cost += spent.cost
            here.unpriced = here.unpriced or spent.unpriced
            here = here.parent

    @contextmanager
    def resting(self) -> Generator[None, None, None]:
        """The time of this block is spent by people, here and above; it is nobody's working time."""
        chain: list[Budget] = []
        here: Budget | None = self
        while here is not None:
            chain.append(here)
            here = here.parent
        for budget in chain:
            if not budget._resting:
                budget._since = monotonic()
            budget._resting += 1
        try:
            yield
        finally:
            for budget in chain:
                budget._resting -= 1
                if not budget._resting:
                    budget._rested += monotonic() - budget._since

    @property
    def rested(self) -> float:
        """Seconds spent by people so far."""
        return self._rested + (monotonic() - self._since if self._resting else 0.0)

    def reserve(self, *, iterations: int = 0, tool_calls: int = 0) -> Stop | None:
        """Set aside model or tool calls, here and above, or return the ancestor's limit that forbids it.

        Nothing is set aside when anything forbids it. A run's own limits are its state's business.
        """
        above = self.parent
        while above is not None:
            if (stop := above._broken_by(iterations, tool_calls)) is not None:
                return stop
            above = above.parent
        self.charge(iterations=iterations, tool_calls=tool_calls)
        return None

    def charge(
        self,
        *,
        iterations: int = 0,
        tool_calls: int = 0,
        usage: Usage | None = None,
        cost: float | None = None,
    ) -> None:
        """Record what was spent, here and above. Usage of unknown cost leaves a mark: ``unpriced``."""
        here: Budget | None = self
        while here is not None:
            here.iterations += iterations
            here.tool_calls += tool_calls
            if usage is not None:
                here.tokens += usage.total_tokens
                here.estimated = here.estimated or usage.estimated
                here.cost += cost or 0.0
                here.unpriced = here.unpriced or cost is None
            here = here.parent

    def blind_to(self, unpriced: Sequence[str]) -> bool:
        """Whether a limit on money above could not be held: there is a cost nobody knows, or about to be one.

        ``unpriced`` are the models about to be asked whose price is not known. A run's own limit is refused
        when it is assembled, and is its state's business after that.
        """
        above = self.parent
        if above is None:
            return False
        blind = above.limits.max_cost is not None and (above.unpriced or bool(unpriced))
        return blind or above.blind_to(unpriced)

    def _broken_by(self, iterations: int, tool_calls: int) -> Stop | None:
        for limit, allowed, spent, wanted in (
            ("max_iterations", self.limits.max_iterations, self.iterations, iterations),
            ("max_tool_calls", self.limits.max_tool_calls, self.tool_calls, tool_calls),
            ("max_tokens", self.limits.max_tokens, self.tokens, min(1, iterations)),
            ("max_cost", self.limits.max_cost, self.cost, 0),
        ):
            if allowed is not None and (
                spent + wanted > allowed or (limit == "max_cost" and spent >= allowed)
            ):
                return Stop(limit, allowed, spent, self.estimated and limit in ("max_tokens", "max_cost"))
        return None
