"""The session store of the command line: found, made, listed, and what it keeps beside each unfinished run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ..errors import ConfigError, RecordNotFound, StoreError
from ..store.base import RunRecord, SessionRecord, SessionStore
from ..types import RunState
from .options import DEFAULT_STORE
from .settings import AgentSettings

T = TypeVar("T")

_KEPT = "cli"
"""The name under which a session's metadata holds the settings of its unfinished runs, by run id."""


def is_lines(path: Path) -> bool:
    """Whether that file is a JSON Lines store; everything else is SQLite."""
    return path.suffix == ".jsonl"


def open_store(path: Path) -> SessionStore:
    """The store in that file, which is made when something is first kept in it."""
    if is_lines(path):
        from ..store.file import FileSessionStore

        return FileSessionStore(path)
    from ..store.sqlite import SqliteSessionStore

    return SqliteSessionStore(path)


def open_existing(path: Path) -> SessionStore:
    """The store in that file. Raises RecordNotFound when there is none."""
    if not path.exists():
        raise RecordNotFound(
            f"there is no session store at {path}; a session makes one: loom run --session NAME TASK"
        )
    return open_store(path)


def with_store(store: SessionStore, work: Coroutine[Any, Any, T]) -> T:
    """Do the work on a loop of its own and close the store."""

    async def and_close() -> T:
        try:
            return await work
        finally:
            await store.aclose()

    return asyncio.run(and_close())


def make_folder(path: Path) -> None:
    """Our own folder, when the store stands in it: its owner's only, and no part of anybody's repository."""
    folder = path.parent
    if path != DEFAULT_STORE or folder.exists():
        return
    try:
        folder.mkdir(mode=0o700)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except FileExistsError:
        return  # another process was faster
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}; choose another with --store") from error


# --- sessions -----------------------------------------------------------------------------------------


class SessionSummary(Struct, frozen=True, kw_only=True):
    """One session at a glance. ``state`` is ``waiting`` when any run waits, else that of the newest; empty without."""

    id: str
    runs: int
    last_prompt: str
    state: str
    updated: datetime


def summaries(store: SessionStore) -> list[SessionSummary]:
    """All sessions that belong to no other, the one used last first."""
    everything = store.list_sessions(children=True)
    records = {record.id: record for record in everything if record.parent is None}
    children = {record.id for record in everything if record.parent is not None}
    runs: dict[str, list[RunRecord]] = {session_id: [] for session_id in records}
    for run in store.list_runs():
        if run.session_id not in children:
            runs.setdefault(run.session_id, []).append(run)
    found = [_summary(session_id, records.get(session_id), of_it) for session_id, of_it in runs.items()]
    return sorted(found, key=lambda summary: summary.updated, reverse=True)


def _summary(session_id: str, record: SessionRecord | None, runs: list[RunRecord]) -> SessionSummary:
    newest = runs[-1] if runs else None
    waits = any(run.state == RunState.WAITING for run in runs)
    times = [run.updated_at for run in runs] or ([record.updated_at] if record else [])
    return SessionSummary(
        id=session_id,
        runs=len(runs),
        last_prompt=prompt_of(newest) if newest else "",
        state=RunState.WAITING.value if waits else newest.state if newest else "",
        updated=max(time if time.tzinfo else time.replace(tzinfo=UTC) for time in times),
    )


def prompt_of(run: RunRecord) -> str:
    """What a run was asked."""
    return str(run.metadata.get("prompt", ""))


async def require_session(store: SessionStore, session_id: str) -> None:
    """Raise RecordNotFound when the store knows nothing of that session."""
    if store.load_session(session_id) is None and not await store.head(session_id):
        raise RecordNotFound(
            f"there is no session {session_id!r}; `loom sessions list` shows those there are"
        )


# --- the settings of unfinished runs ------------------------------------------------------------------


def keep_settings(store: SessionStore, session_id: str, run_id: str, settings: AgentSettings) -> None:
    """Keep how the run's agent is set up, so that it can be resumed without naming the options again."""
    kept = {**_kept(store, session_id), run_id: msgspec.to_builtins(settings)}
    _write(store, session_id, kept)


def forget_settings(store: SessionStore, session_id: str, run_id: str) -> None:
    """The run has ended: nobody will resume it."""
    kept = _kept(store, session_id)
    if kept.pop(run_id, None) is not None:
        _write(store, session_id, kept)


def kept_settings(store: SessionStore, session_id: str, run_id: str) -> AgentSettings | None:
    """How the run's agent was set up; None when no command line started it."""
    kept = _kept(store, session_id).get(run_id)
    try:
        return None if kept is None else msgspec.convert(kept, AgentSettings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the settings kept for run {run_id} cannot be read: {error}") from error


def _kept(store: SessionStore, session_id: str) -> dict[str, Any]:
    record = store.load_session(session_id)
    try:
        return msgspec.convert(record.metadata.get(_KEPT) if record else {}, dict[str, Any] | None) or {}
    except msgspec.ValidationError as error:
        raise ConfigError(f"what session {session_id!r} keeps for the command line cannot be read") from error


def _write(store: SessionStore, session_id: str, kept: dict[str, Any]) -> None:
    record = store.load_session(session_id) or SessionRecord(session_id)
    record.metadata = {name: value for name, value in record.metadata.items() if name != _KEPT}
    if kept:
        record.metadata[_KEPT] = kept
    record.updated_at = datetime.now(UTC)
    store.save_session(record)


def unfinished(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs that wait, or whose process works or died."""
    return [run for run in runs if run.state in ("queued", "running", "waiting")]
