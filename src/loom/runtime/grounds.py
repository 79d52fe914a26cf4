"""What a session is opened with, and what it stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..hitl.base import Human
from ..kernel.engine import Engine
from ..policies.restore import SessionRestorePolicy
from ..safety.declared import mapping, seconds, text
from ..store.base import SessionStore
from ..tools.base import RunContext
from ..types import Limits
from .logbook import BUSY_WAIT
from .result import RunResult

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """Which session, and what is known about it. Without an id it is a new one.

    ``busy_wait`` is how many seconds a run waits for a session in which another process works, or whose stream
    nobody reads, before it raises SessionBusy. ``parent`` is the id of the session it belongs to: it is no entry of
    the list of sessions, and deleted with that. Raises ConfigError for values that cannot work.
    """

    id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    extensions: dict[str, Any] = field(default_factory=dict[str, Any])
    busy_wait: float = BUSY_WAIT
    parent: str | None = None

    def __post_init__(self) -> None:
        if self.id is not None:
            text("the id of a session", self.id)
        if self.parent is not None:
            text("the parent of a session", self.parent)
        mapping("the metadata of a session", self.metadata)
        mapping("the extensions of a session", self.extensions)
        seconds("busy_wait", self.busy_wait)

    def to_metadata(self) -> dict[str, Any]:
        """Metadata and extensions as one dict; extensions win."""
        return {**self.metadata, **self.extensions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What a session stands on: everything it needs of the agent it belongs to, none of it its own.

    ``records`` says that finished runs go to the store's record half, because its log does not last.
    ``concluded`` is told of every result: of a run that has ended, or that waits.
    """

    engine: Callable[[], Engine]
    store: SessionStore
    limits: Limits
    restore: SessionRestorePolicy
    human: Human | None = None
    parse: Callable[[str, RunContext[Any]], Any] | None = None
    context: Callable[[RunContext[Any] | None, Any], RunContext[Any]] | None = None
    records: bool = False
    concluded: Callable[[Session[Any, Any], RunResult[Any]], None] | None = None

    def beside(
        self, store: SessionStore, concluded: Callable[[Session[Any, Any], RunResult[Any]], None]
    ) -> Grounds:
        """The same ground with another store under it, for a session that need not last."""
        return replace(self, store=store, records=False, concluded=concluded)
