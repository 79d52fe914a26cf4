"""What the options of ``loom sessions resume`` mean: which run, which answers, and how its agent is set up."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click
from msgspec import Struct

from ..errors import ConfigError, RecordNotFound
from ..requests import Answer, Request
from ..store.base import SessionStore
from .asking import user_name
from .piped import read_text
from .settings import AgentOptions, AgentSettings
from .stores import kept_settings, unfinished
from .text import printable

ALL = "all"
"""Stands for every open request that has no answer of its own."""

PIPED = "-"
"""Stands for an answer that comes from standard input."""


class Answers(Struct, frozen=True, kw_only=True):
    """The answers as they were given: ids or ``all``, and values by id."""

    approve: Collection[str]
    deny: Collection[str]
    reason: str
    values: dict[str, str]

    @classmethod
    def of_options(
        cls, approve: Sequence[str], deny: Sequence[str], reason: str, answer: Sequence[str]
    ) -> Answers:
        """Read the options. Raises ConfigError for what contradicts itself."""
        named = [text.partition("=") for text in answer]
        for text, (request_id, equals, _) in zip(answer, named, strict=True):
            if not equals or not request_id:
                raise ConfigError(f"--answer {text!r}: it is ID=VALUE")
        if ALL in approve and ALL in deny:
            raise ConfigError("--approve all and --deny all contradict each other")
        ids = [*dict.fromkeys(approve), *dict.fromkeys(deny), *(request_id for request_id, _, _ in named)]
        for request_id in ids:
            if request_id != ALL and ids.count(request_id) > 1:
                raise ConfigError(f"request {request_id!r} is answered twice")
        values = {request_id: value for request_id, _, value in named}
        if piped := [request_id for request_id, value in values.items() if value == PIPED]:
            if len(piped) > 1:
                raise ConfigError("standard input answers one question only")
            values[piped[0]] = read_text(silence=None, note=_note).removesuffix("\n")
        return cls(approve=approve, deny=deny, reason=reason, values=values)

    @property
    def named(self) -> set[str]:
        """The ids of the requests that have an answer of their own."""
        return {*self.approve, *self.deny, *self.values} - {ALL}

    @property
    def to_all(self) -> bool:
        """Whether every open request is meant."""
        return ALL in self.approve or ALL in self.deny

    def to(self, opened: Sequence[Request]) -> list[Answer]:
        """The answers to these open requests. Raises ConfigError when one named is not among them."""
        there = [request.id for request in opened]
        for request_id in sorted(self.named.difference(there)):
            listed = ", ".join(there) or "none"
            raise ConfigError(f"request {request_id!r} is not open here; open: {listed}")
        answers = (self._to_one(request) for request in opened)
        return [answer for answer in answers if answer is not None]

    def _to_one(self, request: Request) -> Answer | None:
        by = user_name()
        if request.id in self.values:
            return request.answer(self.values[request.id], by=by)
        if request.id in self.deny or (ALL in self.deny and request.id not in self.approve):
            return request.deny(self.reason, by=by)
        if request.kind == "question":
            if request.id in self.approve:
                raise ConfigError(f"{request.id} is a question: --answer {request.id}=VALUE")
            return None  # "all" approves what can be approved; a question stays open
        return request.approve(by=by) if request.id in self.approve or ALL in self.approve else None


def chosen_runs(
    store: SessionStore,
    session_id: str,
    run_id: str | None,
    opened: Sequence[Request],
    answers: Answers,
    *,
    to_all: bool = False,
) -> list[str]:
    """The runs that are meant, oldest first: the one named, or those of the requests answered, of which ``all``
    and ``to_all`` are every open one; without answers the newest unfinished run.

    Raises ConfigError for answers to another run than the one named, RecordNotFound when there is nothing to resume.
    """
    left = [run.id for run in unfinished(store.list_runs(session_id))]
    meant = {request.run_id for request in opened if request.id in answers.named}
    if run_id is not None and meant - {run_id}:
        raise ConfigError(f"some of the answers belong to other runs than {run_id}; leave out --run")
    for chosen in {run_id} if run_id is not None else meant:
        if chosen not in left:
            raise RecordNotFound(f"session {session_id!r} has no unfinished run {chosen!r}")
    if not left:
        raise RecordNotFound(f"session {session_id!r} has no unfinished run to resume")
    waiting = {request.run_id for request in opened if request.run_id in left}
    if run_id is not None:
        return [run_id]
    if answers.to_all and not waiting:
        raise RecordNotFound(f"session {session_id!r} has no open request to answer")
    if answers.to_all or (to_all and not meant):
        meant = waiting
    return [run for run in left if run in meant] or left[-1:]


def settings_of(store: SessionStore, session_id: str, run_id: str, given: AgentOptions) -> AgentSettings:
    """How the run's agent was set up, with what is given now in its place.

    Raises ConfigError for a run that a program started, unless a model is given: the rest is then guesswork
    that somebody asked for.
    """
    kept = kept_settings(store, session_id, run_id)
    if kept is not None:
        return kept.changed(given)
    if given.model is None:
        raise ConfigError(
            f"run {run_id} was not started from the command line, so how its agent is set up is not known: "
            "resume it where it was started, or say how with --model, --root and the other options"
        )
    return AgentSettings.of_options(given)


def _note(text: str) -> None:
    click.echo(printable(text), err=True)
