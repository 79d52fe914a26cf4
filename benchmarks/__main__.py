"""``python -m benchmarks``: measure, print the table, write it to a file when asked."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .figures import GROUPS, Job, plan, table_of
from .measure import Measured, measure
from .peers.environment import python_of, versions_of
from .processes import Failed, model_server
from .registry import OURS, PEERS, ROWS, WIRES
from .report import as_data, markdown


def main() -> int:
    """Measure what the command line asks for. 1 when one of our own rows has an error."""
    options = _options()
    jobs = [
        job
        for job in plan(quick=options.quick, steps=options.steps)
        if not options.only or job.group in options.only
    ]
    names = [*options.clients, *(name for name in options.peers if name not in options.clients)]
    rows = [_prepared(name, jobs) for name in names]
    repeats = 1 if options.quick or options.profile else options.repeats
    with model_server() as server:
        effort = measure(jobs, rows, server, repeats=repeats, profile=options.profile)
    lines = table_of(jobs)
    print(markdown(lines, rows), end="", flush=True)
    if options.output:
        report = as_data(lines, rows, server_cpu=effort.server)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    own = {row.name for row in (*OURS, *WIRES)}
    return int(any(measured.errors for measured in rows if measured.row.name in own))


def _prepared(name: str, jobs: Sequence[Job]) -> Measured:
    row = ROWS[name]
    measured = Measured(row, sys.executable)
    try:
        if row.requirements:
            measured.python = python_of(row)
    except Failed as failure:
        for job in jobs:
            measured.fail(job, str(failure))
    else:
        measured.versions = versions_of(measured.python, row)
    return measured


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What the framework costs on top of the model, beside loops written by hand. Times are "
        "never asserted: read the ratios.",
    )
    own, peers = [row.name for row in (*OURS, *WIRES)], [row.name for row in PEERS]
    add = parser.add_argument
    add("--quick", action="store_true", help="one repetition and smaller numbers: about a minute")
    add("--only", nargs="+", default=[], choices=GROUPS, metavar="NAME", help=f"of {', '.join(GROUPS)}")
    add("--peers", nargs="*", default=os.environ.get("PEERS", "").split(), metavar="NAME",
        help=f"also measure, each in its own environment: {', '.join(peers)}; default: PEERS")  # fmt: skip
    add(
        "--clients",
        nargs="+",
        default=own,
        choices=own,
        metavar="NAME",
        help=f"rows; default {' '.join(own)}",
    )
    add(
        "--steps",
        nargs="+",
        type=int,
        default=[10, 50, 200],
        metavar="N",
        help="lengths of runs",
    )
    add("--repeats", type=int, default=3, metavar="N", help="processes per figure, whose median counts")
    add("--output", type=Path, metavar="FILE", help="also write every value as JSON")
    add(
        "--profile",
        type=int,
        default=0,
        metavar="N",
        help="print the N functions that took most",
    )
    options = parser.parse_args()
    for name in options.peers:
        if name not in peers:
            parser.error(f"there is no peer {name!r}; there is {', '.join(peers)}")
    if min(options.steps) < 1 or options.repeats < 1:
        parser.error("--steps and --repeats are at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
