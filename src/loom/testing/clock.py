"""A clock that moves when told to, so that no test waits for time to pass."""

from __future__ import annotations


class FrozenClock:
    """Call it for the time in Unix seconds; it stands still until ``advance``. Fits every ``clock=``."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time, in Unix seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self.now += seconds
