"""``loom chat``: turn after turn in a session that lasts."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import LoomError
from ..runtime.result import RunResult
from ..runtime.session import Session
from ..store.base import RunRecord, SessionStore
from ..types import RunState, Usage
from . import exits
from .asking import is_interactive
from .display import PeopleDisplay
from .options import agent_options, answer_options, session_option, store_options
from .piped import read_line
from .settings import AgentOptions, AgentSettings
from .stores import kept_settings, open_store, prompt_of, summaries, unfinished
from .text import counted, money, one_line, printable, tokens
from .turns import Desk, open_desk, store_words

_HELP = """\
/help      these words
/usage     what this conversation has used so far
/sessions  the sessions of this store
/quit      leave; so do Ctrl-D, and Ctrl-C at the prompt
Ctrl-C while the agent works cancels the turn and keeps the session."""


@click.command("chat")
@agent_options
@session_option
@answer_options
@store_options
@click.pass_context
def command(
    context: click.Context,
    /,
    session_id: str | None,
    approve_all: bool,
    deny_all: bool,
    store_path: Path,
    **options: Any,
) -> None:
    """Talk with an agent in a session that lasts. Without --session a new one begins, and its id is shown.

    What needs your approval is asked in place. Ctrl-C cancels the turn and keeps the session; Ctrl-D, or
    Ctrl-C at the prompt, leaves. A run that was left unfinished is offered first. Lines of a pipe are turns.

    \b
    Examples:
      loom chat
      loom chat --session review --model anthropic:claude-sonnet-5-5 --root src
      loom chat --session review --ask 'Read'
    """
    settings = AgentSettings.of_options(AgentOptions(**options))
    chosen = session_id or f"chat-{secrets.token_hex(4)}"
    display = PeopleDisplay()
    with asyncio.Runner() as runner:
        talk = Conversation(runner, chosen, store_path, display)
        code = talk.hold(settings, new=session_id is None, approve_all=approve_all, deny_all=deny_all)
    context.exit(code)


class Conversation:
    """A session at a prompt. The prompt is read outside the loop, where line editing and Ctrl-C are usual."""

    def __init__(
        self, runner: asyncio.Runner, session_id: str, store_path: Path, display: PeopleDisplay
    ) -> None:
        self._runner = runner
        self._id = session_id
        self._store_path = store_path
        self._display = display
        self._usage, self._cost, self._turns = Usage(), 0.0, 0
        self._unpriced = False
        self._code = exits.COMPLETED

    def hold(self, settings: AgentSettings, *, new: bool, approve_all: bool, deny_all: bool) -> int:
        """Talk until the person leaves or the input ends; the exit code."""
        store = open_store(self._store_path)
        desk_of = open_desk(
            settings,
            store=store,
            store_path=self._store_path,
            display=self._display,
            approve_all=approve_all,
            deny_all=deny_all,
        )
        desk = self._runner.run(desk_of.__aenter__())
        try:
            session = desk.agent.session(self._id)
            self._greet(desk, new=new)
            if not new and self._store_path.exists():
                self._offer_unfinished(desk, session, store)
            self._talk(desk, session, store)
        finally:
            self._runner.run(desk_of.__aexit__(None, None, None))
        return self._code

    def _greet(self, desk: Desk, *, new: bool) -> None:
        kind = "new session" if new else "session"
        self._display.note(f"{kind} {self._id} · {desk.settings.model} · /help for help", style="dim")

    def _talk(self, desk: Desk, session: Session[str, Any], store: SessionStore) -> None:
        _edit_lines()
        while True:
            line = _ask("> ")
            if line is None or line.strip() in ("/quit", "/exit"):
                break
            if line.strip().startswith("/"):
                self._obey(line.strip(), store)
            elif line.strip():
                self._take_turn(desk.start(session, line))
        if is_interactive() and self._turns:
            back = f"loom chat --session {self._id}{store_words(self._store_path)}"
            self._display.note(f"Come back with: {back}", style="dim")

    def _obey(self, word: str, store: SessionStore) -> None:
        if word == "/help":
            click.echo(_HELP, err=True)
        elif word == "/usage":
            cost = None if self._unpriced else self._cost
            words = (counted(self._turns, "turn"), tokens(self._usage), money(cost))
            click.echo(" · ".join(words), err=True)
        elif word == "/sessions":
            for summary in summaries(store) if self._store_path.exists() else []:
                here = "*" if summary.id == self._id else " "
                listed = f"{here} {one_line(summary.id, 40)}  {counted(summary.runs, 'run')}"
                click.echo(f"{listed}  {one_line(summary.last_prompt, 60)}", err=True)
        else:
            click.echo(f"there is no {one_line(word, 40)}; /help names what there is", err=True)

    def _offer_unfinished(self, desk: Desk, session: Session[str, Any], store: SessionStore) -> None:
        for run in unfinished(store.list_runs(self._id)):
            state = "waits for an answer" if run.state == RunState.WAITING else "was not finished"
            self._display.note(f"A run of this session {state}: {one_line(prompt_of(run), 200)}")
            if not is_interactive():
                self._display.note(
                    f"Go on with: loom sessions resume {self._id}{store_words(self._store_path)}"
                )
                self._code = exits.WAITING
                continue
            said = _ask("Go on with it? [Y/n] ")
            if said is not None and said.strip().lower() in ("", "y", "yes"):
                self._go_on(desk, session, store, run)

    def _go_on(self, desk: Desk, session: Session[str, Any], store: SessionStore, run: RunRecord) -> None:
        """With the agent that began it, if that is known: an approval is for what that one would do."""
        kept = kept_settings(store, self._id, run.id)
        if kept is None or kept == desk.settings:
            self._take_turn(desk.resume(session, run.id))
            return

        async def in_its_own_way() -> RunResult[str]:
            own_store = open_store(self._store_path)
            async with open_desk(
                kept, store=own_store, store_path=self._store_path, display=self._display
            ) as own:
                return await own.resume(own.agent.session(self._id), run.id)

        self._take_turn(in_its_own_way())

    def _take_turn(self, turn: Any) -> None:
        try:
            result: RunResult[str] = self._runner.run(turn)
        except LoomError as error:
            self._display.note(f"error: {printable(str(error))}", style="red")
            self._code = exits.code_of_error(error)
            return
        self._turns += 1
        self._usage += result.usage
        if result.cost is None and result.iterations:
            self._unpriced = True
        self._cost += result.cost or 0.0
        self._code = exits.COMPLETED if is_interactive() else exits.code_of_state(result.state)


def _edit_lines() -> None:
    """Give the prompt history and editing keys, where the system has them."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        try:
            importlib.import_module("readline")
        except ImportError:
            return


def _ask(prompt: str) -> str | None:
    """A line of the person or the pipe; None when they leave."""
    try:
        if sys.stdin.isatty() and sys.stdout.isatty():
            return input(prompt)
        if sys.stdin.isatty():
            click.echo(prompt, nl=False, err=True)
        line = read_line(sys.stdin)
        return line.rstrip("\n") if line else None
    except EOFError:
        return None
    except KeyboardInterrupt:
        click.echo("", err=True)
        return None
