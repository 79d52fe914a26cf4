"""One budget for a run and all the runs below it.

The state of a run knows what it spent itself (``kernel/state.py``); this live object lets a tree of
concurrent runs see what all of them have spent together, before each spends more.
"""

from __future__ import annotations

from ..types import Limits, Usage
from .steps import Stop


class Budget:
    """What a run may spend, drawn from its parent's budget. Charging one charges all above it."""

    __slots__ = ("cost", "iterations", "limits", "parent", "tokens", "tool_calls")

    def __init__(self, limits: Limits, parent: Budget | None = None) -> None:
        self.limits = limits
        self.parent = parent
        self.iterations = 0
        self.tool_calls = 0
        self.tokens = 0
        self.cost = 0.0

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
        """Record what was spent, here and above. An unknown cost charges nothing."""
        here: Budget | None = self
        while here is not None:
            here.iterations += iterations
            here.tool_calls += tool_calls
            here.tokens += usage.total_tokens if usage else 0
            here.cost += cost or 0.0
            here = here.parent

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
                return Stop(limit, allowed, spent)
        return None
