"""What works here: versions, keys, models, extras and the session store, looked at and never changed."""

from __future__ import annotations

import os
import platform
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path

from msgspec import Struct

from ..assembly.providers import choose_model
from ..assembly.vendors import VENDORS
from ..errors import LoomError, StoreError
from ..store.base import SessionStore
from ..store.schema import connect
from .stores import is_lines, open_store

_DISTRIBUTION = "loom-agent"
_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+).*?(?:extra\s*==\s*['\"](?P<extra>[\w-]+)['\"])?\s*$")
_EVENTS_AT_ONCE = 1000


class StoreHealth(Struct, frozen=True, kw_only=True):
    """What a look at the store found. ``problem`` is empty when nothing is wrong with it."""

    path: str
    kind: str
    exists: bool
    sessions: int = 0
    events: int = 0
    unfinished_runs: int = 0
    private: bool = True
    problem: str = ""


class Health(Struct, frozen=True, kw_only=True):
    """Everything ``loom doctor`` says. ``keys`` tells for each variable whether it is set, never to what."""

    loom: str
    python: str
    platform: str
    sqlite: str
    dependencies: Mapping[str, str | None]
    extras: Mapping[str, Mapping[str, str | None]]
    keys: Mapping[str, bool]
    addresses: Sequence[str]
    auto: str
    ollama: str | None
    store: StoreHealth
    problems: Sequence[str]


async def examine(store_path: Path) -> Health:
    """Look at everything. Asks only this machine, and for at most a second whether an Ollama is there."""
    core, extras = requirements()
    store = await examine_store(store_path)
    problems = [
        f"{name} is not installed: pip install --force-reinstall {_DISTRIBUTION}"
        for name in core
        if core[name] is None
    ]
    if store.problem:
        problems.append(store.problem)
    return Health(
        loom=metadata.version(_DISTRIBUTION),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        sqlite=_sqlite_version(),
        dependencies=core,
        extras=extras,
        keys={name: bool(os.environ.get(name, "").strip()) for name in _key_names()},
        addresses=[name for name in _address_names() if os.environ.get(name, "").strip()],
        auto=choose_model().identifier,
        ollama=_ollama(),
        store=store,
        problems=problems,
    )


# --- packages, keys, models ---------------------------------------------------------------------------


def requirements() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]]]:
    """The installed versions of what we need always, and by extra; None for what is not installed."""
    core: dict[str, str | None] = {}
    extras: dict[str, dict[str, str | None]] = {}
    for line in metadata.requires(_DISTRIBUTION) or ():
        found = _REQUIREMENT.match(line)
        if found is None:
            continue
        belongs = core if found["extra"] is None else extras.setdefault(found["extra"], {})
        belongs[found["name"]] = _version(found["name"])
    return core, extras


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _sqlite_version() -> str:
    with closing(connect(":memory:", busy_timeout=1.0)) as connection:
        (version,) = connection.execute("SELECT sqlite_version()").fetchone()
        return str(version)


def _key_names() -> list[str]:
    return [name for vendor in VENDORS.values() for name in vendor.key_envs]


def _address_names() -> list[str]:
    # Vendors that are one service over two wires share their variable.
    return list(dict.fromkeys(vendor.base_url_env for vendor in VENDORS.values() if vendor.base_url_env))


def _ollama() -> str | None:
    """The first model of the Ollama that ``auto`` would find without any key; None when there is none."""
    address = os.environ.get("OLLAMA_BASE_URL")
    model = choose_model({"OLLAMA_BASE_URL": address} if address else {})
    return model.name if model.provider == "ollama" else None


# --- the store ----------------------------------------------------------------------------------------


async def examine_store(path: Path) -> StoreHealth:
    """Read the whole store, checking every row on the way, if there is one."""
    kind = "JSON Lines" if is_lines(path) else "SQLite"
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return StoreHealth(path=str(path), kind=kind, exists=False)
    sessions = events = waiting = 0
    problem = ""
    try:
        if kind == "SQLite" and status.st_size:
            _check_pages(path)
        if status.st_size:
            store = open_store(path)
            try:
                sessions, events, waiting = await _read_all(store)
            finally:
                await store.aclose()
    except LoomError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
    return StoreHealth(
        path=str(path),
        kind=kind,
        exists=True,
        sessions=sessions,
        events=events,
        unfinished_runs=waiting,
        private=not stat.S_IMODE(status.st_mode) & 0o077,
        problem=problem,
    )


def _check_pages(path: Path) -> None:
    """SQLite's own check of the file's structure. Raises StoreError."""
    with closing(connect(str(path), busy_timeout=2.0)) as connection:
        connection.execute("PRAGMA query_only = ON")
        try:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except connection.DatabaseError as error:
            raise StoreError(f"{path} is damaged: {error}; restore it") from error
    if said != "ok":
        raise StoreError(f"{path} is damaged: {said}; restore it")


async def _read_all(store: SessionStore) -> tuple[int, int, int]:
    runs = store.list_runs()
    session_ids = {record.id for record in store.list_sessions(children=True)} | {
        run.session_id for run in runs
    }
    events = left = 0
    for session_id in session_ids:
        left += len(await store.unfinished_runs(session_id))
        at = 0
        while batch := await store.read(session_id, after=at, limit=_EVENTS_AT_ONCE):
            events, at = events + len(batch), batch[-1].seq
    return len(session_ids), events, left
