"""Port: who can be asked while the process lives.

Adapters ask a callback (``CallbackHuman``) or a terminal (``TerminalHuman``). With nobody attached, a run
that needs an answer waits; the answer may come later, from another process.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..requests import Answer, Request

__all__ = ["Answer", "Human", "Request"]


@runtime_checkable
class Human(Protocol):
    """Someone who can be asked. Implementations must not answer for a request they were not given."""

    async def ask(self, request: Request) -> Answer | None:
        """Return the answer, or None when nobody can answer now (the run then waits).

        Cancelling this call cancels the question, never turns it into an answer.
        """
        ...
