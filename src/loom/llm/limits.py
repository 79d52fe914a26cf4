"""What keeps one provider from flooding a service: a cap on requests at once, and a circuit breaker.

The breaker is the one of Michael Nygard's "Release It!" (2007): after a row of failures the service is left
alone for a while, then one request tries it while the others still fail at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakKeyDictionary

from ..errors import LoomError, ProviderUnavailableError
from ..safety.declared import count, number


@dataclass(frozen=True, slots=True)
class Allowance:
    """How hard a service may be asked.

    At most ``max_concurrent`` requests are under way at once (None: no limit); more wait in order. After
    ``open_after`` requests in a row that found the service unavailable (None: never) further ones fail at
    once, for ``reset_after`` seconds. Raises ConfigError for numbers below 1, or below 0 for seconds.
    """

    max_concurrent: int | None = None
    open_after: int | None = 8
    reset_after: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_concurrent", "open_after"):
            if getattr(self, name) is not None:
                count(name, getattr(self, name))
        number("reset_after", self.reset_after, least=0)


class Gate:
    """The way to one service, which its ``Allowance`` keeps passable. ``clock`` gives seconds."""

    __slots__ = ("_allowance", "_clock", "_failures", "_last", "_service", "_slots", "_trying", "_until")

    def __init__(
        self, service: str, allowance: Allowance, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._allowance = allowance
        self._clock = clock
        self._failures = 0
        self._last = ""
        self._until: float | None = None
        self._trying = False
        # A semaphore belongs to one event loop, a provider to all that use it.
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def passage(self) -> Passage:
        """One request's way through, as ``async with``. Raises ProviderUnavailableError while it is closed."""
        return Passage(self)

    def slots(self) -> asyncio.Semaphore | None:
        """What requests of this event loop wait for; None without a limit."""
        if self._allowance.max_concurrent is None:
            return None
        loop = asyncio.get_running_loop()
        slots = self._slots.get(loop)
        if slots is None:
            slots = self._slots[loop] = asyncio.Semaphore(self._allowance.max_concurrent)
        return slots

    def enter(self) -> bool:
        """Let a request through, or raise. True for the one that tries a closed service again."""
        if self._until is None:
            return False
        left = self._until - self._clock()
        if left <= 0 and not self._trying:
            self._trying = True
            return True
        raise ProviderUnavailableError(
            f"{self._service} failed {self._failures} times in a row and is left alone for a while; "
            f"the last time: {self._last}",
            retry_after=max(left, 0.0),
        )

    def leave(self, error: BaseException | None, *, tried: bool) -> None:
        """Learn how a request ended. A cancelled one says nothing about the service."""
        if tried:
            self._trying = False
        if isinstance(error, ProviderUnavailableError):
            self._failures += 1
            self._last = str(error)
            limit = self._allowance.open_after
            # guard: tests/llm/test_limits.py
            if limit is not None and self._failures >= limit:
                self._until = self._clock() + self._allowance.reset_after
        elif error is None or isinstance(error, LoomError):
            self._failures, self._until = 0, None


class Passage:
    """A request on its way through a gate."""

    __slots__ = ("_gate", "_slots", "_tries")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._slots: asyncio.Semaphore | None = None
        self._tries = False

    async def __aenter__(self) -> None:
        self._tries = self._gate.enter()
        slots = self._gate.slots()
        if slots is None:
            return
        try:
            await slots.acquire()
        except BaseException as error:  # a cancelled waiter must not keep the one trial to itself
            self._gate.leave(error, tried=self._tries)
            raise
        self._slots = slots

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._slots is not None:
            self._slots.release()
        self._gate.leave(error, tried=self._tries)
