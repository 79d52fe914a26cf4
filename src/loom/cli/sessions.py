"""``loom sessions``: what was kept, read and gone on with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
import msgspec

from ..errors import ConfigError, RecordNotFound
from ..events import encode_event
from ..store.base import SessionRecord, SessionStore
from ..types import RunState
from . import exits
from .answers import Answers, chosen_runs, settings_of
from .asking import is_interactive, user_name
from .listing import list_sessions
from .options import agent_options, answer_options, store_options
from .settings import AgentOptions, AgentSettings
from .stores import (
    open_existing,
    prompt_of,
    require_session,
    unfinished,
    with_store,
)
from .text import counted, one_line, printable_json
from .transcripts import as_data, as_markdown, event_line, readable
from .turns import make_display, open_desk


@click.group("sessions", short_help="List, read, resume, fork, export and delete sessions.")
def command() -> None:
    """List, read, resume, fork, export and delete sessions.

    \b
    Examples:
      loom sessions list
      loom sessions show review
      loom sessions resume review --approve all
      loom sessions export review --format markdown -o review.md
    """


# --- reading ------------------------------------------------------------------------------------------


command.add_command(list_sessions)


@command.command("show")
@click.argument("session_id", metavar="ID")
@click.option("--run", "run_id", metavar="RUN", help="Only this run.")
@click.option("--events", "as_events", is_flag=True, help="Every event, one a line.")
@click.option("--json", "as_json", is_flag=True, help="The events as JSON Lines.")
@click.option("--full", is_flag=True, help="Tool results as long as they are.")
@store_options
def show(
    session_id: str, run_id: str | None, as_events: bool, as_json: bool, full: bool, store_path: Path
) -> None:
    """Show what was said and done in a session.

    \b
    Examples:
      loom sessions show review
      loom sessions show review --events
      loom sessions show review --json | jq -r .type
    """
    store = open_existing(store_path)

    async def work() -> None:
        await require_session(store, session_id)
        events = await store.read(session_id, run_id=run_id)
        if run_id is not None and not events:
            raise RecordNotFound(f"session {session_id!r} has no run {run_id!r}")
        if as_json:
            for event in events:
                click.echo(printable_json(encode_event(event)))
        else:
            for line in (event_line(e) for e in events) if as_events else readable(events, whole=full):
                click.echo(line)

    with_store(store, work())


@command.command("export")
@click.argument("session_id", metavar="ID")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="Everything as data, or a document to read.",
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="A file; else standard output."
)
@store_options
def export(session_id: str, kind: str, output: Path | None, store_path: Path) -> None:
    """Write a session out, as JSON (its runs, messages and events) or as Markdown.

    \b
    Examples:
      loom sessions export review > review.json
      loom sessions export review --format markdown -o review.md
    """
    store = open_existing(store_path)

    async def work() -> str:
        await require_session(store, session_id)
        events = await store.read(session_id)
        if kind == "markdown":
            return as_markdown(session_id, events)
        return printable_json(msgspec.json.encode(as_data(store, session_id, events))) + "\n"

    text = with_store(store, work())
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


# --- going on -----------------------------------------------------------------------------------------


@command.command("resume")
@click.argument("session_id", metavar="ID")
@click.option(
    "--run",
    "run_id",
    metavar="RUN",
    help="The run to go on with.  [default: those that are answered, else the newest unfinished]",
)
@click.option("--approve", multiple=True, metavar="ID|all", help="Approve a request. May be repeated.")
@click.option("--deny", multiple=True, metavar="ID|all", help="Deny a request. May be repeated.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for --deny; the model is told.")
@click.option(
    "--answer",
    multiple=True,
    metavar="ID=VALUE",
    help="Answer a question; a VALUE of - is read from standard input. May be repeated.",
)
@answer_options
@agent_options
@click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON object a line: each event, then the result."
)
@click.option("--quiet", "-q", is_flag=True, help="Only the answer, and errors.")
@store_options
@click.pass_context
def resume(
    context: click.Context,
    /,
    session_id: str,
    run_id: str | None,
    approve: tuple[str, ...],
    deny: tuple[str, ...],
    reason: str,
    answer: tuple[str, ...],
    approve_all: bool,
    deny_all: bool,
    as_json: bool,
    quiet: bool,
    store_path: Path,
    **options: Any,
) -> None:
    """Go on with a run that waits for an answer, or whose process died.

    The agent is set up as it was when the run began; options given here come first. Requests that are not
    answered by an option are asked on the terminal. --approve and --deny answer requests that are open now, in
    every run of the session that waits, the oldest first; --yes and --no also those still to come.

    \b
    Examples:
      loom sessions resume review
      loom sessions resume review --approve all
      loom sessions resume review --deny req_0c1d2e3f405162738495 --reason "not that file"
      loom sessions resume review --answer req_0c1d2e3f405162738495=staging
    """
    given = AgentOptions(**options)
    said = Answers.of_options(approve, deny, reason, answer)
    store = open_existing(store_path)

    async def work() -> int:
        await require_session(store, session_id)
        opened = await store.open_requests(session_id)
        chosen = chosen_runs(store, session_id, run_id, opened, said, to_all=approve_all or deny_all)
        requests = [request for request in opened if run_id in (None, request.run_id)]
        answers = said.to(requests)
        settings = {run: settings_of(store, session_id, run, given) for run in chosen}
        codes: list[int] = []
        for run in chosen:
            if len(chosen) > 1 and not quiet:
                asked = store.load_run(run)
                click.echo(f"{run}: {one_line(prompt_of(asked), 200) if asked else ''}", err=True)
            async with open_desk(
                settings[run],
                store=open_existing(store_path),  # its own: the desk closes it
                store_path=store_path,
                display=make_display(json=as_json, quiet=quiet),
                approve_all=approve_all,
                deny_all=deny_all,
            ) as desk:
                own = {request.id for request in requests if request.run_id == run}
                own_answers = [answer for answer in answers if answer.request_id in own]
                result = await desk.resume(desk.agent.session(session_id), run, own_answers)
            codes.append(exits.code_of_state(result.state))
        _tell_of_others(store, session_id, chosen, quiet=quiet)
        return next((code for code in codes if code), exits.COMPLETED)

    context.exit(with_store(store, work()))


def _tell_of_others(store: SessionStore, session_id: str, chosen: Collection[str], *, quiet: bool) -> None:
    """Name the unfinished runs of the session that nobody went on with now."""
    for run in () if quiet else unfinished(store.list_runs(session_id)):
        if run.id not in chosen:
            state = "still waits" if run.state == RunState.WAITING else "is unfinished"
            click.echo(f"{run.id} {state} ({one_line(prompt_of(run), 60)}): --run {run.id}", err=True)


# --- keeping house ------------------------------------------------------------------------------------


@command.command("fork")
@click.argument("session_id", metavar="ID")
@click.option(
    "--at", type=click.IntRange(min=1), metavar="SEQ", help="What was said by this event.  [default: all]"
)
@click.option("--as", "new_id", metavar="NEW", help="The id of the new session.  [default: a fresh one]")
@store_options
def fork(session_id: str, at: int | None, new_id: str | None, store_path: Path) -> None:
    """Begin a new session with what another had said. Prints the new id; the other stays as it is.

    Runs that had finished by SEQ are taken over; `loom sessions show ID --events` shows the numbers.

    \b
    Examples:
      loom sessions fork review
      loom sessions fork review --at 12 --as review-again
    """
    store = open_existing(store_path)
    settings = AgentSettings(model="offline", root=str(Path.cwd()))  # nothing is asked of a model

    async def work() -> str:
        await require_session(store, session_id)
        head = await store.head(session_id)
        if at is not None and at > head:
            raise ConfigError(f"--at {at}: session {session_id!r} has events up to {head}")
        if new_id is not None and (store.load_session(new_id) or await store.head(new_id)):
            raise ConfigError(f"session {new_id!r} exists already; choose another id")
        agent = settings.declare(settings.chosen()[1], human=None, store=store)
        other = await agent.session(session_id).fork(new_id, at=at)
        store.save_session(SessionRecord(other.id, {"forked_from": session_id}))
        return other.id

    click.echo(with_store(store, work()))


@command.command("delete")
@click.argument("session_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", "-y", "sure", is_flag=True, help="Do not ask.")
@store_options
def delete(session_ids: tuple[str, ...], sure: bool, store_path: Path) -> None:
    """Delete sessions with everything in them. Asks first.

    \b
    Examples:
      loom sessions delete review
      loom sessions delete review draft --yes
    """
    store = open_existing(store_path)

    async def look() -> list[str]:
        described: list[str] = []
        for session_id in session_ids:
            await require_session(store, session_id)
            runs = store.list_runs(session_id)
            last = f", last {one_line(prompt_of(runs[-1]), 60)}" if runs else ""
            described.append(f"{one_line(session_id, 60)}: {counted(len(runs), 'run')}{last}")
        return described

    async def work() -> None:
        for session_id in session_ids:
            # Held while it goes, so that no run of another process loses its ground.
            lease = await store.acquire(session_id, owner=f"loom sessions delete, by {user_name()}", ttl=30.0)
            store.delete_session(session_id)
            await store.release(lease)

    described = with_store(store, look())
    if not sure:
        if not is_interactive():
            raise ConfigError("nobody is here to be asked; --yes deletes without asking")
        for line in described:
            click.echo(line, err=True)
        click.confirm(f"Delete {counted(len(session_ids), 'session')} for good?", abort=True, err=True)
    with_store(store, work())
    click.echo(f"deleted {counted(len(session_ids), 'session')}", err=True)
