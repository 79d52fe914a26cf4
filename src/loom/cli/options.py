"""The options that several commands share, described once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .app import debug_option

Command = Callable[..., Any]

DEFAULT_STORE = Path(".loom") / "sessions.db"


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _no_blank(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty", context, parameter)
    return value


store_option = click.option(
    "--store",
    "store_path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="LOOM_STORE",
    default=DEFAULT_STORE,
    show_default=True,
    show_envvar=True,
    help="The file that keeps sessions: SQLite, or JSON Lines for a name that ends in .jsonl.",
)

agent_options = _together(
    click.option(
        "-m",
        "--model",
        callback=_no_blank,
        metavar="NAME",
        help="provider:name such as openai:gpt-5.6-terra, or auto, or offline.  [default: $LOOM_MODEL, else auto]",
    ),
    click.option(
        "--root",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The directory the agent may look at; it never writes.  [default: the current one]",
    ),
    click.option("--web/--no-web", default=None, help="Let the agent fetch public web pages."),
    click.option("--instructions", metavar="TEXT", help="What the agent is told to be."),
    click.option(
        "--max-iterations",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop after N model calls, with exit code 4.  [default: 100]",
    ),
    click.option(
        "--ask",
        multiple=True,
        metavar="TOOL",
        help="Ask before every call of TOOL, a name or a pattern such as 'Web*'. May be repeated.",
    ),
    click.option(
        "--deny-tool", multiple=True, metavar="TOOL", help="Refuse every call of TOOL. May be repeated."
    ),
)

answer_options = _together(
    click.option("--yes", "-y", "approve_all", is_flag=True, help="Approve every request."),
    click.option("--no", "-n", "deny_all", is_flag=True, help="Deny every request."),
)

store_options = _together(store_option, debug_option)

session_option = click.option(
    "--session", "-s", "session_id", callback=_no_blank, metavar="ID", help="Keep the run in this session."
)
