"""Who answers a run's requests here: everybody the same, or a person at this terminal."""

from __future__ import annotations

import asyncio
import getpass
import os
import select
import sys
from collections.abc import Callable

from ..hitl.base import Human
from ..hitl.terminal import TerminalHuman
from ..requests import Answer, Request

try:
    import termios
except ImportError:  # a system without POSIX terminals
    termios = None  # type: ignore[assignment]


def user_name() -> str:
    """Who is at this terminal, for the record of an answer."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def is_interactive() -> bool:
    """Whether a person can read a question here and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class SameAnswer:
    """Approves or denies every request, as ``--yes`` and ``--no`` say. A question has no yes: it stays open."""

    def __init__(self, *, approve: bool) -> None:
        self._approve = approve

    async def ask(self, request: Request) -> Answer | None:
        """See Human."""
        if not self._approve:
            return request.deny("--no was given", by=f"{user_name()} (--no)")
        if request.kind == "question":
            return None
        return request.approve(by=f"{user_name()} (--yes)")


class PersonHere:
    """Asks on this terminal. A question can be left at any time; a line typed afterwards answers nothing.

    ``before`` is called first, so that whatever is being shown makes room.
    """

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    async def ask(self, request: Request) -> Answer | None:
        """See Human. Ctrl-D gives no answer."""
        await asyncio.sleep(0)  # let whoever follows the run show what led here
        self._before()
        left, leave = os.pipe()
        terminal = TerminalHuman(read=lambda question: _read_line(question, left), by=user_name())
        try:
            return await terminal.ask(request)
        finally:
            os.close(leave)


def _read_line(question: str, left: int) -> str:
    """Read a line, in a thread. Raises EOFError at the end of input, and when ``left`` says nobody listens."""
    stdin = sys.stdin.fileno()
    try:
        if termios is not None:
            # What was typed before the question was there is not an answer to it.
            termios.tcflush(stdin, termios.TCIFLUSH)
        sys.stderr.write(question)
        sys.stderr.flush()
        ready, _, _ = select.select([stdin, left], [], [])
        line = b"" if left in ready else os.read(stdin, 65536)
    finally:
        os.close(left)
    if not line:
        raise EOFError
    return line.decode(errors="replace")


def choose_human(*, approve_all: bool, deny_all: bool, before: Callable[[], None]) -> Human | None:
    """Who answers: what the options say, else the person here, else nobody (the run then waits)."""
    if approve_all or deny_all:
        return SameAnswer(approve=approve_all)
    return PersonHere(before) if is_interactive() else None
