"""The table: Markdown for people, plain data for a file."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .figures import Figure
from .measure import Measured

JUDGED = ("loom", "loom_loop")


def markdown(lines: Sequence[Figure], rows: Sequence[Measured]) -> str:
    """The whole report."""
    names = [measured.row.name for measured in rows]
    head = ["figure", "unit", *names, "goal", "reached"]
    table = [head, ["---"] * len(head)]
    medians = {measured.row.name: measured.medians() for measured in rows}
    for line in lines:
        by_row = {name: medians[name][line.name] for name in names if line.name in medians[name]}
        cells = [_cell(line, measured, by_row) for measured in rows]
        table.append([line.label, line.unit, *cells, str(line.goal or ""), _verdict(line, by_row)])
    parts = ["\n".join(f"| {' | '.join(cells)} |" for cells in table)]
    if errors := _errors(rows):
        parts.append("\n".join(errors))
    parts.append(_circumstances(rows))
    return "\n\n".join(parts) + "\n"


def as_data(lines: Sequence[Figure], rows: Sequence[Measured], *, server_cpu: float) -> dict[str, Any]:
    """The same, for a file: medians, every single value, and how each goal fared."""
    medians = {measured.row.name: measured.medians() for measured in rows}
    goals = []
    for line in lines:
        by_row = {name: figures[line.name] for name, figures in medians.items() if line.name in figures}
        if line.goal is not None:
            met = {name: line.goal.met(by_row[name], by_row) for name in JUDGED if name in by_row}
            goals.append({"figure": line.name, "goal": str(line.goal), "met": met})
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()),
        "model_server_cpu_seconds": server_cpu,
        "figures": {line.name: {"label": line.label, "unit": line.unit} for line in lines},
        "rows": {
            measured.row.name: {
                "versions": measured.versions,
                "medians": medians[measured.row.name],
                "values": measured.values,
                "errors": measured.errors,
            }
            for measured in rows
        },
        "goals": goals,
    }


def _cell(line: Figure, measured: Measured, by_row: dict[str, float]) -> str:
    name = measured.row.name
    if name not in by_row:
        return "err" if line.name in measured.errors else "-"
    value, floor = by_row[name], by_row.get(line.floor or "")
    shown = number(value)
    return f"{shown} ({number(value / floor)}x)" if floor and floor > 0 else shown


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.5f}"


def _verdict(line: Figure, by_row: dict[str, float]) -> str:
    if line.goal is None:
        return ""
    said = {name: line.goal.met(by_row[name], by_row) for name in JUDGED if name in by_row}
    words = {True: "met", False: "missed", None: "no floor measured"}
    return ", ".join(f"{name}: {words[met]}" for name, met in said.items())


def _errors(rows: Sequence[Measured]) -> list[str]:
    said: dict[str, list[str]] = {}
    for measured in rows:
        for name, why in measured.errors.items():
            said.setdefault(f"{measured.row.name}: {why}", []).append(name)
    return [f"- err: {reason} ({', '.join(names)})" for reason, names in said.items()]


def _circumstances(rows: Sequence[Measured]) -> str:
    versions = {name: version for measured in rows for name, version in measured.versions.items()}
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    said = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.python_implementation()} "
        f"{platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"load {load} at the end.",
        "In brackets: times floor_raw for imports, else times floor_aiohttp.",
    ]
    if versions:
        said.append(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.")
    if sys.platform != "linux":
        said.append("Resident memory is the peak on this system.")
    return "\n".join(said)
