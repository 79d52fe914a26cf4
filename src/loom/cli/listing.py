"""``loom sessions list``: the sessions there are, as many as one wants to see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from ..safety.permissions import normalise
from ..types import RunState
from .options import store_options
from .stores import SessionSummary, open_existing, summaries, with_store
from .text import counted, one_line, printable_json
from .transcripts import when

SHOWN = 20
"""How many sessions a person is shown."""


@click.command("list")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"At most N.  [default: {SHOWN}, with --json all]",
)
@click.option("--all", "show_all", is_flag=True, help="All of them.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in RunState]),
    help="Only those in this state: waiting when any run waits, else that of the last run. May be repeated.",
)
@click.option("--search", default="", metavar="TEXT", help="Only those with TEXT in their id or last prompt.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON array.")
@store_options
def list_sessions(
    limit: int | None, show_all: bool, states: tuple[str, ...], search: str, as_json: bool, store_path: Path
) -> None:
    """List the sessions, the one used last first: id, runs, state, when, and the last prompt.

    A session in which any run waits is waiting; any other is in the state of its last run.

    \b
    Examples:
      loom sessions list
      loom sessions list --state waiting
      loom sessions list --search release --all
      loom sessions list --json | jq -r '.[].id'
    """
    if limit is not None and show_all:
        raise click.UsageError("--limit and --all contradict each other")
    there: list[SessionSummary] = []
    if store_path.exists():
        store = open_existing(store_path)

        async def work() -> list[SessionSummary]:
            return summaries(store)

        there = with_store(store, work())
    found = [summary for summary in there if _fits(summary, states, search)]
    most = len(found) if show_all or (as_json and limit is None) else limit or SHOWN
    if as_json:
        click.echo(printable_json(msgspec.json.encode(found[:most])))
    else:
        width = max((len(one_line(summary.id, 40)) for summary in found[:most]), default=0)
        for summary in found[:most]:
            click.echo(_row(summary, width))
    if not as_json and not there:
        click.echo(f"No sessions in {store_path}. One is made by: loom run --session NAME TASK", err=True)
    elif not as_json and not found:
        click.echo(f"None of {counted(len(there), 'session')} fits.", err=True)
    elif len(found) > most:
        click.echo(f"{counted(len(found) - most, 'more session')}: --all", err=True)


def _fits(summary: SessionSummary, states: Sequence[str], search: str) -> bool:
    if states and summary.state not in states:
        return False
    return normalise(search) in normalise(f"{summary.id}\n{summary.last_prompt}")


def _row(summary: SessionSummary, width: int) -> str:
    shown = one_line(summary.id, 40).ljust(width)
    state = (summary.state or "-").replace("_", " ")
    updated = when(summary.updated.timestamp())
    return f"{shown}  {counted(summary.runs, 'run'):>7}  {state:<13}  {updated}  {one_line(summary.last_prompt, 60)}"
