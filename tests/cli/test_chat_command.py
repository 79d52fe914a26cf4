"""``loom chat`` on a terminal of its own, and through pipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from loom_command import Service, Terminal, loom_here

from loom.testing.model_server import served
from loom.testing.scripted import call

Serve = Callable[..., Service]
READ = call("Read", file_path="README.md")
CTRL_C, CTRL_D = b"\x03", b"\x04"


def listed(project: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(loom_here("sessions", "list", "--json", cwd=project).stdout)
    return found


def test_turns_remember_each_other_and_approvals_are_asked_in_place(project: Path, serve: Serve) -> None:
    service = serve("Hello to you.", [READ], "It is a sample.")
    with Terminal(["chat", "--ask", "Read"], cwd=project, env=service.env) as terminal:
        terminal.expect("new session chat-")
        terminal.expect("openai:scripted")
        terminal.expect("> ")
        terminal.type("Hello")
        terminal.expect("Hello to you.")
        terminal.expect("> ")
        terminal.type("Look around")
        terminal.expect('Run Read with {"file_path":"README.md"}?')
        terminal.expect("[y/N] > ")
        terminal.type("y")
        terminal.expect("It is a sample.")
        terminal.expect("> ")
        terminal.type("/usage")
        terminal.expect("2 turns · 30 in + 15 out tokens · cost unknown")
        terminal.type("/nonsense")
        terminal.expect("there is no /nonsense")
        terminal.type("/sessions")
        terminal.expect("2 runs  Look around")
        terminal.type("/quit")
        terminal.expect("Come back with: loom chat --session chat-")
        assert terminal.wait() == 0
    assert service.said_to_it(1) == ["Hello", "Hello to you.", "Look around"]
    (session,) = listed(project)
    assert (session["runs"], session["state"]) == (2, "completed")


def test_ctrl_c_cancels_the_turn_and_keeps_the_session(project: Path, serve: Serve) -> None:
    service = serve(served("Once upon a time. " * 80, stall_at=1500), "Still here.", "Welcome back.")
    with Terminal(["chat", "--session", "s"], cwd=project, env=service.env) as terminal:
        terminal.expect("> ")
        terminal.type("Tell a story")
        terminal.expect("Once upon")
        terminal.press(CTRL_C)
        terminal.expect("cancelled · ")
        terminal.expect("> ")
        terminal.type("Are you there?")
        terminal.expect("Still here.")
        terminal.expect("> ")
        assert terminal.leave_by(CTRL_C) == 0
    assert "Traceback" not in terminal.text
    assert service.said_to_it(1)[-1] == "Are you there?"

    with Terminal(["chat", "--session", "s"], cwd=project, env=service.env) as terminal:
        terminal.expect("> ")
        terminal.type("And now?")
        terminal.expect("Welcome back.")
        terminal.expect("> ")
        terminal.press(CTRL_D)
        assert terminal.wait() == 0
    assert service.said_to_it(2)[-3:] == ["Are you there?", "Still here.", "And now?"]
    (session,) = listed(project)
    assert (session["runs"], session["last_prompt"]) == (3, "And now?")


def test_ctrl_c_at_a_question_loses_no_later_line(project: Path, serve: Serve) -> None:
    service = serve([READ], "Never mind.")
    with Terminal(["chat", "--ask", "Read"], cwd=project, env=service.env) as terminal:
        terminal.expect("> ")
        terminal.type("Look")
        terminal.expect("[y/N] > ")
        terminal.press(CTRL_C)
        terminal.expect("cancelled · ")
        terminal.expect("> ")
        terminal.type("y")  # an answer that comes too late is a turn like any other
        terminal.expect("Never mind.")
        terminal.expect("> ")
        terminal.press(CTRL_D)
        assert terminal.wait() == 0
    assert service.said_to_it(1)[-1] == "y"
    assert "A small project" not in str(service.server.requests[1].body)


def test_a_run_that_waits_is_offered_first(project: Path, serve: Serve) -> None:
    service = serve([READ], "It is a sample.", "You are welcome.")
    started = loom_here("run", "Look", "--ask", "Read", "--session", "s", cwd=project, env=service.env)
    assert started.returncode == 3
    with Terminal(["chat", "--session", "s"], cwd=project, env=service.env) as terminal:
        terminal.expect("A run of this session waits for an answer: Look")
        terminal.expect("Go on with it? [Y/n] ")
        terminal.type("")
        terminal.expect('Run Read with {"file_path":"README.md"}?')
        terminal.expect("[y/N] > ")
        terminal.type("y")
        terminal.expect("Read file_path=README.md  ok")
        terminal.expect("It is a sample.")
        terminal.expect("> ")
        terminal.type("Thanks")
        terminal.expect("You are welcome.")
        terminal.expect("> ")
        terminal.press(CTRL_D)
        assert terminal.wait() == 0
    assert service.said_to_it(2)[-2:] == ["It is a sample.", "Thanks"]
    (session,) = listed(project)
    assert (session["runs"], session["state"]) == (2, "completed")


def test_a_run_that_waits_may_be_left_alone(project: Path, serve: Serve) -> None:
    service = serve([READ], "Hello.")
    loom_here("run", "Look", "--ask", "Read", "--session", "s", cwd=project, env=service.env)
    with Terminal(["chat", "--session", "s"], cwd=project, env=service.env) as terminal:
        terminal.expect("Go on with it? [Y/n] ")
        terminal.type("n")
        terminal.expect("> ")
        terminal.type("Hi")
        terminal.expect("Hello.")
        terminal.expect("> ")
        terminal.type("/quit")
        assert terminal.wait() == 0
    assert loom_here("sessions", "show", "s", cwd=project).stdout.count("approved") == 0


def test_lines_of_a_pipe_are_turns(project: Path, serve: Serve) -> None:
    service = serve("One.", "Two.")
    words = ("chat", "--session", "s")
    done = loom_here(*words, cwd=project, env=service.env, stdin="first\n\nsecond\n/help\n")
    assert (done.returncode, done.stdout) == (0, "One.\nTwo.\n")
    assert "/usage" in done.stderr
    assert service.said_to_it(1) == ["first", "One.", "second"]


def test_in_a_pipe_nobody_can_be_asked(project: Path, serve: Serve) -> None:
    service = serve([READ])
    words = ("chat", "--session", "s", "--ask", "Read")
    done = loom_here(*words, cwd=project, env=service.env, stdin="look\n")
    assert (done.returncode, done.stdout) == (3, "")
    assert "loom sessions resume s --approve all" in done.stderr
    again = loom_here(*words, cwd=project, env=service.env, stdin="")
    assert again.returncode == 3
    assert "Go on with: loom sessions resume s" in again.stderr


def test_a_model_that_cannot_be_used_is_told_before_the_first_turn(project: Path) -> None:
    done = loom_here("chat", "--model", "openai:gpt-4o", cwd=project, stdin="hello\n")
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr
    assert not (project / ".loom").exists()
