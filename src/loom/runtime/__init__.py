"""Door: runs and sessions."""

from typing import TYPE_CHECKING

from .._door import hand_on

if TYPE_CHECKING:
    from ..policies.governance import GovernancePolicy
    from ..policies.restore import SessionRestorePolicy
    from ..signals import RuntimeSignal, RuntimeTask, SignalAdapter
    from ..store.base import RunRecord, SessionRecord, SessionStore, TranscriptRecord
    from ..store.file import FileSessionStore
    from ..store.memory import InMemorySessionStore
    from ..store.sqlite import SqliteSessionStore
    from ..tools.base import RunContext
    from ..types import Artifact, RunState
    from .grounds import SessionConfig
    from .result import RunResult
    from .run import Run
    from .session import Session
    from .stream import Stream

__all__ = [
    "Artifact",
    "FileSessionStore",
    "GovernancePolicy",
    "InMemorySessionStore",
    "Run",
    "RunContext",
    "RunRecord",
    "RunResult",
    "RunState",
    "RuntimeSignal",
    "RuntimeTask",
    "Session",
    "SessionConfig",
    "SessionRecord",
    "SessionRestorePolicy",
    "SessionStore",
    "SignalAdapter",
    "SqliteSessionStore",
    "Stream",
    "TranscriptRecord",
]

__getattr__ = hand_on(
    __name__,
    {
        "Artifact": "..types",
        "FileSessionStore": "..store.file",
        "GovernancePolicy": "..policies.governance",
        "InMemorySessionStore": "..store.memory",
        "Run": ".run",
        "RunContext": "..tools.base",
        "RunRecord": "..store.base",
        "RunResult": ".result",
        "RunState": "..types",
        "RuntimeSignal": "..signals",
        "RuntimeTask": "..signals",
        "Session": ".session",
        "SessionConfig": ".grounds",
        "SessionRecord": "..store.base",
        "SessionRestorePolicy": "..policies.restore",
        "SessionStore": "..store.base",
        "SignalAdapter": "..signals",
        "SqliteSessionStore": "..store.sqlite",
        "Stream": ".stream",
        "TranscriptRecord": "..store.base",
    },
)
