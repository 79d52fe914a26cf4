"""``loom doctor``: what works here, said on one page."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.text import Text

from ..errors import how_to_install
from . import exits
from .display import console_for
from .health import Health, ModelHealth, StoreHealth, examine
from .options import store_options
from .text import counted, printable, printable_json

Line = tuple[str, str, str]
"""A mark, a name and what is said about it."""

_STYLES = {"ok": "green", "--": "dim", "!!": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@store_options
@click.pass_context
def command(context: click.Context, as_json: bool, store_path: Path) -> None:
    """Say what works here: versions, keys, models, extras, the session store.

    Of a key it is only said whether it is set. Nothing is changed, and nobody beyond this machine is asked.
    Exits with 1 when something is broken.

    \b
    Examples:
      loom doctor
      loom doctor --json | jq .problems
    """
    health = asyncio.run(examine(store_path))
    if as_json:
        click.echo(printable_json(msgspec.json.encode(health)))
    else:
        console = console_for(sys.stdout)
        for mark, name, said in _lines(health):
            line = Text(mark or "  ", style=_STYLES.get(mark, ""))
            line.append(f"  {name:<17} " if mark else name, style="" if mark else "bold")
            line.append(printable(said), style="")
            console.print(line, soft_wrap=True)
    context.exit(exits.FAILED if health.problems else exits.COMPLETED)


def _lines(health: Health) -> Iterator[Line]:
    yield "ok", "loom", health.loom
    yield "ok", "python", f"{health.python}, {health.platform}"
    yield "ok", "sqlite", health.sqlite
    for name, version in health.dependencies.items():
        yield "ok" if version else "!!", name, version or "not installed"
    for extra, packages in health.extras.items():
        missing = [name for name, version in packages.items() if version is None]
        there = ", ".join(f"{name} {version}" for name, version in packages.items())
        how = f"not installed: {how_to_install(extra)}"
        yield "--" if missing else "ok", f"extra {extra}", how if missing else there
    for name, is_set in health.keys.items():
        yield "ok" if is_set else "--", "key", f"{name} is {'set' if is_set else 'not set'}"
    for name in health.addresses:
        yield "ok", "address", f"{name} is set"
    there = f"answers, with {health.ollama}" if health.ollama else "does not answer"
    yield "ok" if health.ollama else "--", "ollama", there
    for model in health.models:
        yield _model_line(model)
    yield from _store_lines(health.store)
    if health.problems:
        yield "!!", "broken", counted(len(health.problems), "problem")
    else:
        yield "ok", "all well", "nothing is broken"


def _model_line(model: ModelHealth) -> Line:
    name = f"model {model.named}"
    if model.problem:
        return "!!", name, model.problem
    if model.notice:
        return "--", name, f"{model.model}: {model.notice}"
    return "ok", name, model.model if model.retires is None else f"{model.model}, until {model.retires}"


def _store_lines(store: StoreHealth) -> Iterator[Line]:
    if not store.exists:
        yield "--", "store", f"none at {store.path} yet; a session makes it"
        return
    if store.problem:
        yield "!!", "store", store.problem
        return
    held = f"{counted(store.sessions, 'session')}, {counted(store.events, 'event')}, all readable"
    if store.unfinished_runs:
        held += f", {counted(store.unfinished_runs, 'unfinished run')}"
    yield "ok", "store", f"{store.path} ({store.kind}): {held}"
    if not store.private:
        yield "--", "store", f"others on this machine may read it: chmod 600 {store.path}"
