"""A human at the terminal this process runs in."""

from __future__ import annotations

import asyncio
import getpass
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from ..requests import Answer, Request
from ..safety.display import visible

YES = frozenset({"y", "yes"})


class TerminalHuman:
    """Asks on a terminal, one question at a time. Without one (piped input) it cannot answer: the run waits.

    Only ``y`` or ``yes`` approves. What is asked is shown whole, hidden characters as escapes.
    """

    def __init__(
        self, *, read: Callable[[str], str] | None = None, stdin: TextIO | None = None, by: str | None = None
    ) -> None:
        self._read = read
        self._stdin = stdin
        self._by = by
        self._one_at_a_time: asyncio.Lock | None = None

    async def ask(self, request: Request) -> Answer | None:
        """See Human. Leaving (Ctrl-D) gives no answer."""
        stdin = self._stdin or sys.stdin
        if self._read is None and (stdin is None or not stdin.isatty()):
            return None  # closed, or no terminal: a service's
        if self._one_at_a_time is None:
            self._one_at_a_time = asyncio.Lock()
        async with self._one_at_a_time:
            try:
                line = await _in_daemon(lambda: (self._read or input)(_question(request)))
            except EOFError:
                return None
        return self._understood(request, line.strip())

    def _understood(self, request: Request, line: str) -> Answer:
        by = _user() if self._by is None else self._by
        if request.kind == "approval":
            if line.lower() in YES:
                return request.approve(by=by)
            return request.deny("" if line.lower() in ("", "n", "no") else line, by=by)
        if request.choices and line.isdigit() and 1 <= int(line) <= len(request.choices):
            return request.answer(request.choices[int(line) - 1], by=by)
        if request.choices and line not in request.choices:
            return request.deny(f"{line!r} is not among the choices", by=by)
        return request.answer(line, by=by)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""


def _question(request: Request) -> str:
    prompt = visible(request.prompt)
    if request.kind == "approval":
        return f"{prompt}\n[y/N] > "
    choices = "".join(f"\n  {n}. {visible(choice)}" for n, choice in enumerate(request.choices, start=1))
    return f"{prompt}{choices}\n> "


async def _in_daemon(read: Callable[[], str]) -> str:
    """Read without keeping the interpreter from exiting: a thread waiting for a line cannot be stopped."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def settle(result: str | None, error: BaseException | None) -> None:
        if line.done():
            return
        if error is not None:
            line.set_exception(error)
        else:
            line.set_result(result or "")

    def work() -> None:
        try:
            said, error = read(), None
        except BaseException as failure:
            said, error = None, failure
        loop.call_soon_threadsafe(settle, said, error)

    threading.Thread(target=work, name="loom-terminal", daemon=True).start()
    return await line
