"""Reading the process's own meters. Standard library only."""

from __future__ import annotations

import cProfile
import gc
import os
import resource
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def cpu() -> float:
    """Seconds of CPU this process has used, user and system, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss() -> int:
    """The most memory this process ever had, in bytes."""
    try:
        # Not getrusage: on Linux its peak begins with that of the process which started this one.
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except FileNotFoundError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def rss() -> int:
    """The memory this process has now, in bytes; where the system does not tell, the most it ever had."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return peak_rss()


profile: cProfile.Profile | None = None
"""When set, what is measured also runs under this profile, and nothing else does."""


class Spent:
    """What the block cost, in seconds, known when it has ended."""

    cpu = 0.0
    wall = 0.0


@contextmanager
def spending() -> Iterator[Spent]:
    """Measure the block."""
    spent = Spent()
    if profile is not None:
        profile.enable()
    wall, used = time.perf_counter(), cpu()
    yield spent
    spent.cpu, spent.wall = cpu() - used, time.perf_counter() - wall
    if profile is not None:
        profile.disable()


class Held:
    """What the block left behind, in bytes, known when it has ended."""

    traced = 0
    rss = 0


@contextmanager
def holding(*, traced: bool) -> Iterator[Held]:
    """Measure the memory that is still in use after the block: either traced (exact, slow) or resident."""
    held = Held()
    gc.collect()
    if traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if traced else 0
    resident = rss()
    yield held
    gc.collect()
    held.rss = rss() - resident
    if traced:
        held.traced = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
