"""The boundary to code that is not ours: tools, providers, humans, handlers of the application.

Whatever such code raises is the outcome of what it was asked for and nothing more. Two things pass: the
interrupt of the terminal, and a cancellation that someone really asked of the task we run in.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from ..types import describe_error as described

__all__ = ["cancellations_borne", "described", "passes"]

_borne: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()


async def cancellations_borne() -> int:
    """How many cancellations the current task has survived already, as one that cleans up after itself has.

    Remembered for the task. One that was asked for and has not arrived yet arrives here.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return 0
    await asyncio.sleep(0)
    _borne[task] = task.cancelling()
    return _borne[task]


def passes(error: BaseException) -> bool:
    """Whether ``error`` must go on, rather than become an outcome."""
    if isinstance(error, KeyboardInterrupt):
        return True
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > _borne.get(task, 0)
    return False
