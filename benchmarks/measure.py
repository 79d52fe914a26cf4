"""Doing the measurements: every job for every row, in turn, several times.

Rows take turns within a repetition, so that a noisy minute hits all of them and ratios stay what they are.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .figures import Job, ratios
from .processes import BARE, Failed, Server, run_import, run_worker
from .registry import Row


@dataclass(slots=True)
class Measured:
    """What came of one row: every value of each figure, reasons of failures, versions."""

    row: Row
    python: str
    values: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def medians(self) -> dict[str, float]:
        """One value for each figure, quotients included."""
        medians = {name: statistics.median(values) for name, values in self.values.items()}
        return medians | ratios(medians)

    def take(self, job: Job, figures: dict[str, float]) -> None:
        """Keep the figures of one repetition."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)
        missing = [figure.name for figure in job.figures if figure.name not in figures]
        if figures and missing:
            reached = figures.get("turns")
            why = f"only {reached:g} turns in {job.given['seconds']} s" if reached else "not measured"
            self.errors.update(dict.fromkeys(missing, why))

    def fail(self, job: Job, why: str) -> None:
        """Remember why the job has no figures; it is not tried again."""
        for figure in job.figures:
            self.values.pop(figure.name, None)
            self.errors[figure.name] = why

    def failed(self, job: Job) -> bool:
        """Whether the job is known not to work."""
        return any(figure.name in self.errors for figure in job.figures)


@dataclass(slots=True)
class Effort:
    """How much CPU the model server used, and for how many seconds of the clients'."""

    server: float = 0.0


def measure(
    jobs: Sequence[Job], rows: Sequence[Measured], server: Server, *, repeats: int, profile: int = 0
) -> Effort:
    """Fill ``rows``. What fails is remembered with its reason and does not stop the rest."""
    before = server.cpu()
    for job in jobs:
        for repetition in range(1 if job.scenario == "import" else repeats):
            for measured in rows:
                if measured.failed(job) or not measured.row.wants(job.group):
                    continue
                _say(f"{job.group} {_shown(job)} {repetition + 1}/{repeats} {measured.row.name}")
                try:
                    measured.take(job, _one(job, measured, server, profile))
                except Failed as failure:
                    measured.fail(job, str(failure))
    _say("")
    return Effort(server.cpu() - before)


def _one(job: Job, measured: Measured, server: Server, profile: int) -> dict[str, float]:
    row, python = measured.row, measured.python
    if job.scenario == "import":
        return _imports(row, python, job.given["times"])
    order: dict[str, Any] = {
        "module": row.module, "client": row.client, "scenario": job.scenario, "server": server.url, "given": job.given,
        "profile": profile,
    }  # fmt: skip
    return run_worker(python, order, job.seconds)


def _imports(row: Row, python: str, times: int) -> dict[str, float]:
    """Medians of ``times`` cold processes, a bare interpreter's share taken off."""
    samples: dict[str, list[tuple[float, float]]] = {BARE: [], row.entry: [], row.ready: []}
    for code in samples:
        run_import(python, code)  # compiles what was never imported before
    for _ in range(times):
        for code, seen in samples.items():
            seen.append(run_import(python, code))

    def over_bare(code: str, part: Callable[[tuple[float, float]], float]) -> float:
        of, bare = ([part(sample) for sample in samples[key]] for key in (code, BARE))
        return statistics.median(of) - statistics.median(bare)

    return {
        "import": over_bare(row.entry, lambda sample: sample[0]) * 1000,
        "import_mb": over_bare(row.entry, lambda sample: sample[1]) / 1e6,
        "import_ready": over_bare(row.ready, lambda sample: sample[0]) * 1000,
        "import_ready_mb": over_bare(row.ready, lambda sample: sample[1]) / 1e6,
    }


def _shown(job: Job) -> str:
    return " ".join(f"{name}={value}" for name, value in job.given.items())


def _say(text: str) -> None:
    """Progress, on one line of a terminal and nowhere else."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
