"""What the rows of a session must amount to, kept beside them in a ``SqliteSessionStore``.

SQLite notices much damage to its own structure, but a page that lost some of its rows can still be a sound page:
whoever only looks at what is found misses nothing. So every session has one tally, in a tree of its own, changed in
the same transaction as its rows: how many there are of each kind, how far the log goes, and a digest over all of it.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zlib
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from ..errors import StoreCorrupted
from ..events import ChildStarted, decode_event
from .base import SessionRecord
from .records import encode_row

DIGEST_SIZE: Final = 16
_encode = msgspec.msgpack.Encoder().encode


class Tally(Struct, array_like=True):
    """What is known of one session. ``digest`` covers the events after ``base``, where counting began.

    ``base`` is over 0 for a log that an older version wrote: of its events only the number that was found is
    known, not that it was all of them.
    """

    session_id: str
    head: int = 0
    base: int = 0
    digest: bytes = bytes(DIGEST_SIZE)
    listed: int = 0
    runs: int = 0
    unfinished: int = 0
    requests: int = 0
    transcripts: int = 0
    signals: int = 0
    outputs: int = 0
    crc: int = 0

    def sealed(self) -> tuple[object, ...]:
        """The row, with its checksum."""
        self.crc = _crc(self)
        return astuple(self)

    @property
    def intact(self) -> bool:
        """Whether the row is what was written."""
        return self.crc == _crc(self)


def chained(digest: bytes, bodies: Iterable[bytes]) -> bytes:
    """The digest of a log that had ``digest`` and went on with these events."""
    for body in bodies:
        digest = hashlib.blake2b(digest + body, digest_size=DIGEST_SIZE).digest()
    return digest


def token_crc(token: int) -> int:
    """The checksum of the newest token."""
    return zlib.crc32(b"%d" % token)


def _crc(tally: Tally) -> int:
    kept, tally.crc = tally.crc, 0
    sealed = zlib.crc32(_encode(tally))
    tally.crc = kept
    return sealed


def take_stock(connection: sqlite3.Connection) -> None:
    """Count what a database of version 2 holds, and find the parents of its sessions. Call in a transaction."""
    tallies: dict[str, Tally] = {}
    for name, query in _STOCK.items():
        for session_id, count in connection.execute(query):
            setattr(tallies.setdefault(session_id, Tally(session_id)), name, count)
    for tally in tallies.values():
        tally.base = tally.head
    marks = ", ".join("?" * len(Tally.__struct_fields__))
    connection.executemany(f"INSERT INTO tallies VALUES ({marks})", (t.sealed() for t in tallies.values()))
    ((newest,),) = connection.execute("SELECT newest FROM tokens").fetchall()
    connection.execute("UPDATE tokens SET crc = ?", (token_crc(newest),))
    connection.executemany(_SPAN, connection.execute(_SPANS).fetchall())
    _find_parents(connection)


def _find_parents(connection: sqlite3.Connection) -> None:
    """Give the sessions of agents that were called as tools their parents: the log of the parent names them."""
    by_parent: dict[str, set[str]] = {}
    for (name,) in connection.execute("SELECT id FROM sessions"):
        parent, _, mark = name.rpartition("/")
        if _MARK.fullmatch(mark):
            by_parent.setdefault(parent, set()).add(name)
    query = "SELECT body FROM events WHERE session_id = ? AND instr(body, CAST('child.started' AS BLOB))"
    for parent, names in by_parent.items():
        started = (_child(body) for (body,) in connection.execute(query, (parent,)).fetchall())
        for name in names.intersection(started):
            _adopt(connection, name, parent)


def _adopt(connection: sqlite3.Connection, name: str, parent: str) -> None:
    ((body,),) = connection.execute("SELECT body FROM sessions WHERE id = ?", (name,)).fetchall()
    try:
        record = msgspec.json.decode(body, type=SessionRecord)
    except (ValueError, msgspec.DecodeError):
        return  # damaged; whoever asks for it is told
    record.parent = parent
    new = encode_row(record)
    changed = "UPDATE sessions SET parent = ?, body = ?, crc = ? WHERE id = ?"
    connection.execute(changed, (parent, new, zlib.crc32(new), name))


def _child(body: bytes) -> str | None:
    try:
        event = decode_event(body)
    except StoreCorrupted:
        return None
    return event.child_session_id if isinstance(event, ChildStarted) else None


_MARK: Final = re.compile("[0-9a-f]{24}")

_STOCK: Final = {
    "head": "SELECT session_id, max(seq) FROM events GROUP BY session_id",
    "listed": "SELECT id, 1 FROM sessions",
    "runs": "SELECT session_id, count(*) FROM runs GROUP BY session_id",
    "unfinished": "SELECT session_id, count(*) FROM runs WHERE unfinished GROUP BY session_id",
    "requests": "SELECT session_id, count(*) FROM requests GROUP BY session_id",
    "transcripts": "SELECT session_id, count(*) FROM transcripts GROUP BY session_id",
    "signals": "SELECT session_id, count(*) FROM inbox GROUP BY session_id",
    "outputs": "SELECT session_id, count(*) FROM outputs GROUP BY session_id",
}

_SPANS: Final = "SELECT min(seq), max(seq), run_id, session_id FROM events GROUP BY session_id, run_id"
_SPAN: Final = """
UPDATE runs SET first = ?1, last = CASE WHEN unfinished THEN 0 ELSE ?2 END
WHERE id = ?3 AND session_id = ?4 AND started
"""
