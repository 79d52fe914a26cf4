"""``loom run``: one task, followed to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from ..config.model import Model
from ..media import attachment
from . import exits, piped
from .options import agent_options, answer_options, session_option, store_options
from .settings import AgentOptions, AgentSettings
from .stores import open_store, unfinished
from .text import printable
from .turns import make_display, open_desk, quoted, store_words


@click.command("run")
@click.argument("task", metavar="TASK", required=False)
@agent_options
@session_option
@answer_options
@click.option(
    "--attach",
    "-a",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show the model this image, PDF, text, sound or film, up to 20 MiB. May be repeated.",
)
@click.option(
    "--stdin/--no-stdin",
    "take_stdin",
    default=None,
    help="Wait for standard input as long as it takes, or leave it alone.  [default: what is piped in or "
    "redirected is part of the task]",
)
@click.option(
    "--explain", is_flag=True, help="Ask no model: show which tools there are, and what each rule touches."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON object a line: each event, then the result."
)
@click.option("--quiet", "-q", is_flag=True, help="Only the answer, and errors.")
@store_options
@click.pass_context
def command(
    context: click.Context,
    /,
    task: str | None,
    session_id: str | None,
    approve_all: bool,
    deny_all: bool,
    files: tuple[Path, ...],
    take_stdin: bool | None,
    explain: bool,
    as_json: bool,
    quiet: bool,
    store_path: Path,
    **options: Any,
) -> None:
    """Give an agent one TASK and follow it to its end.

    What is piped in, or redirected from a file, is text that belongs to the task; a TASK of - is read from standard
    input whole. The agent can look at files under --root and write none. On a terminal you see its text and its
    calls as they happen; into a pipe goes the final answer alone, and the progress to standard error.

    \b
    Examples:
      loom run "Summarize this repository"
      loom run "Which functions have no test?" --model openai:gpt-5.6-terra --root src
      loom run "What changed in the last release?" --web --ask WebFetch
      loom run "Draft the release notes" --session release-1.2
      loom run "What does this chart say?" --attach chart.png
      git diff | loom run "Review this diff" > review.txt
      loom run "List the entry points" --json | jq -c 'select(.type == "tool.finished")'

    \b
    Exit codes: 0 completed, 1 failed, 2 wrong usage or setup, 3 waiting for an answer,
    4 a limit was reached, 130 cancelled (Ctrl-C), 141 whoever read the output has left.
    """
    if explain:
        _explain(AgentSettings.of_options(AgentOptions(**options)))
        return
    if task is None:
        raise click.UsageError("Missing argument 'TASK'.", context)
    asked = _asked(context, task, take_stdin)
    parts = [attachment(file) for file in files]
    settings = AgentSettings.of_options(AgentOptions(**options))

    if session_id and store_path.exists():
        _tell_of_unfinished(session_id, store_path)

    async def work() -> int:
        display = make_display(json=as_json, quiet=quiet)
        kept = store_path if session_id else None
        store = open_store(store_path) if session_id else None
        async with open_desk(
            settings,
            store=store,
            store_path=kept,
            display=display,
            approve_all=approve_all,
            deny_all=deny_all,
        ) as desk:
            result = await desk.start(desk.agent.session(session_id), [*asked, *parts])
        return exits.code_of_state(result.state)

    context.exit(asyncio.run(work()))


def _asked(context: click.Context, task: str, take_stdin: bool | None) -> list[str]:
    """The texts of the task: what was said, then what was piped in."""
    whole = task == "-"
    if whole and take_stdin is False:
        raise click.UsageError("a TASK of - is standard input, which --no-stdin leaves alone", context)
    given = ""
    if whole or take_stdin or (take_stdin is None and piped.has_input()):
        silence = None if whole or take_stdin else piped.SILENCE
        given = piped.read_text(silence=silence, note=_note)
    texts = [given] if whole else [task, f"Standard input:\n\n{given}" if given.strip() else ""]
    if not texts[0].strip():
        raise click.UsageError("the task is empty", context)
    return [text for text in texts if text]


def _explain(settings: AgentSettings) -> None:
    """One line a tool, then one a rule. Raises ConfigError for a rule that guards nothing."""
    agent = settings.declare(Model.offline(), human=None, store=None)
    for spec in agent.engine.tools.specs():
        kind = "reads" if spec.read_only else "asks first" if spec.asks else "acts"
        click.echo(f"tool  {printable(spec.name)}  {kind}")
    for option, row in settings.rules_of(agent):
        click.echo(printable(f"rule  {option}  touches {', '.join(row.touches) or 'nothing'}"))


def _note(text: str) -> None:
    click.echo(printable(text), err=True)


def _tell_of_unfinished(session_id: str, store_path: Path) -> None:
    if unfinished(open_store(store_path).list_runs(session_id)):
        resume = f"loom sessions resume {quoted(session_id)}{store_words(store_path)}"
        click.echo(f"This session has an unfinished run, which stays as it is: {resume}", err=True)
