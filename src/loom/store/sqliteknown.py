"""What one connection to a SQLite database knows without asking, for as long as no other connection writes.

It saves the statements that would read what this connection wrote itself. SQLite keeps the pages that it read for
just as long, so to ask it again would look at the same bytes of memory.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from .base import RunRecord
from .sqlitetally import Tally

MOST_KNOWN: Final = 512
"""Entries of a kind before all are forgotten: a store may have any number of sessions."""


class LeaseRow(Struct, frozen=True, array_like=True):
    """Who holds a session."""

    owner: str
    token: int
    expires_at: float


class RunRow(Struct, frozen=True, array_like=True):
    """A run's row, and the columns it is found by. ``first`` and ``last`` are seqs, 0 while not known."""

    id: str
    session_id: str
    started: int
    unfinished: int
    first: int
    last: int
    body: bytes
    crc: int


class Known:
    """Tallies and leases by session, rows of unfinished runs, the newest token, and whether the main file is armed.

    ``version`` is SQLite's number for what other connections wrote so far.
    """

    __slots__ = ("armed", "leases", "runs", "tallies", "token", "version")

    def __init__(self) -> None:
        self.version = -1
        self.tallies: dict[str, Tally] = {}
        self.leases: dict[str, LeaseRow | None] = {}
        self.runs: dict[str, tuple[RunRow, RunRecord]] = {}
        self.token = 0
        self.armed = False

    def forget(self) -> None:
        """Know nothing: another connection wrote, or what was written here did not last."""
        self.tallies.clear()
        self.leases.clear()
        self.runs.clear()
        self.token = 0
        self.armed = False

    def limit(self) -> None:
        """Forget when it has become much."""
        if max(len(self.tallies), len(self.leases), len(self.runs)) > MOST_KNOWN:
            self.forget()
