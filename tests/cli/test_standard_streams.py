"""Streams that are closed, full or left by their reader, and Ctrl-C while the command is still loading."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from loom_command import COMMAND, PATIENCE, Service, environment

Serve = Callable[..., Service]
READER_GONE = 141
CANCELLED = 130
COMMANDS = [
    ["--help"],
    ["--version"],
    ["models"],
    ["doctor", "--json"],
    ["sessions", "list"],
    ["run", "Summarize this repository", "--model", "offline"],
    ["run", "Summarize this repository", "--model", "offline", "--json"],
    ["chat", "--model", "offline"],
]
CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}


def shell(
    words: Sequence[str], redirections: str, cwd: Path, **options: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *COMMAND, *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "closed"),
    [
        *((COMMANDS[5], how) for how in CLOSED.values()),
        *((COMMANDS[n], CLOSED["all"]) for n in (2, 4, 6)),
        (COMMANDS[7], CLOSED["stdin"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_review_k_closed_streams_are_as_good_as_empty_ones(
    words: list[str], closed: str, project: Path
) -> None:
    done = shell(words, closed, project)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == 0, done.stderr


def test_review_k_a_closed_stream_is_not_given_to_the_next_file(project: Path) -> None:
    """A database opened as descriptor 1 would be written into by whoever prints."""
    words = ["run", "Summarize this repository", "--model", "offline", "--session", "s"]
    done = shell(words, "<&- >&-", project)
    assert done.returncode == 0, done.stderr
    listed = shell(["sessions", "list", "--json"], "", project)
    assert '"state":"completed"' in listed.stdout
    assert shell(["doctor"], "", project).returncode == 0


@pytest.mark.parametrize("words", [COMMANDS[n] for n in (0, 2, 3, 5, 6)], ids=" ".join)
def test_review_k_a_reader_that_leaves_is_told_by_the_exit_code_alone(
    words: list[str], project: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            cwd=project,
            env=environment(),
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(writing)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == READER_GONE, done.stderr


def test_review_k_a_run_nobody_reads_any_more_is_cancelled_and_kept(project: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [*COMMANDS[6], "--session", "s"]
    try:
        done = subprocess.run(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            cwd=project,
            env=environment(),
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (READER_GONE, "")
    assert '"state":"cancelled"' in shell(["sessions", "list", "--json"], "", project).stdout


@pytest.mark.parametrize("words", [["models"], COMMANDS[6]], ids=" ".join)
def test_review_k_a_full_disk_is_an_error_not_a_traceback(words: list[str], project: Path) -> None:
    done = shell(words, ">/dev/full", project)
    assert done.returncode == 1
    assert "error: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


_INTERRUPTED = """
import os, runpy, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
        return None

sys.meta_path.insert(0, Interrupter())
from loom.cli import main
sys.argv = ["loom", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module",
    ["msgspec", "click", "loom.cli.app", "asyncio", "loom.agent"],
)
def test_review_k_ctrl_c_while_it_loads_ends_it_in_silence(module: str, project: Path) -> None:
    words = ["run", "hello", "--model", "openai:gpt-4o"]
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED.format(module=module), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=project,
        env=environment({"OPENAI_API_KEY": "sk-none", "OPENAI_BASE_URL": "http://127.0.0.1:9"}),
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.stderr.strip() == ""
    assert done.returncode == CANCELLED


def test_ctrl_c_during_a_command_without_a_run_ends_it_in_silence(project: Path) -> None:
    """`loom run -` waits for its task."""
    process = subprocess.Popen(
        [*COMMAND, "run", "-", "--model", "offline", "--debug"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=project,
        env=environment(),
    )
    try:
        assert process.stderr is not None
        assert "standard input" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in said
    assert process.returncode == CANCELLED
