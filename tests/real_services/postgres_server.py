"""A PostgreSQL of our own: in a temporary folder, on a local socket, as a user without power, ended by its pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from glob import glob
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

PATIENCE = 30.0


def program(name: str) -> str:
    """Where that program of PostgreSQL is. Skips the test when it is not installed."""
    found = shutil.which(name) or max(glob(f"/usr/lib/postgresql/*/bin/{name}"), default="")
    if not found:
        pytest.skip(f"needs service postgresql: {name} is not installed")
    return found


def powerless() -> dict[str, Any]:
    """The options of ``subprocess`` for a user who may nothing: PostgreSQL refuses root. Empty for other users."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Postgres:
    """A server for the length of a block. ``durable`` makes it wait for the disk, which the chaos tests need."""

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._as = powerless()

    def __enter__(self) -> Self:
        initdb, self._postgres, self._psql = program("initdb"), program("postgres"), program("psql")
        self.folder = Path(tempfile.mkdtemp(prefix="loom-pg-"))
        try:
            if self._as:
                os.chown(self.folder, self._as["user"], self._as["group"])
            self._run(initdb, "--auth", "trust", "--username", "loom", "-N", "-D", self.folder / "data")
            self.start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = ("listen_addresses=", f"fsync={'on' if self._durable else 'off'}")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._postgres, "-D", self.folder / "data", "-k", self.folder, *_options(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._as,
            )
        deadline = time.monotonic() + PATIENCE
        while self._ask("SELECT 1").returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError((self.folder / "log").read_text(errors="replace"))

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: at once but in order (SIGINT), or by a death (SIGKILL)."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def sql(self, statement: str) -> str:
        """Run a statement and return its rows as text. Raises AssertionError with what the server said."""
        done = self._ask(statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _ask(self, statement: str) -> subprocess.CompletedProcess[str]:
        words = ("-X", "-q", "-t", "-A", "-h", self.folder, "-U", "loom", "-d", "postgres", "-c", statement)
        return self._run(self._psql, *words, check=False)

    def _run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=PATIENCE,
            check=check,
            **self._as,
        )


def _options(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("-c", setting)]
