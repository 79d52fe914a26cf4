"""Following a run to where it ends or waits, with Ctrl-C as its brake."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager

from ..errors import LoomError, SessionBusy
from ..runtime.result import RunResult
from ..runtime.run import Run
from .display import Display


async def follow(run: Run[str], display: Display, *, after: int = 0) -> RunResult[str]:
    """Show the run's events with a seq over ``after`` as they happen, and return what it came to.

    Ctrl-C cancels the run, which is settled and kept as cancelled; a second one does not wait for that and
    raises KeyboardInterrupt. Raises LoomError for what kept the run from going on, OSError when what happens can
    no longer be shown: the run is then cancelled too, because nobody is left to work for.
    """
    try:
        with _interrupts(run) as stopping:
            try:
                async for event in run.events(after):
                    display.show(event)
                return await run.wait()
            except SessionBusy:
                if stopping:
                    raise KeyboardInterrupt from None  # it had not begun: there is no run to be cancelled
                raise
            except OSError:
                await _stop(run, "whoever read the output has left")
                raise
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        display.pause()


@contextmanager
def _interrupts(run: Run[str]) -> Generator[list[asyncio.Task[None]]]:
    """Make Ctrl-C cancel the run for the length of the block; yields what stops it, empty until then."""
    loop, follower = asyncio.get_running_loop(), asyncio.current_task()
    stopping: list[asyncio.Task[None]] = []

    def interrupt() -> None:
        if not stopping:
            stopping.append(loop.create_task(_stop(run, "interrupted at the terminal")))
        elif follower is not None:
            follower.cancel()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except (NotImplementedError, RuntimeError, ValueError):
        yield stopping  # not the main thread: signals are somebody else's
        return
    try:
        yield stopping
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _stop(run: Run[str], reason: str) -> None:
    try:
        await run.cancel(reason)
    except LoomError:
        return  # whoever waits for the run is told
