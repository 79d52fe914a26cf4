"""What is piped into the command reaches the model, whole and readable, and nothing waits for ever for it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from loom_command import COMMAND, PATIENCE, Service, Terminal, environment, loom, loom_here

from loom.cli import piped
from loom.errors import ConfigError
from loom.testing.scripted import ScriptedProvider, call

Serve = Callable[..., Service]
DIFF = "--- a/x.py\n+++ b/x.py\n+ünï = 1\n"


def run(
    *words: str, stdin: bytes | int, cwd: Path, env: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    return subprocess.run(
        [*COMMAND, "run", *words],
        **given,  # type: ignore[call-overload]
        capture_output=True,
        cwd=cwd,
        env=environment(env),
        timeout=PATIENCE,
        check=False,
    )


def asked(service: Service, turn: int = 0) -> str:
    return next(text for text in reversed(service.said_to_it(turn)) if text != "None")


def test_review_g9_what_is_piped_is_part_of_the_task(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    done = run("Review this", stdin=DIFF.encode(), cwd=project, env=service.env)
    assert (done.returncode, done.stdout) == (0, b"Fine.\n"), done.stderr
    assert asked(service).startswith("Review this\n\n")
    assert asked(service).endswith(DIFF)


def test_review_g9_a_file_as_standard_input_is_part_of_the_task(project: Path, serve: Serve) -> None:
    (project / "change.diff").write_text(DIFF, encoding="utf-8")
    service = serve("Fine.")
    with (project / "change.diff").open("rb") as diff:
        done = run("Review this", stdin=diff.fileno(), cwd=project, env=service.env)
    assert done.returncode == 0, done.stderr
    assert asked(service).endswith(DIFF)


def test_review_g9_a_socket_as_standard_input_is_part_of_the_task(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(DIFF.encode())
        ours.shutdown(socket.SHUT_WR)
        done = run("Review this", stdin=theirs.fileno(), cwd=project, env=service.env)
    assert done.returncode == 0, done.stderr
    assert asked(service).endswith(DIFF)


def test_review_g9_it_can_be_left_alone(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    silent, open_end = os.pipe()
    try:
        done = run("Review this", "--no-stdin", stdin=silent, cwd=project, env=service.env)
    finally:
        os.close(open_end)
        os.close(silent)
    assert done.returncode == 0, done.stderr
    assert asked(service) == "Review this"


def test_review_g9_nothing_piped_leaves_the_task_as_it_is(project: Path, serve: Serve) -> None:
    for stdin in (b"", b" \n", subprocess.DEVNULL):
        service = serve("Fine.")
        done = run("Review this", stdin=stdin, cwd=project, env=service.env)
        assert done.returncode == 0, done.stderr
        assert asked(service) == "Review this"


def test_review_g9_a_terminal_is_not_waited_for(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    with Terminal(["run", "Review this"], cwd=project, env=service.env) as terminal:
        assert terminal.wait() == 0
    assert asked(service) == "Review this"


def test_review_g9_a_silent_pipe_is_named_while_it_is_waited_for(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    process = subprocess.Popen(
        [*COMMAND, "run", "Review this"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=project,
        env=environment(service.env),
    )
    try:
        assert process.stderr is not None
        assert "--no-stdin" in process.stderr.readline()
        out, _ = process.communicate(DIFF, timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (0, "Fine.\n")
    assert asked(service).endswith(DIFF)


def test_review_g9_a_pipe_that_stays_silent_is_an_error() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(ConfigError, match=r"silent.*--no-stdin.*--stdin"):
            piped.read(reading, silence=0.01)
        os.write(writing, b"begun, never ended")
        with pytest.raises(ConfigError, match="silent"):
            piped.read(reading, silence=0.01)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    ("task", "content", "complaint"),
    [
        ("-", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"not text"),
        ("Review this", "U+FEFF, then UTF-16".encode("utf-16"), b"not text"),
        ("Review this", bytes(range(128, 256)) * 4, b"not text"),
        ("Review this", b"x" * (piped.MAX_BYTES + 1), b"over 4 MiB"),
    ],
    ids=["png", "utf-16", "noise", "large"],
)
def test_review_g9_what_is_no_text_or_too_much_is_refused(
    task: str, content: bytes, complaint: bytes, project: Path, serve: Serve
) -> None:
    service = serve("Fine.")
    done = run(task, stdin=content, cwd=project, env=service.env)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert service.server.requests == []


def test_review_g9_as_much_as_is_allowed_is_read_whole() -> None:
    assert len(piped.text_of(b"\xef\xbb\xbf" + b"x" * (piped.MAX_BYTES - 3))) == piped.MAX_BYTES - 3


def test_review_g9_a_few_odd_bytes_are_replaced_and_said(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    done = run("Review this", stdin=b"name = 'caf\xe9 noir'\n" * 3, cwd=project, env=service.env)
    assert done.returncode == 0
    assert asked(service).endswith("name = 'caf\ufffd noir'\n")
    assert b"3 places" in done.stderr


def test_review_g9_the_task_itself_can_be_piped_but_not_from_nowhere(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    done = loom("run", "-", cwd=project, env=service.env, stdin="Say fine.\n")
    assert (done.returncode, asked(service)) == (0, "Say fine.\n")
    for words in (["-"], ["-", "--no-stdin"]):
        done = loom("run", *words, cwd=project, env=service.env, stdin="" if len(words) == 1 else "x")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert len(service.server.requests) == 1


# --- the other commands that read ---------------------------------------------------------------------


def test_review_g9_an_answer_to_a_tool_the_command_lacks_is_not_used_up(project: Path, serve: Serve) -> None:
    from loom import Agent, SqliteSessionStore, ToolContext, tool

    @tool(read_only=True)
    async def where(context: ToolContext) -> str:
        """Ask where."""
        return str(await context.ask("Where to?"))

    service = serve("There.")
    store = project / "s.db"

    async def wait() -> str:
        agent = Agent(
            model=ScriptedProvider([call("where")]), tools=[where], session_store=SqliteSessionStore(store)
        )
        result = await agent.session("s").run("Go")
        await agent.aclose()
        assert result.pending, (result.state, result.error, result.messages)
        return result.pending[0].id

    request = asyncio.run(wait())
    words = ["sessions", "resume", "s", "--store", "s.db", "--model", "openai:scripted"]
    done = loom_here(*words, "--answer", f"{request}=-", cwd=project, env=service.env, stdin="staging\n")
    assert "Traceback" not in done.stderr
    # The command's own agent has no such tool: the answer was read, and is not used up.
    assert "no tool 'where'" in done.stderr
    shown = loom_here("sessions", "show", "s", "--store", "s.db", "--events", cwd=project).stdout
    assert "request.answered" not in shown


def test_review_g9_lines_of_a_conversation_that_are_no_text_are_no_traceback(
    project: Path, serve: Serve
) -> None:
    service = serve("Fine.")
    done = subprocess.run(
        [*COMMAND, "chat"],
        input=b"caf\xe9\n",
        capture_output=True,
        cwd=project,
        env=environment(service.env),
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"Fine.\n"), done.stderr
    assert asked(service) == "caf\ufffd"


def test_review_g9_a_line_of_a_conversation_without_an_end_is_refused(project: Path, serve: Serve) -> None:
    service = serve("Fine.")
    done = loom_here("chat", cwd=project, env=service.env, stdin="x" * (piped.MAX_BYTES + 10))
    assert done.returncode == 2
    assert "over 4 MiB" in done.stderr
    assert service.server.requests == []
