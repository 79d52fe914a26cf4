"""Door: who keeps sessions."""

from typing import TYPE_CHECKING

from .._door import hand_on

if TYPE_CHECKING:
    from .base import RunRecord, SessionRecord, SessionStore, TranscriptRecord
    from .file import FileSessionStore
    from .log import Lease
    from .memory import InMemorySessionStore
    from .sqlite import SqliteSessionStore

__all__ = [
    "FileSessionStore",
    "InMemorySessionStore",
    "Lease",
    "RunRecord",
    "SessionRecord",
    "SessionStore",
    "SqliteSessionStore",
    "TranscriptRecord",
]

__getattr__ = hand_on(
    __name__,
    {
        "FileSessionStore": ".file",
        "InMemorySessionStore": ".memory",
        "Lease": ".log",
        "RunRecord": ".base",
        "SessionRecord": ".base",
        "SessionStore": ".base",
        "SqliteSessionStore": ".sqlite",
        "TranscriptRecord": ".base",
    },
)
