"""What works here: versions, keys, models, extras and the session store, looked at and never changed."""

from __future__ import annotations

import os
import platform
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path

from msgspec import Struct

from ..assembly.providers import choose_model
from ..assembly.vendors import VENDORS
from ..config.model import Model
from ..errors import ConfigError, LoomError, StoreError
from ..llm.catalog import find_model
from ..llm.catalog_names import meaning
from ..store.base import SessionStore
from ..store.schema import connect
from .stores import is_lines, open_store

_DISTRIBUTION = "loom-agent"
_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+).*?(?:extra\s*==\s*['\"](?P<extra>[\w-]+)['\"])?\s*$")
_OF_OTHERS = ("all", "dev")
"""Extras that are made of others, or for work on Loom itself: they say nothing about what works here."""
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


class ModelHealth(Struct, frozen=True, kw_only=True):
    """A model this machine is set up for: where it is named, when it ends, and what is to be said of it.

    ``problem`` is empty unless it can no longer be asked.
    """

    named: str
    model: str
    retires: date | None = None
    notice: str = ""
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
    models: Sequence[ModelHealth]
    ollama: str | None
    store: StoreHealth
    problems: Sequence[str]


async def examine(store_path: Path) -> Health:
    """Look at everything. Asks only this machine, and for at most a second whether an Ollama is there."""
    core, extras = requirements()
    store = await examine_store(store_path)
    auto, today = choose_model(), datetime.now(UTC).date()
    models = [examine_model("auto", auto, today), *chosen_models(os.environ, today)]
    problems = [f"{name} is not installed: pip install {name}" for name in core if core[name] is None]
    problems += [model.problem for model in models if model.problem]
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
        auto=auto.identifier,
        models=models,
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
        if found is None or found["extra"] in _OF_OTHERS:
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


def chosen_models(environ: Mapping[str, str], today: date) -> list[ModelHealth]:
    """The model of ``LOOM_MODEL``, if one is named there and it is not one that stands alone."""
    named = environ.get("LOOM_MODEL", "").strip()
    if named in ("", "auto", "offline"):
        return []
    try:
        return [examine_model("LOOM_MODEL", Model.parse(named), today)]
    except ConfigError as error:
        return [ModelHealth(named="LOOM_MODEL", model=named, problem=str(error))]


def examine_model(named: str, model: Model, today: date) -> ModelHealth:
    """When ``model`` ends, as far as that is known, and what asking for it on ``today`` would come to."""
    info = find_model(model.provider, model.name)
    retires = info.retires if info is not None else None
    try:
        notice = meaning(model.provider, model.name, today).notice
    except ConfigError as error:
        return ModelHealth(named=named, model=model.identifier, retires=retires, problem=str(error))
    return ModelHealth(named=named, model=model.identifier, retires=retires, notice=notice)


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
