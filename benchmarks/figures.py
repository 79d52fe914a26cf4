"""What is measured, in what unit, and what we want it to be. Goals are compared, never asserted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

AIOHTTP, RAW = "floor_aiohttp", "floor_raw"


@dataclass(frozen=True, slots=True)
class Goal:
    """At most ``limit``: of the figure itself, or times the same figure of the row ``floor``."""

    limit: float
    floor: str | None = None

    def __str__(self) -> str:
        return f"<= {self.limit:g}" + (f"x {self.floor}" if self.floor else "")

    def met(self, value: float, by_row: Mapping[str, float]) -> bool | None:
        """Whether ``value`` reaches it; None when the floor was not measured."""
        if self.floor is None:
            return value <= self.limit
        floor = by_row.get(self.floor)
        return None if not floor else value <= self.limit * floor


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``floor`` is the row that ratios are given to."""

    name: str
    label: str
    unit: str
    floor: str | None = AIOHTTP
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One scenario with what it is given, and the figures it is expected to bring."""

    group: str
    scenario: str
    given: dict[str, Any] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    seconds: float = 120.0


GROWTH = Figure("growth", "a step at 200 / at 50", "ratio", None, Goal(1.2))
TURN_GROWTH = Figure("turn_growth", "a turn at 1000 / at 10", "ratio", None, Goal(1.5))
BYTES_GROWTH = Figure("turn_bytes_growth", "bytes a turn, to 1000 / to 100", "ratio", None, Goal(1.1))
STREAMS_GROWTH = Figure("streams_growth", "a stream among 1,000 / among 100", "ratio", None, Goal(1.2))
PER_REQUEST = Figure("per_request", "an agent a run / one for all", "ratio", None, Goal(1.2))
_RATIOS = (
    (PER_REQUEST, "run_own", "run_shared"),
    (STREAMS_GROWTH, "streams@1000", "streams@100"),
    (GROWTH, "step@200", "step@50"),
    (TURN_GROWTH, "turn@1000", "turn@10"),
    (BYTES_GROWTH, "turn_bytes@1000", "turn_bytes@100"),
)


def ratios(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures that are quotients of others, as far as those were measured."""
    return {
        figure.name: figures[above] / figures[below]
        for figure, above, below in _RATIOS
        if above in figures and figures.get(below)
    }


def table_of(jobs: Sequence[Job]) -> list[Figure]:
    """The lines of the table for these jobs, quotients after what they are made of."""
    lines = [figure for job in jobs for figure in job.figures]
    names = {figure.name for figure in lines}
    for quotient, above, below in _RATIOS:
        if {above, below} <= names:
            last = max(index for index, line in enumerate(lines) if line.name in (above, below))
            lines.insert(last + 1, quotient)
    return lines


def _step(count: int) -> Figure:
    goal = Goal(2, AIOHTTP) if count == 50 else None
    return Figure(f"step@{count}", f"CPU of a tool step, run of {count}", "ms", AIOHTTP, goal)


def _async_step(count: int) -> Figure:
    return Figure(f"step_async@{count}", f"the same with an async tool, run of {count}", "ms")


