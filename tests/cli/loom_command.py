"""Driving the real command, through pipes and on a terminal of its own, against a scripted model service."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from click.testing import CliRunner

from loom.cli.app import command
from loom.testing.model_server import ModelServer

KEY = "sk-not-a-real-key-0123456789"
COMMAND = [sys.executable, "-W", "error", "-m", "loom.cli"]
PATIENCE = 20.0
# A terminal's owner is decided in the child, after it has a session of its own.
_OWN_TERMINAL = (
    "import fcntl, os, sys, termios; "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
ANSI = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|.)")


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The suite's environment without a trace of the developer's terminal, models or stores."""
    ambient = ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "LOOM_MODEL", "LOOM_STORE", "TERM", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if name not in ambient}
    # Port 9 (discard) is nobody's: `auto` must not find an Ollama that happens to run here.
    return {**kept, "TERM": "xterm-256color", "OLLAMA_BASE_URL": "http://127.0.0.1:9", **(more or {})}


def loom(
    *words: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``loom WORDS`` with pipes on every side."""
    return subprocess.run(
        [*COMMAND, *words],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        env=environment(env),
        timeout=PATIENCE,
        check=False,
    )


def loom_here(
    *words: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The same command within this process, for what does not depend on having one of its own: it starts faster."""
    with contextlib.chdir(cwd):
        ran = CliRunner().invoke(command, words, input=stdin, env=environment(env), prog_name="loom")
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return subprocess.CompletedProcess(words, ran.exit_code, ran.stdout, ran.stderr)


@dataclass(frozen=True, slots=True)
class Service:
    """A scripted model service, and the environment that leads the command to it."""

    server: ModelServer
    env: dict[str, str]

    def said_to_it(self, turn: int) -> list[str]:
        """The texts of the messages of one request, counted from 0."""
        return [str(message.get("content")) for message in self.server.requests[turn].body["messages"]]


class Terminal:
    """``loom WORDS`` on a pseudo-terminal that it controls. ``with Terminal(...) as terminal``."""

    def __init__(self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._words = words
        self._cwd = cwd
        self._env = environment(env)
        self._raw = b""
        self._seen = 0

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _OWN_TERMINAL, *COMMAND, *self._words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=self._cwd,
            env=self._env,
            start_new_session=True,
        )
        os.close(slave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)

    @property
    def raw(self) -> str:
        """Everything that was written to the terminal so far."""
        return self._raw.decode(errors="replace")

    @property
    def text(self) -> str:
        """The same without control sequences."""
        return ANSI.sub("", self.raw).replace("\r", "")

    def expect(self, words: str) -> None:
        """Wait until ``words`` appear after what was last expected."""
        deadline = time.monotonic() + PATIENCE
        while (at := self.text.find(words, self._seen)) < 0:
            if time.monotonic() > deadline or not self._read(deadline):
                raise AssertionError(
                    f"{words!r} did not appear; the terminal shows:\n{self.text[self._seen :]}"
                )
        self._seen = at + len(words)

    def type(self, line: str) -> None:
        """Type a line and press Enter."""
        os.write(self._master, line.encode() + b"\n")

    def press(self, key: bytes) -> None:
        """Press a key: b"\\x03" is Ctrl-C, b"\\x04" is Ctrl-D."""
        os.write(self._master, key)

    def leave_by(self, key: bytes) -> int:
        """Press a key at the prompt until the program ends, and return its exit code.

        More than once only when it falls between the prompt and the wait for keys, where Python's readline
        does not notice a signal before the next key.
        """
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self.press(key)
            while self._read(min(deadline, time.monotonic() + 1.0)):
                pass
        return self.wait()

    def wait(self) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end; the terminal shows:\n{self.text}")
        return self.process.wait(PATIENCE)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # how Linux says that nobody has the terminal open any more
            return False
        self._raw += piece
        return bool(piece)
