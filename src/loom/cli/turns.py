"""One turn: a run started or resumed, shown, kept, and told how to go on with when it waits."""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from ..agent import Agent
from ..errors import ConfigError, SessionBusy
from ..requests import Answer
from ..runtime.result import RunResult
from ..runtime.session import Session
from ..safety.display import visible
from ..signals import TaskInput
from ..store.base import SessionStore
from ..types import RunState
from .asking import choose_human
from .display import Display, JsonDisplay, PeopleDisplay
from .driving import follow
from .options import DEFAULT_STORE
from .settings import AgentSettings
from .stores import forget_settings, keep_settings, make_folder
from .text import printable

_RESUME_ATTEMPTS = 4
"""Each waits ten seconds for the session; a process that died holds it for thirty."""


class Desk:
    """An agent of the command line at work: its settings, its display, and the store it keeps sessions in."""

    def __init__(
        self, agent: Agent[str, Any], settings: AgentSettings, display: Display, store_path: Path | None
    ) -> None:
        self.agent = agent
        self.settings = settings
        self.display = display
        self.store_path = store_path

    @property
    def store(self) -> SessionStore | None:
        """Where sessions are kept; None when this turn is not kept."""
        return self.agent.session_store

    async def start(self, session: Session[str, Any], task: TaskInput) -> RunResult[str]:
        """Run a task to its end, or until it waits."""
        if self.store_path is not None:
            make_folder(self.store_path)
        run = session.start(task)
        if self.store is not None:
            # Before the run's first event: the task has not had its turn yet.
            keep_settings(self.store, session.id, run.id, self.settings)
        return self._settled(await follow(run, self.display))

    async def resume(
        self, session: Session[str, Any], run_id: str, answers: Sequence[Answer] = ()
    ) -> RunResult[str]:
        """Go on with an unfinished run of a kept session."""
        assert self.store is not None
        keep_settings(self.store, session.id, run_id, self.settings)
        head = await self.store.head(session.id)
        self.display.recall(await self.store.read(session.id, run_id=run_id))
        attempts_left = _RESUME_ATTEMPTS
        while True:
            attempts_left -= 1
            try:
                run = session.resume(run_id, answers)
                return self._settled(await follow(run, self.display, after=head))
            except SessionBusy as error:
                if not attempts_left:
                    raise
                click.echo(f"{printable(str(error))}; waiting, in case that process has died", err=True)

    def _settled(self, result: RunResult[str]) -> RunResult[str]:
        if self.store is not None and result.state.terminal:
            forget_settings(self.store, result.session_id, result.run_id)
        self.display.finish(result)
        if result.state is RunState.WAITING:
            tell_what_it_waits_for(result, self.store_path)
        return result


@asynccontextmanager
async def open_desk(
    settings: AgentSettings,
    *,
    store: SessionStore | None,
    store_path: Path | None,
    display: Display,
    approve_all: bool = False,
    deny_all: bool = False,
) -> AsyncGenerator[Desk]:
    """An agent for the length of the block. Raises ConfigError, AuthenticationError before anything is kept."""
    if approve_all and deny_all:
        raise ConfigError("--yes and --no contradict each other")
    settings, model = settings.chosen()
    human = choose_human(approve_all=approve_all, deny_all=deny_all, before=display.pause)
    agent = settings.declare(model, human=human, store=store)
    try:
        for option, row in settings.rules_of(agent):
            if row.level == "warning":
                click.echo(f"{printable(option)}: {printable(row.problem)}", err=True)
        _ = agent.engine  # put together now, so that what is wrong with it is told before a run begins
        yield Desk(agent, settings, display, store_path)
    finally:
        await agent.aclose()


def make_display(*, json: bool, quiet: bool = False) -> Display:
    """What the options want to see."""
    return JsonDisplay() if json else PeopleDisplay(quiet=quiet)


def tell_what_it_waits_for(result: RunResult[str], store_path: Path | None) -> None:
    """Name the open requests on standard error, and the command that answers them."""
    for request in result.pending:
        click.echo(f"  {request.id}  {visible(request.prompt)}", err=True)
        for choice in request.choices:
            click.echo(f"      - {visible(choice)}", err=True)
    if store_path is None:
        click.echo(
            "Nobody could answer here, and this run is not kept: it ends with this process. Run it again with "
            "--session NAME to answer later, or with --yes or --no to decide now.",
            err=True,
        )
        return
    resume = f"loom sessions resume {quoted(result.session_id)}{store_words(store_path)}"
    if any(request.kind == "question" for request in result.pending):
        wanted = next(request.id for request in result.pending if request.kind == "question")
        click.echo(f"To go on: {resume} --answer {wanted}=TEXT", err=True)
    else:
        click.echo(f"To go on: {resume} --approve all    (or --deny all, or one by its id)", err=True)


def store_words(store_path: Path) -> str:
    """The option that names a store, when it is not the usual one."""
    return "" if store_path == DEFAULT_STORE else f" --store {quoted(str(store_path))}"


def quoted(word: str) -> str:
    """A word as a shell, and a terminal, can be given it."""
    return shlex.quote(printable(word))