_IMPORT = (
    Figure("import", "import of the entry point, CPU", "ms", RAW, Goal(1.5, RAW)),
    Figure("import_mb", "the same, memory", "MB", RAW),
    Figure("import_ready", "import of all a first run needs, CPU", "ms", RAW),
    Figure("import_ready_mb", "the same, memory", "MB", RAW),
)
_CONSTRUCT = (
    Figure("construct", "construction of an agent with one tool", "us", AIOHTTP, Goal(15)),
    Figure("construct_kb", "the same, memory", "KB", AIOHTTP, Goal(4)),
    Figure("first_use", "construction up to its first run", "us"),
    Figure("first_use_kb", "the same, memory", "KB"),
)
_PER_REQUEST = (
    Figure("run_shared", "a run, one agent for 1,000", "ms"),
    Figure("run_own", "the same, an agent for each", "ms"),
)
_PARALLEL = (
    Figure("parallel", "16 parallel calls of 50 ms, async, wall", "ms", AIOHTTP, Goal(60)),
    Figure("parallel_blocking", "16 parallel calls of 50 ms, blocking, wall", "ms", AIOHTTP, Goal(60)),
)
_TOKEN = (
    Figure("token", "CPU of a streamed token, burst of 2,000", "us", AIOHTTP, Goal(2, AIOHTTP)),
    Figure("token_paced", "CPU of a streamed token, one a millisecond", "us"),
    Figure("first_token", "time to the first token, paced, wall", "ms"),
)
_STREAMS = (
    Figure("streams@100", "CPU of a stream of 50 tokens, 100 at once", "ms"),
    Figure("streams@1000", "the same, 1,000 at once", "ms"),
)
_PARKED = (
    Figure("parked", "a run that waits, nobody asked, traced", "KiB", None, Goal(8)),
    Figure("parked_rss", "the same, resident", "KiB", None),
)
_PARKED_LIVE = (
    Figure("parked_live", "a run that waits for somebody asked, traced", "KiB", None, Goal(8)),
    Figure("parked_live_rss", "the same, resident", "KiB", None),
)


def _concurrent(runs: int) -> Job:
    what = f"{runs:,} runs at once x 5 steps, 200 ms model"
    return Job(
        "concurrent",
        "concurrent",
        {"runs": runs, "steps": 5, "delay": 200},
        (
            Figure("concurrent_wall", f"{what}, wall", "s", AIOHTTP, Goal(1.3, AIOHTTP)),
            Figure("concurrent_cpu", "the same, CPU of a step", "ms", AIOHTTP, Goal(2, AIOHTTP)),
            Figure("concurrent_mb", "the same, peak memory", "MB"),
        ),
    )


def _durable(turns: int) -> Job:
    marks = [mark for mark in (10, 100, 1000) if mark <= turns]
    figures = [Figure(f"turn@{mark}", f"CPU of a durable turn, around turn {mark}", "ms") for mark in marks]
    figures += [
        Figure(f"turn_bytes@{mark}", f"bytes a turn on disk, turns {before + 1} to {mark}", "B")
        for before, mark in pairwise(marks)
    ]
    return Job("durable", "durable", {"turns": turns, "seconds": 90}, tuple(figures), 150)


def plan(*, quick: bool, steps: Sequence[int] = (10, 50, 200)) -> list[Job]:
    """Everything there is to measure, in the order of the table."""
    lengths = {"steps": list(steps), "batches": 3 if quick else 7}
    return [
        Job("step", "step", {**lengths, "is_async": False}, tuple(_step(count) for count in steps)),
        Job("step", "step", {**lengths, "is_async": True}, tuple(_async_step(count) for count in steps)),
        Job("import", "import", {"times": 3 if quick else 10}, _IMPORT),
        Job("construct", "construct", {"count": 200 if quick else 1000}, _CONSTRUCT),
        Job("per_request", "per_request", {"count": 100 if quick else 1000, "batches": 3}, _PER_REQUEST),
        Job("parallel", "parallel", {"calls": 16, "repeats": 3 if quick else 5}, _PARALLEL),
        _concurrent(200 if quick else 1000),
        Job("token", "token", {"burst": 2000, "paced": 200, "repeats": 2 if quick else 5}, _TOKEN),
        Job("streams", "streams", {"counts": [100, 1000], "tokens": 50, "delay": 1500}, _STREAMS),
        _durable(100 if quick else 1000),
        *(
            Job("parked", "parked", {"count": 200 if quick else 1000, "attached": attached}, figures)
            for attached, figures in ((False, _PARKED), (True, _PARKED_LIVE))
        ),
    ]


GROUPS = tuple(dict.fromkeys(job.group for job in plan(quick=True)))
