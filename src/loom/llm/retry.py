"""When to ask a model service again, and how long to wait before it; who waits is the caller.

Full jitter after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): clients that failed together
must not come back together.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import LoomError
from .base import RETRIED, Retried

logger = logging.getLogger("loom.llm")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to ask again.

    ``max_retries`` counts the tries after the first. ``base`` and ``cap`` are seconds of backoff. A service
    that asks for more than ``max_wait`` seconds is not waited for: the error goes up as it is.
    """

    max_retries: int = 2
    base: float = 0.5
    cap: float = 8.0
    max_wait: float = 60.0
    rand: Callable[[], float] = random.random

    def delay(self, error: LoomError, attempt: int) -> float | None:
        """Seconds to wait before try ``attempt`` + 1 (the first is 0), or None to give up."""
        # guard: tests/llm/test_limits.py
        if attempt >= self.max_retries or not error.retryable:
            return None
        asked: float | None = getattr(error, "retry_after", None)
        backoff = self.rand() * min(self.cap, self.base * 2.0**attempt)
        if asked is None:
            return backoff
        return None if asked > self.max_wait else asked + backoff


class Patience:
    """What is left of one request's tries and time. ``seconds`` bounds all tries together; None does not."""

    __slots__ = ("_attempt", "_clock", "_deadline", "_policy")

    def __init__(self, policy: RetryPolicy, seconds: float | None, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._deadline = None if seconds is None else clock() + seconds
        self._attempt = 0

    def left(self) -> float | None:
        """Seconds until the time is up; None without a limit. Never quite 0, which would mean no limit."""
        return None if self._deadline is None else max(self._deadline - self._clock(), 0.001)

    def delay(self, error: LoomError) -> float | None:
        """Seconds to wait before the next try, or None to give up: no tries or no time left."""
        delay = self._policy.delay(error, self._attempt)
        left = self.left()
        if delay is None or (left is not None and delay >= left):
            return None
        self._attempt += 1
        _tell(Retried(self._attempt, delay, error.info()))
        return delay


def _tell(retried: Retried) -> None:
    """Say that a request is made again: to the log, and to the run that asked."""
    logger.info(
        "a request failed (%s: %s); try %d in %.1f s",
        retried.error.code,
        retried.error.message,
        retried.attempt + 1,
        retried.delay,
    )
    told = RETRIED.get()
    if told is not None:
        told.append(retried)
